#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A libvirtd that is not there does not keep the service from being mounted: the tree is empty, and
# service/info says why.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

mount_rp "qemu+unix:///system?socket=$T/nobody.sock"
assert_shows connected no "$MNT/service/info"
assert_says "nobody.sock" connection "$MNT/service/info"
assert_equal "" "$(ls "$MNT/vms")" VMs
assert_equal "" "$(ls "$MNT/jobs")" jobs
assert_fails_with "No such file" ls "$MNT/vms/web1"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A map that is not known yet is not there: no walker meets a file of the wrong size.
. "$(dirname "$0")/tree.sh"
mount_fake unmapped=1
held=$MNT/vms/vm1/refpoints/held
mkdir "$held"
assert_equal "vda.img" "$(ls "$held/disks")"
assert_fails_with "No such file" cat "$held/disks/vda.map"
assert_equal 4194816 "$(wc -c <"$held/disks/vda.img")"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An export that takes longer than its Timeout= ends with 32772 and leaves nothing behind.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$mon"
settings "$mon" "ExportDirectory=$T/mon" Bandwidth=1M Timeout=1
export_ends 32772 "$mon"
assert_shows state exception "$mon/job/status"
assert_shows result_name timeout "$mon/job/status"
assert_says Timeout error "$mon/job/status"
[ ! -e "$T/mon" ] || fail "left: $(ls -aR "$T/mon")"
export_point "$mon" "ExportDirectory=$T/mon" Timeout=60
unmount_rp

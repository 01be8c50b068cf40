#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# rmdir of a held reference point ends its hold and removes its bitmap; while its job runs it is
# refused as in use.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 32M 8M


mkdir "$points/mon"
rmdir "$points/mon"
[ ! -e "$points/mon" ] || fail "mon is still there"
assert_shows held "" "$MNT/vms/web1/info"
# The name is free again: its bitmap went, too.
mkdir "$points/mon"
is_held "$points/mon" || fail "the new mon is not held"

settings "$points/mon" "ExportDirectory=$T/mon" Bandwidth=1M
wait_for 10 shows state running "$points/mon/job/status"
assert_fails_with "Device or resource busy" rmdir "$points/mon"
assert_says "32774 " last_refusal "$MNT/vms/web1/info"
assert_fails_with "Device or resource busy" tee "$points/mon/hold" <<<0
assert_shows state running "$points/mon/job/status"
echo 1 >"$points/mon/job/cancel"
export_ends 32768 "$points/mon"
rmdir "$points/mon"
[ ! -e "$points/mon" ] || fail "mon is still there after its job"
unmount_rp

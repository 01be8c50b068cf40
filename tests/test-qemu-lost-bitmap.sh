#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A bitmap that another program removed from one disk's image shows as broken before anybody needs
# it. That disk can then be exported in full beside the other's increment, new points work, and the
# point that lost it can be removed.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 1M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
pid=$(pid_of_guest web1)
hmp web1 quit >/dev/null 2>&1 || true
wait_for 10 process_is_gone "$pid"
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
unmount_rp

qemu-img bitmap --remove "$T/web1-vdb.qcow2" mon
guests_start_again
mount_rp
ready web1
wait_for 10 shows disk.vdb.health broken "$points/mon/info"
assert_shows disk.vda.health ok "$points/mon/info"
guest_write web1 --disk 1 0xbb 9M 1M
mkdir "$points/tue"
assert_shows disk.vda.base mon "$points/tue/info"
assert_shows disk.vdb.base "" "$points/tue/info"

assert_fails_with "State not recoverable" settings "$points/tue" "ExportDirectory=$T/no" \
    BaseReferencePoint=mon
assert_shows result 32775 "$points/tue/job/status"
assert_says "disk 'vdb'" error "$points/tue/job/status"
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon IfBaseLost=full
for disk in vda vdb; do
    assert_same "$T/full/$disk.qcow2" "$T/tue/$disk.qcow2"
done
assert_equal "incremental full" "$(sed -n 's/^mode=//p' "$T/tue/export.ini" | xargs)" "modes"
assert_says "bitmap of reference point 'mon'" why <(sed -n '/disk vdb/,$p' "$T/tue/export.ini")
rmdir "$points/mon"
[ ! -e "$points/mon" ] || fail "mon is still there"
unmount_rp

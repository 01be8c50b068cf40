#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A VM that is shut off is marked and exported, full and as a delta, without being started; and
# what was marked so is a base once it runs.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io qemu-storage-daemon

guest_new web1 --disks 2
mv "$ROOT/etc/qemu/autostart/web1.xml" "$T/autostart"
image=$T/web1-vdb.qcow2
qemu-io -f qcow2 -c "write -q -P 0xaa 8M 4M" "$image"
mount_rp
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
points=$MNT/vms/web1/refpoints

mkdir "$points/mon"
assert_shows disk.vdb.health ok "$points/mon/info"
export_point "$points/mon" "ExportDirectory=$T/mon"
assert_shows exact yes "$points/mon/job/status"
assert_same "$image" "$T/mon/vdb.qcow2"

qemu-io -f qcow2 -c "write -q -P 0xbb 9M 1M" -c "write -q -z 10M 1M" "$image"
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
assert_same "$image" "$T/tue/vdb.qcow2"
grep -qx mode=incremental "$T/tue/export.ini" || fail "tue is not incremental"
[ "$(stat -c %s "$T/tue/vdb.qcow2")" -lt $((3 << 20)) ] || fail "the delta holds what did not change"

# What was written to since is not exact any more.
settings "$points/mon" "ExportDirectory=$T/exact" RequireExact=yes
export_ends 32775 "$points/mon"

# Another point can be removed while the images are being read for a held one, or exported: that is
# no change of the disks, unlike what somebody else writes.
settings "$MNT/vms/web1" "ExportDirectory=$T/held" ReferencePoint=held KeepHold=yes
export_ends 0 "$MNT/vms/web1"
is_held "$points/held" || fail "held is not held"
rmdir "$points/mon"
settings "$points/held" "ExportDirectory=$T/again" KeepHold=yes Bandwidth=4M
wait_for 10 shows state running "$points/held/job/status"
rmdir "$points/tue"
export_ends 0 "$points/held"
qemu-io -f qcow2 -c "write -q -P 0xbd 9M 64k" "$image"
settings "$points/held" "ExportDirectory=$T/harmed" KeepHold=yes
export_ends 32775 "$points/held"
qemu-io -f qcow2 -c "write -q -P 0xbb 9M 64k" "$image"
echo 0 >"$points/held/hold"
qemu-img info "$image" >"$T/info"
! grep -q 'name: mon' "$T/info" || fail "the bitmap stayed"
grep -q 'name: held' "$T/info" || fail "the other bitmap went"
unmount_rp

# Started, the same VM goes on from there.
mv "$T/autostart" "$ROOT/etc/qemu/autostart/web1.xml"
guests_start_again
mount_rp
ready web1
guest_write web1 --disk 1 0xcc 11M 1M
mkdir "$points/wed"
assert_shows disk.vdb.base held "$points/wed/info"
export_point "$points/wed" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/wed" "ExportDirectory=$T/wed" BaseReferencePoint=held
assert_same "$T/full/vdb.qcow2" "$T/wed/vdb.qcow2"
grep -qx "backing=../again/vdb.qcow2" "$T/wed/export.ini" || fail "no backing file"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file system that turns read-only in the middle of an export, as ext4 does after an error: the
# export fails with that sentence, the mount answers, the hold is there for another try, and when
# the file system can be written to again, an export into the same place succeeds.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img mkfs.ext4 findmnt
[ "$(id -u)" = 0 ] || skip "only root can mount"

mkdir "$T/target"
mount_target()
{
    mount -o loop,errors=remount-ro "$T/target.img" "$T/target" 2>/dev/null
}
target_end()
{
    ! mountpoint -q "$T/target" || umount -l "$T/target"
}
truncate -s 256M "$T/target.img"
mkfs.ext4 -q "$T/target.img"
cleanup_fn target_end
mount_target || skip "cannot mount a loop device"
device=$(findmnt -n -o SOURCE "$T/target")
trigger=/sys/fs/ext4/${device##*/}/trigger_fs_error
[ -w "$trigger" ] || skip "this kernel's ext4 cannot be told to fail"

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$mon"
settings "$mon" "ExportDirectory=$T/target/mon" DisksToExport=vdb Bandwidth=2M
wait_for 10 shows state running "$mon/job/status"
echo 1 >"$trigger"
while ! grep -q exception "$mon/job/state"; do
    timeout 1 ls "$MNT/vms" "$mon" "$MNT/jobs" >/dev/null || fail "ls hangs"
    timeout 1 cat "$mon/job/status" >/dev/null || fail "cat hangs"
    ! grep -qE "completed|terminated" "$mon/job/state" || fail "$(cat "$mon/job/status")"
done
export_ends 32768 "$mon"
assert_says "Read-only file system" error "$mon/job/status"
assert_equal 1 "$(cat "$mon/hold")" hold
[ ! -e "$T/target/mon/export.ini" ] || fail "a manifest beside incomplete data"

umount "$T/target"
mount_target || fail "cannot mount it again"
rm -rf "$T/target/mon"
export_point "$mon" "ExportDirectory=$T/target/mon" DisksToExport=vdb
assert_reads 0xaa 8M 8M "$T/target/mon/vdb.qcow2"
unmount_rp

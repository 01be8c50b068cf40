#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file system on a held disk can be mounted by a loop device, while the guest's disk changes.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io losetup mkfs.ext4
[ "$(id -u)" = 0 ] || skip "only root has loop devices"
losetup -f >/dev/null 2>&1 || skip "there are no loop devices"

guest_new web1 --disks 2
mkdir "$T/files" "$T/fs"
echo "as it was" >"$T/files/letter"
head -c 8M /dev/urandom >"$T/files/data"
guest_has_files web1 "$T/files"
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
guest_write web1 --disk 1 0xff 0 64M

loop=$(losetup -r -f --show "$mon/disks/vdb.img")
cleanup_fn eval "losetup -d $loop 2>/dev/null || true"
mount -o ro,noload "$loop" "$T/fs"
cleanup_fn eval "umount -l $T/fs 2>/dev/null || true"
diff -r "$T/files" "$T/fs" -x lost+found

# The hold can be let go of under it; then there are errors, and everything still ends.
echo 0 >"$mon/hold"
wait_for 10 is_bare "$mon"
assert_fails_with "No such device" dd if="$loop" of=/dev/null bs=1M iflag=direct status=none
umount "$T/fs"
losetup -d "$loop"
unmount_rp

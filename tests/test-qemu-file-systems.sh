#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Exports go to file systems with direct I/O and without, in memory and in user space: what each of
# them can do is found out, and the files are the same.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img fuse2fs mkfs.ext4 fusermount3 python3

# has_direct FOLDER: true where a file can be open for direct I/O.
has_direct()
{
    python3 -c '
import os, sys
os.close(os.open(sys.argv[1] + "/probe", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600))' "$1" \
        2>/dev/null
}

end_fuse()
{
    ! mountpoint -q "$T/fuse" || fusermount3 -u -z "$T/fuse"
}

mkdir "$T/fuse" "$T/ram"
truncate -s 256M "$T/fuse.img"
mkfs.ext4 -q "$T/fuse.img"
cleanup_fn end_fuse
fuse2fs -o fakeroot "$T/fuse.img" "$T/fuse" 2>/dev/null || skip "fuse2fs cannot mount here"
shm=$(mktemp -d /dev/shm/rp.XXXXXX)
cleanup_fn rm -rf "$shm"
targets=("$T/fuse" "$shm")
# The plainest one, which has no direct I/O; only root can have it.
if [ "$(id -u)" = 0 ] && mount -t ramfs ramfs "$T/ram" 2>/dev/null; then
    cleanup_fn umount "$T/ram"
    ! has_direct "$T/ram" || fail "ramfs has direct I/O: it proves nothing any more"
    targets+=("$T/ram")
fi

guest_new web1
mount_rp
ready web1
point=$MNT/vms/web1/refpoints/mon
guest_write web1 0x11 32M 5M
mkdir "$point"
export_point "$point" "ExportDirectory=$T/disk" KeepHold=yes
for folder in "${targets[@]}"; do
    export_point "$point" "ExportDirectory=$folder/plain" KeepHold=yes
    export_point "$point" "ExportDirectory=$folder/zstd" Compression=zstd KeepHold=yes
    export_point "$point" "ExportDirectory=$folder/raw" Format=raw KeepHold=yes
    cmp "$T/disk/vda.qcow2" "$folder/plain/vda.qcow2" || fail "$folder changes the file"
    assert_same "$T/disk/vda.qcow2" "$folder/zstd/vda.qcow2"
    assert_same "$T/disk/vda.qcow2" "$folder/raw/vda.raw"
    for kind in plain zstd raw; do
        (cd "$folder/$kind" && sha256sum --quiet -c SHA256SUMS) || fail "$folder: checksum of $kind"
    done
    rm -r "${folder:?}"/{plain,zstd,raw}
done
unmount_rp

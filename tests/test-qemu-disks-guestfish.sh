#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# guestfish reads the files on a held disk, as they were, while the guest's disk changes.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io guestfish mkfs.ext4
# Without acceleration it boots its kernel as well, in twenty seconds; some machines' /dev/kvm hangs.
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg LIBGUESTFS_CACHEDIR=$T
timeout 120 guestfish --ro -a /dev/null run >"$T/output" 2>&1 ||
    skip "guestfish does not start here: $(tail -n 1 "$T/output")"

guest_new web1 --disks 2
mkdir "$T/files"
echo "as it was" >"$T/files/letter"
head -c 8M /dev/urandom >"$T/files/data"
guest_has_files web1 "$T/files"
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
guest_write web1 --disk 1 0xff 0 64M
guestfish --ro --format=raw -a "$mon/disks/vdb.img" run : mount-ro /dev/sda / : cat /letter : \
    checksum sha256 /data >"$T/output"
assert_equal "as it was" "$(sed -n 1p "$T/output")" "the file"
assert_equal "$(sha256sum <"$T/files/data" | cut -d' ' -f1)" "$(tail -n 1 "$T/output")" "the data"
rmdir "$mon"
unmount_rp

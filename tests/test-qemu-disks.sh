#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every program reads the held disk as the export has it: dd, cp, qemu-img, checksums, mmap; with
# its holes, and whatever else reads it and writes to the disk meanwhile.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1 --disks 2 --size 65M
mount_rp
ready web1
guest_write web1 --disk 1 0x11 1M 1M
guest_write web1 --disk 1 0x22 60M 5M
mon=$MNT/vms/web1/refpoints/mon
assert_fails_with "No such file" ls "$mon/disks"
mkdir "$mon"
image=$mon/disks/vda.img
assert_equal "vda.img vda.map vdb.img vdb.map" "$(cd "$mon/disks" && echo *)"
assert_equal 68157440 "$(stat -c %s "$image")" "size"
assert_equal $((6 * 2048)) "$(stat -c %b "$mon/disks/vdb.img")" "blocks of what has data"

# The guest writes hard all the while. Sixteen readers, each from another place, as dd reads.
for ((i = 0; i < 16; i++)); do
    (
        cat <(dd if="$image" bs=64k skip=$((i * 65)) status=none) >"$T/tail.$i"
        cmp -s <(tail -c "+$((i * 65 * 65536 + 1))" "$image") "$T/tail.$i"
    ) &
    readers[i]=$!
done
for ((i = 0; i < 16; i++)); do
    wait "${readers[i]}" || fail "reader $i read something else the second time"
done

dd if="$image" of="$T/direct.raw" bs=1M iflag=direct status=none
counter=$(counter_of "$T/direct.raw")
assert_equal "$counter" "$(counter_of "$image")" "counter"

settings "$mon" "ExportDirectory=$T/raw" Format=raw KeepHold=yes
export_ends 0 "$mon"
for disk in vda vdb; do
    assert_equal "$(sha256sum <"$T/raw/$disk.raw")" "$(sha256sum <"$mon/disks/$disk.img")" "$disk"
    for how in always auto; do
        cp --sparse=$how "$mon/disks/$disk.img" "$T/$disk.$how"
        cmp "$T/raw/$disk.raw" "$T/$disk.$how"
    done
    qemu-img convert -f raw -O qcow2 "$mon/disks/$disk.img" "$T/$disk.qcow2"
    assert_same "$T/$disk.qcow2" "$T/raw/$disk.raw"
    python3 - "$mon/disks/$disk.img" "$T/raw/$disk.raw" <<END
import mmap, sys
files = [open(path, "rb") for path in sys.argv[1:]]
a, b = (mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) for file in files)
assert a[:] == b[:]
END
done
[ "$(stat -c %b "$T/vdb.auto")" -lt $((8 * 2048)) ] || fail "cp copied the holes"
assert_equal "1048576 2097152 62914560 68157440" \
    "$(python3 "$TESTS/seek.py" "$mon/disks/vdb.img" | xargs)" "where vdb has data"
assert_same "$T/raw/vda.raw" "$T/direct.raw"
unmount_rp

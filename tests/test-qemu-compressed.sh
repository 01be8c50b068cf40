#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Compression=zstd gives smaller qcow2 files, full and as a delta, that show the same bytes.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io sha256sum

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 16M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/plain" KeepHold=yes
export_point "$points/mon" "ExportDirectory=$T/mon" Compression=zstd:3
for disk in vda vdb; do
    assert_same "$T/plain/$disk.qcow2" "$T/mon/$disk.qcow2"
done
[ "$(stat -c %s "$T/mon/vdb.qcow2")" -lt $((2 << 20)) ] ||
    fail "16 MiB of one byte were not compressed: $(stat -c %s "$T/mon/vdb.qcow2")"
qemu-img info "$T/mon/vdb.qcow2" >"$T/info"
grep -q 'compression type: zstd' "$T/info" || fail "not zstd: $(cat "$T/info")"

guest_write web1 --disk 1 0xbb 9M 1M
guest_write web1 --disk 1 zero 12M 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" Compression=zstd BaseReferencePoint=mon \
    "BaseExportDirectory=$T/mon"
assert_same "$T/full/vdb.qcow2" "$T/tue/vdb.qcow2"
assert_reads 0xbb 9M 1M "$T/tue/vdb.qcow2"
assert_reads 0 12M 1M "$T/tue/vdb.qcow2"
assert_reads 0xaa 13M 1M "$T/tue/vdb.qcow2"
for point in mon tue; do
    (cd "$T/$point" && sha256sum --quiet -c SHA256SUMS) || fail "$point: checksums differ"
    images_check "$T/$point"
done
assert_fails_with "not supported" settings "$points/tue" "ExportDirectory=$T/x" Format=raw \
    Compression=zstd
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A disk of 8 TiB is exported in full, as a delta and compressed for what it holds, not for its size:
# the files are small, and the service never takes 64 MiB more than before.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io python3

# memory KEY: of the service, in KiB.
memory()
{
    sed -n "s/^$1:[^0-9]*\([0-9]*\) kB/\1/p" "/proc/$mount_pid/status"
}

guest_new web1 --size 8T
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
idle=$(memory VmRSS)
echo 5 >"/proc/$mount_pid/clear_refs"

# Pieces all over the disk, to its end.
for tib in 1 3 7; do
    guest_write web1 0x1$tib ${tib}T 1M
done
guest_write web1 0x17 $((8 * 1024 * 1024 - 64))M 64M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon" KeepHold=yes
export_point "$points/mon" "ExportDirectory=$T/zstd" Compression=zstd
for i in $(seq 0 79); do
    guest_write web1 0x21 $((i * 100))G 64k
done
guest_write web1 zero 3T 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
peak=$(memory VmHWM)

for image in mon zstd tue; do
    image=$T/$image/vda.qcow2
    assert_reads 0x11 1T 1M "$image"
    assert_reads 0x17 $((8 * 1024 * 1024 - 64))M 64M "$image"
    assert_reads 0 6T 1M "$image"
done
assert_reads 0x13 3T 1M "$T/mon/vda.qcow2"
assert_reads 0x21 7900G 64k "$T/tue/vda.qcow2"
assert_reads 0 3T 1M "$T/tue/vda.qcow2"

# Of the delta half are tables, one for each piece.
for image in mon:110 zstd:40 tue:60; do
    size=$(stat -c %s "$T/${image%:*}/vda.qcow2")
    [ "$size" -lt $((${image#*:} << 20)) ] || fail "${image%:*} has $size bytes"
done
# A sanitizer has memory of its own. (Not grep -q: ldd would not survive its end.)
ldd "$(built refpointfs)" | grep 'lib[at]san' >/dev/null ||
    [ $((peak - idle)) -lt $((64 << 10)) ] || fail "at its peak $peak KiB, idle $idle KiB"
unmount_rp

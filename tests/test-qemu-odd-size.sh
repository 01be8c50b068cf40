#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A virtual size that is no multiple of the cluster is kept to the byte, with the data at its end.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

# 40 MiB and 23 sectors.
size=$((40 * 1024 * 1024 + 23 * 512))
tail=$((size - 512))
guest_new web1 --size $size
mount_rp
ready web1
points=$MNT/vms/web1/refpoints

virtual_size()
{
    qemu-img info --output=json "$1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["virtual-size"])'
}

guest_write web1 0x77 $tail 512
mkdir "$points/mon"
guest_write web1 0x78 $tail 512
export_point "$points/mon" "ExportDirectory=$T/mon" KeepHold=yes
export_point "$points/mon" "ExportDirectory=$T/raw" Format=raw
assert_equal $size "$(virtual_size "$T/mon/vda.qcow2")" "virtual size"
assert_equal $size "$(stat -c %s "$T/raw/vda.raw")" "size of the raw file"
assert_reads 0x77 $tail 512 "$T/mon/vda.qcow2"
assert_same "$T/mon/vda.qcow2" "$T/raw/vda.raw"

mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
assert_equal $size "$(virtual_size "$T/tue/vda.qcow2")" "virtual size of the increment"
assert_reads 0x78 $tail 512 "$T/tue/vda.qcow2"
counter_of "$T/tue/vda.qcow2" >/dev/null
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Zeros that the guest wrote as data, and QEMU made a discard of (detect_zeroes=unmap), hide the
# base's old data in an increment, and cost it no space.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1 --disks 2
sed -i "s|<driver name='qemu' type='qcow2'|& discard='unmap' detect_zeroes='unmap'|" \
    "$ROOT/etc/qemu/web1.xml"
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 32M 8M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
assert_reads 0xaa 32M 8M "$T/mon/vdb.qcow2"

guest_write web1 --disk 1 0 33M 2M
# Not whole clusters: the rest keeps its data.
guest_write web1 --disk 1 0 36900k 100k
qemu-img map -U --output=json "$T/web1-vdb.qcow2" >"$T/map"
python3 - "$T/map" <<'END' || fail "QEMU wrote the zeros as data: $(cat "$T/map")"
import json, sys
sys.exit(not any(e["start"] <= 33 << 20 and e["start"] + e["length"] >= 35 << 20 and e["zero"]
                 and not e["data"] for e in json.load(open(sys.argv[1]))))
END
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/full" DisksToExport=vdb KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" DisksToExport=vdb BaseReferencePoint=mon

assert_same "$T/full/vdb.qcow2" "$T/tue/vdb.qcow2"
assert_reads 0 33M 2M "$T/tue/vdb.qcow2"
assert_reads 0xaa 35M 1M "$T/tue/vdb.qcow2"
assert_reads 0 36900k 100k "$T/tue/vdb.qcow2"
assert_reads 0xaa 36864k 36k "$T/tue/vdb.qcow2"
assert_reads 0xaa 37000k 64k "$T/tue/vdb.qcow2"
size=$(stat -c %s "$T/tue/vdb.qcow2")
[ "$size" -lt $((1024 * 1024)) ] || fail "zeros were written as data: $size bytes"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the guest zeroed or discarded reads as zeros in an increment, not as the base's old data.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1
# Without it QEMU ignores what the guest discards.
sed -i "s|<driver name='qemu' type='qcow2'|& discard='unmap'|" "$ROOT/etc/qemu/web1.xml"
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 0xaa 32M 8M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
assert_reads 0xaa 32M 8M "$T/mon/vda.qcow2"

guest_write web1 zero 33M 1M
guest_write web1 discard 35M 1M
# A part of a cluster: the rest of it keeps its data.
guest_write web1 zero 37M 4k
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon

assert_same "$T/full/vda.qcow2" "$T/tue/vda.qcow2"
assert_reads 0 33M 1M "$T/tue/vda.qcow2"
assert_reads 0 35M 1M "$T/tue/vda.qcow2"
assert_reads 0 37M 4k "$T/tue/vda.qcow2"
assert_reads 0xaa $((37 * 1024 + 4))k 60k "$T/tue/vda.qcow2"
assert_reads 0xaa 34M 1M "$T/tue/vda.qcow2"
# Zeros cost no space: the increment is the counter's clusters, the one in part, and tables.
size=$(stat -c %s "$T/tue/vda.qcow2")
[ "$size" -lt $((19 * 1024 * 1024)) ] || fail "zeros were written as data: $size bytes"
unmount_rp

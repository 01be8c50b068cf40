#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A guest with two disks: both are of one instant; DisksToExport= chooses among them.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
assert_shows disks "vda vdb" "$MNT/vms/web1/info"

guest_write web1 --disk 1 0x22 10M 2M
mkdir "$points/mon"
guest_write web1 --disk 1 0x33 10M 2M

export_point "$points/mon" "ExportDirectory=$T/both" KeepHold=yes
counter_of "$T/both/vda.qcow2" >/dev/null
assert_reads 0x22 10M 2M "$T/both/vdb.qcow2"

export_point "$points/mon" "ExportDirectory=$T/one" DisksToExport=vdb KeepHold=yes
[ ! -e "$T/one/vda.qcow2" ] || fail "vda was not asked for"
assert_same "$T/both/vdb.qcow2" "$T/one/vdb.qcow2"

export_point "$points/mon" "ExportDirectory=$T/list" "DisksToExport=vdb, vda"
assert_same "$T/both/vda.qcow2" "$T/list/vda.qcow2"
assert_same "$T/both/vdb.qcow2" "$T/list/vdb.qcow2"

# The next increment of the second disk has only its changes, and hides nothing of the first.
guest_write web1 --disk 1 0x44 20M 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon DisksToExport=vdb \
    "BaseExportDirectory=$T/both"
assert_reads 0x33 10M 2M "$T/tue/vdb.qcow2"
assert_reads 0x44 20M 1M "$T/tue/vdb.qcow2"
unmount_rp

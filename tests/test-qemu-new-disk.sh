#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A disk that the VM got after the base was made does not break the chain: it is held in full, and
# IfBaseLost=full exports it so beside the increments of the others.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
# At first it has only the first disk.
definition=$ROOT/etc/qemu/web1.xml
cp "$definition" "$T/both.xml"
python3 - "$definition" <<'END'
import sys, xml.etree.ElementTree as tree
definition = tree.parse(sys.argv[1])
devices = definition.find("devices")
devices.remove(devices.findall("disk")[1])
definition.write(sys.argv[1])
END
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
pid=$(pid_of_guest web1)
hmp web1 quit >/dev/null 2>&1 || true
wait_for 10 process_is_gone "$pid"
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
unmount_rp

cp "$T/both.xml" "$definition"
guests_start_again
mount_rp
ready web1
guest_write web1 --disk 1 0xdd 1M 1M
mkdir "$points/tue"
assert_shows disk.vda.base mon "$points/tue/info"
assert_shows disk.vdb.base "" "$points/tue/info"
! shows disk.vdb.why_full "" "$points/tue/info" || fail "no reason why vdb is held in full"

assert_fails_with "State not recoverable" settings "$points/tue" "ExportDirectory=$T/no" \
    BaseReferencePoint=mon
assert_says vdb error "$points/tue/job/status"
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/one" DisksToExport=vda BaseReferencePoint=mon \
    "BaseExportDirectory=$T/mon" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon IfBaseLost=full \
    "BaseExportDirectory=$T/mon"
assert_same "$T/full/vda.qcow2" "$T/one/vda.qcow2"
for disk in vda vdb; do
    assert_same "$T/full/$disk.qcow2" "$T/tue/$disk.qcow2"
done
assert_equal "incremental full" "$(sed -n 's/^mode=//p' "$T/tue/export.ini" | xargs)" "modes"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# vms/<vm>/export exports the VM as it is, full or since a base, and makes a reference point of that
# instant where one is named; its job/ is the VM's own.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
vm=$MNT/vms/web1
guest_write web1 --disk 1 0xaa 8M 2M

export_point "$vm" "ExportDirectory=$T/plain" DisksToExport=vdb
assert_shows exact yes "$vm/job/status"
assert_shows reference_point "" "$vm/job/status"
[ -z "$(ls "$vm/refpoints")" ] || fail "a reference point was made: $(ls "$vm/refpoints")"
assert_same "$T/plain/vdb.qcow2" "$T/web1-vdb.qcow2"

export_point "$vm" "ExportDirectory=$T/one" ReferencePoint=one
assert_equal one "$(ls "$vm/refpoints")" "reference points"
is_bare "$vm/refpoints/one" || fail "one is held, though KeepHold was not asked for"
assert_shows last_export "$T/one" "$vm/refpoints/one/info"
counter_of "$T/one/vda.qcow2" >/dev/null || fail "not one instant"

guest_write web1 --disk 1 zero 8M 1M
export_point "$vm" "ExportDirectory=$T/two" ReferencePoint=two BaseReferencePoint=one KeepHold=yes
is_held "$vm/refpoints/two" || fail "KeepHold=yes let go of two"
export_point "$vm/refpoints/two" "ExportDirectory=$T/full"
for disk in vda vdb; do
    assert_same "$T/full/$disk.qcow2" "$T/two/$disk.qcow2"
done
assert_reads 0 8M 1M "$T/two/vdb.qcow2"

# A failure leaves no reference point behind that would be in the way of the next try.
mkdir "$T/full2" && touch "$T/full2/vdb.qcow2"
settings "$vm" "ExportDirectory=$T/full2" ReferencePoint=three
export_ends 32773 "$vm"
[ ! -e "$vm/refpoints/three" ] || fail "the failed export left its reference point"
export_point "$vm" "ExportDirectory=$T/three" ReferencePoint=three
assert_fails_with "Invalid argument" settings "$vm" "ExportDirectory=$T/x" BaseReferencePoint=none
unmount_rp

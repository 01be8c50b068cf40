#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# `create` makes a reference point with a base, disks and time of one's choice; the delta is exact
# for that base, larger for newer ones, and refused for older ones with the sentence that helps.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
vm=$MNT/vms/web1
points=$vm/refpoints
number=0
for name in mon tue wed; do
    number=$((number + 1))
    guest_write web1 --disk 1 "0x1$number" $((7 + number))M 2M
    mkdir "$points/$name"
    export_point "$points/$name" "ExportDirectory=$T/$name"
done
guest_write web1 --disk 1 0x44 20M 2M

printf 'Name=thu\nBaseReferencePoint=../tue\nDisksToExport=vdb\nHold=20\n' >"$vm/create"
wait_for 10 is_held "$points/thu"
assert_shows disks vdb "$points/thu/info"
assert_shows disk.vdb.base tue "$points/thu/info"

assert_fails_with "not recoverable" settings "$points/thu" "ExportDirectory=$T/x" \
    BaseReferencePoint=mon
assert_shows result 32775 "$points/thu/job/status"
assert_says "BaseReferencePoint=tue" last_refusal "$points/thu/job/status"

export_point "$points/thu" "ExportDirectory=$T/full" KeepHold=yes
for base in tue wed; do
    export_point "$points/thu" "ExportDirectory=$T/since-$base" "BaseReferencePoint=$base" \
        KeepHold=yes
    assert_same "$T/full/vdb.qcow2" "$T/since-$base/vdb.qcow2"
    grep -qx mode=incremental "$T/since-$base/export.ini" || fail "since $base: not incremental"
    grep -qx "backing=../$base/vdb.qcow2" "$T/since-$base/export.ini" ||
        fail "since $base: $(grep backing= "$T/since-$base/export.ini")"
done
wait_for 40 is_bare "$points/thu"

# Refused where it is written, and nothing is made.
bad()
{
    printf '%s\n' "$@" >"$vm/create"
}
assert_fails_with "Invalid argument" bad Name=a/b
assert_fails_with "File exists" bad Name=mon
assert_fails_with "Invalid argument" bad Name=fri BaseReferencePoint=none
assert_says "line 2: " last_refusal "$vm/info"
assert_fails_with "Invalid argument" bad Name=fri DisksToExport=vdz
assert_fails_with "Invalid argument" bad Name=fri ExportDirectory=/x
assert_fails_with "Bad message" bad Name=fri Hold=long
assert_equal "mon thu tue wed" "$(ls -m "$points" | tr -d ,)" "reference points"
unmount_rp

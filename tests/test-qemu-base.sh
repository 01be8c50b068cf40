#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# BaseReferencePoint= takes a name, ../name or the path in the mount; an unknown base is an invalid
# parameter, one older than what is held an invalid state.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
for name in mon tue wed; do
    mkdir "$points/$name"
    export_point "$points/$name" "ExportDirectory=$T/$name" KeepHold=yes
    [ $name = wed ] || echo 0 >"$points/$name/hold"
done

number=0
for base in tue ../tue ../tue/ "$points/tue" "$points/tue/"; do
    number=$((number + 1))
    export_point "$points/wed" "ExportDirectory=$T/delta$number" "BaseReferencePoint=$base" \
        KeepHold=yes
    assert_same "$T/wed/vda.qcow2" "$T/delta$number/vda.qcow2"
    grep -qx base=tue "$T/delta$number/export.ini" || fail "$base is not tue in export.ini"
done

for base in thu ../thu ../../tue /tue "$MNT/vms/web2/refpoints/tue" wed ""; do
    assert_fails_with "Invalid argument" settings "$points/wed" "ExportDirectory=$T/no" \
        "BaseReferencePoint=$base"
    assert_shows result 32773 "$points/wed/job/status"
    assert_says "line 2" error "$points/wed/job/status"
done

assert_fails_with "State not recoverable" settings "$points/wed" "ExportDirectory=$T/no" \
    BaseReferencePoint=mon
assert_shows result 32775 "$points/wed/job/status"
assert_says "BaseReferencePoint=tue" error "$points/wed/job/status"
[ ! -e "$T/no" ] || fail "a refused export made its directory"
# IfBaseLost is for bitmaps that are gone, not for a wrong base.
assert_fails_with "State not recoverable" settings "$points/wed" "ExportDirectory=$T/no" \
    BaseReferencePoint=mon IfBaseLost=full

# The base's export elsewhere: said by BaseExportDirectory, which must be that of the base.
mkdir "$T/elsewhere"
mv "$T/tue" "$T/elsewhere/tue"
assert_fails_with "Invalid argument" settings "$points/wed" "ExportDirectory=$T/no" \
    BaseReferencePoint=tue "BaseExportDirectory=$T/missing"
export_point "$points/wed" "ExportDirectory=$T/moved" BaseReferencePoint=tue \
    "BaseExportDirectory=$T/elsewhere/tue" KeepHold=yes
assert_same "$T/wed/vda.qcow2" "$T/moved/vda.qcow2"
settings "$points/wed" "ExportDirectory=$T/wrong" BaseReferencePoint=tue \
    "BaseExportDirectory=$T/mon"
export_ends 32773 "$points/wed"
[ ! -e "$T/wrong" ] || fail "left: $(ls -aR "$T/wrong")"
unmount_rp

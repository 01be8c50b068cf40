#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An increment whose base's export is not known, or not there any more, has no backing file; job and
# manifest say so and what to do, and done so it is whole.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
echo 0 >"$points/mon/hold"
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/alone" BaseReferencePoint=mon KeepHold=yes
assert_says "no backing file, because no export of 'mon' is known" error "$points/tue/job/status"
assert_says "BaseExportDirectory=" error "$points/tue/job/status"
assert_says "no export of 'mon' is known" why "$T/alone/export.ini"
assert_shows backing "" "$T/alone/export.ini"

# It does not take the place of the export that stands.
assert_shows last_export "$T/full" "$points/tue/info"
echo 0 >"$points/tue/hold"
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed" KeepHold=yes
export_point "$points/wed" "ExportDirectory=$T/delta" BaseReferencePoint=tue KeepHold=yes
assert_shows backing ../full/vda.qcow2 "$T/delta/export.ini"

mkdir "$T/elsewhere"
mv "$T/full" "$T/elsewhere/full"
export_point "$points/wed" "ExportDirectory=$T/moved" BaseReferencePoint=tue KeepHold=yes
assert_says "the export of 'tue' is not in '$T/full' any more" error "$points/wed/job/status"
export_point "$points/wed" "ExportDirectory=$T/again" BaseReferencePoint=tue \
    "BaseExportDirectory=$T/elsewhere/full"
assert_shows error "" "$points/wed/job/status"
assert_same "$T/wed/vda.qcow2" "$T/again/vda.qcow2"
unmount_rp

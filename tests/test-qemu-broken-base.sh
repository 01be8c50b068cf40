#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A bitmap that a crash broke shows as broken, keeps neither new reference points nor full exports
# from working, is refused as a base unless IfBaseLost=full, and can be removed.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
wait_for 5 shows disk.vda.health ok "$points/mon/info"
guest_kill web1
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
unmount_rp

guests_start_again
mount_rp
ready web1
wait_for 5 shows disk.vda.health broken "$points/mon/info"
mkdir "$points/tue"
assert_shows disk.vda.base "" "$points/tue/info"
assert_says mon disk.vda.why_full "$points/tue/info"

assert_fails_with "State not recoverable" settings "$points/tue" "ExportDirectory=$T/no" \
    BaseReferencePoint=mon
assert_shows result 32775 "$points/tue/job/status"
assert_says "IfBaseLost=full" error "$points/tue/job/status"
export_point "$points/tue" "ExportDirectory=$T/instead" BaseReferencePoint=mon IfBaseLost=full \
    KeepHold=yes
grep -qx mode=full "$T/instead/export.ini" ||
    fail "the base is broken, but the export is no full one"
export_point "$points/tue" "ExportDirectory=$T/full"
assert_same "$T/full/vda.qcow2" "$T/instead/vda.qcow2"
counter_of "$T/full/vda.qcow2" >/dev/null

# The new point is a good base, with the broken one still there, and without it.
mkdir "$points/wed"
assert_shows disk.vda.base tue "$points/wed/info"
export_point "$points/wed" "ExportDirectory=$T/wed" BaseReferencePoint=tue
rmdir "$points/mon" || fail "rmdir: $(status_value last_refusal "$MNT/vms/web1/info")"
mkdir "$points/thu"
export_point "$points/thu" "ExportDirectory=$T/thu" BaseReferencePoint=wed
counter_of "$T/thu/vda.qcow2" >/dev/null
unmount_rp

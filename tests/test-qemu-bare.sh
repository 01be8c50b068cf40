#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A bare reference point is exported exactly while nothing was written since; afterwards it is the
# moment of the export, which is said everywhere, or refused with RequireExact=yes.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
live=$T/web1-vdb.qcow2
guest_write web1 --disk 1 0xaa 8M 2M
mkdir "$points/mon"
echo 0 >"$points/mon/hold"
is_bare "$points/mon" || fail "mon is held"

# vdb is the test's alone: nobody writes to it.
export_point "$points/mon" "ExportDirectory=$T/same" DisksToExport=vdb
assert_shows exact yes "$points/mon/job/status"
assert_shows error "" "$points/mon/job/status"
grep -qx exact=yes "$T/same/export.ini" || fail "the manifest does not say exact=yes"
assert_equal "$(status_value created "$points/mon/info")" \
    "$(status_value moment "$points/mon/job/status")" moment
assert_same "$T/same/vdb.qcow2" "$live"

guest_write web1 --disk 1 0xbb 9M 2M
export_point "$points/mon" "ExportDirectory=$T/later" DisksToExport=vdb
assert_shows exact no "$points/mon/job/status"
assert_says "written to since" error "$points/mon/job/status"
grep -qx exact=no "$T/later/export.ini" || fail "the manifest does not say exact=no"
assert_reads 0xaa 8M 1M "$T/later/vdb.qcow2"
assert_reads 0xbb 9M 2M "$T/later/vdb.qcow2"

settings "$points/mon" "ExportDirectory=$T/exact" DisksToExport=vdb RequireExact=yes
export_ends 32775 "$points/mon"
assert_says "RequireExact" error "$points/mon/job/status"
[ ! -e "$T/exact" ] || fail "the refused export made its directory"

# The job's hold went with the job, whatever became of it: the VM can be marked again. And the
# chain is sound although its base shows a later moment than the reference point's.
guest_write web1 --disk 1 0xcc 10M 2M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/full" DisksToExport=vdb KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" DisksToExport=vdb BaseReferencePoint=mon
qemu-img info "$T/tue/vdb.qcow2" >"$T/info"
grep -q 'backing file: ../later/vdb.qcow2' "$T/info" || fail "no backing file: $(cat "$T/info")"
assert_same "$T/full/vdb.qcow2" "$T/tue/vdb.qcow2"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A hold that nobody uses ends by itself after hold=SECONDS, but never while it is exported.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp -o hold=1
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
is_held "$points/mon" || fail "mon is not held"
wait_for 10 is_bare "$points/mon"
assert_shows has_associated_data no "$points/mon/info"

# 4 MiB at 2 MiB a second is longer than the hold's second.
guest_write web1 --disk 1 0xaa 32M 4M
mkdir "$points/tue"
settings "$points/tue" "ExportDirectory=$T/tue" DisksToExport=vdb Bandwidth=2M
export_ends 0 "$points/tue"
images_check "$T/tue"
assert_reads 0xaa 32M 4M "$T/tue/vdb.qcow2"
elapsed=$(status_value elapsed "$points/tue/job/status")
[ "$elapsed" -ge 1 ] || fail "the export took $elapsed s: too short to prove anything"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Unmounting leaves a hold for the next mount, which exports its instant; ended jobs and where
# points were exported are remembered. A guest that is gone by then takes its hold along.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
guest_write web1 --disk 1 0xaa 8M 1M
mkdir "$points/tue"
cp "$MNT/jobs/1/status" "$T/status"
unmount_rp
guest_write web1 --disk 1 0xbb 8M 1M

mount_rp
ready web1
wait_for 5 test -d "$points/tue"
is_held "$points/tue" || fail "unmounting ended the hold"
cmp "$T/status" "$MNT/jobs/1/status" || fail "job 1 was: $(cat "$T/status")"
cmp "$T/status" "$points/mon/job/status" || fail "job of mon is: $(cat "$points/mon/job/status")"
assert_shows last_export "$T/mon" "$points/mon/info"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon KeepHold=yes
assert_shows exact yes "$points/tue/job/status"
assert_reads 0xaa 8M 1M "$T/tue/vdb.qcow2"
counter_of "$T/tue/vda.qcow2" >/dev/null

is_held "$points/tue" || fail "KeepHold=yes did not keep it"
unmount_rp
guest_kill web1
mount_rp
wait_for 30 test -d "$points/tue"
wait_for 10 is_bare "$points/tue"
[ -z "$(find "$T/scratch" "$T/run" -type f -o -type s)" ] ||
    fail "left of the hold: $(find "$T/scratch" "$T/run" -type f -o -type s)"
unmount_rp

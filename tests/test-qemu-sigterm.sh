#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# SIGTERM while a job runs ends the service with status 0; the job is cancelled and its files are
# gone, the guest goes on, and its hold waits for the next service.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$points/mon"
settings "$points/mon" "ExportDirectory=$T/mon" Bandwidth=1M
wait_for 10 shows state running "$points/mon/job/status"

kill -TERM "$mount_pid"
rp_ends
mountpoint -q "$MNT" && fail "still mounted"
[ ! -e "$T/mon" ] || fail "left: $(ls -aR "$T/mon")"
counted=$(counter_bound "$T/web1-vda.qcow2")
goes_on()
{
    [ "$(counter_bound "$T/web1-vda.qcow2")" -gt "$counted" ]
}
wait_for 10 goes_on

mount_rp
ready web1
[ -d "$points/mon" ] || fail "the reference point is gone"
assert_shows state terminated "$points/mon/job/status"
assert_shows result 32768 "$points/mon/job/status"
assert_equal 1 "$(cat "$points/mon/hold")" hold
echo 0 >"$points/mon/hold"
[ -z "$(find "$T/scratch" "$T/run" -type f -o -type s)" ] ||
    fail "left of the hold: $(find "$T/scratch" "$T/run" -type f -o -type s)"
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue"
unmount_rp

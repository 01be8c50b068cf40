#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# While a job of the machine runs, no export of it can be opened for writing; that is remembered,
# and the running job is not disturbed.
. "$(dirname "$0")/tree.sh"
mount_fake
other=$MNT/vms/vm1/refpoints/r2

echo ExportDirectory=/x/long/ms-60000 >"$POINT/export"
wait_for 5 state_is running
for writer in $(writers); do
    printf 'ExportDirectory=/x/%s\n' "$writer" >"$T/text"
    assert_fails_with "Device or resource busy" "write_$writer" "$T/text" "$POINT/export"
done
for file in "$other/export" "$MNT/vms/vm1/export"; do
    assert_fails_with "Device or resource busy" write_cat "$T/text" "$file"
done
assert_shows state running "$STATUS"
assert_shows result 4096 "$STATUS"
assert_shows id 1 "$STATUS"
assert_shows export_directory /x/long/ms-60000 "$STATUS"
assert_says "32774 " last_refusal "$STATUS"
assert_says "32774 " last_refusal "$other/job/status"
assert_says "32774 " last_refusal "$MNT/vms/vm1/job/status"
echo 1 >"$POINT/job/cancel"
cat "$POINT/job/wait" >/dev/null
jobs_are /x/long/ms-60000
# Another machine never was in the way.
echo ExportDirectory=/x/other >"$MNT/vms/vm2/refpoints/r1/export"
assert_equal 0 "$(cat "$MNT/vms/vm2/refpoints/r1/job/wait")"
unmount_rp

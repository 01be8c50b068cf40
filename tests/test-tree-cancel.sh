#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Whatever is written to cancel stops the job, but white space; it reads as 1 once that was asked.
. "$(dirname "$0")/tree.sh"
mount_fake
# A job begins with the release of its text, which echo does not wait for.
runs()
{
    [ "$(cat "$job/state" 2>/dev/null)" = running ]
}
for job in "$POINT/job" "$MNT/jobs/2" "$MNT/vms/vm1/job"; do
    export=$POINT/export
    [ "$job" != "$MNT/vms/vm1/job" ] || export=$MNT/vms/vm1/export
    echo ExportDirectory=/x/ms-60000 >"$export"
    wait_for 5 runs
    assert_equal 0 "$(cat "$job/cancel")"
    echo >"$job/cancel"
    assert_equal 0 "$(cat "$job/cancel")" "after white space"
    echo please >"$job/cancel"
    assert_equal 32768 "$(cat "$job/wait")"
    assert_equal terminated "$(cat "$job/state")"
    assert_equal 1 "$(cat "$job/cancel")"
done
# A job begins after its text was closed; a cancel that comes between the two means that job.
for round in {1..20}; do
    echo ExportDirectory=/x/ms-60000 >"$POINT/export"
    echo 1 >"$POINT/job/cancel"
    assert_equal "32768 terminated" "$(cat "$POINT/job/wait" "$POINT/job/state" | xargs)" "round $round"
done
# While the text is open there is nothing to cancel; and it stays what it is.
exec 5>"$POINT/export"
echo ExportDirectory=/x/ms-60000 >&5
assert_fails_with "Device or resource busy" tee "$POINT/job/cancel" <<<1
exec 5>&-
wait_for 5 state_is running
echo 1 >"$POINT/job/cancel"
# Too late is no error.
cat "$POINT/job/wait" >/dev/null
echo 1 >"$POINT/job/cancel"
assert_equal 24 "$(find "$MNT/jobs" -mindepth 1 -maxdepth 1 | wc -l)" "jobs"
unmount_rp

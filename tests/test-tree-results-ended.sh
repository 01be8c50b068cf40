#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Each documented result that a job can end with: in wait, result and status, with name and state.
. "$(dirname "$0")/tree.sh"
mount_fake

check()
{
    assert_equal "$1" "$(cat "$POINT/job/wait")" wait
    assert_equal "$1" "$(cat "$POINT/job/result")" result
    assert_equal "$3" "$(cat "$POINT/job/state")" state
    assert_shows result "$1" "$STATUS"
    assert_shows result_name "$2" "$STATUS"
    assert_shows state "$3" "$STATUS"
    assert_shows job_state "$4" "$STATUS"
    assert_shows last_refusal '' "$STATUS"
}
echo ExportDirectory=/x/ms-60000 >"$POINT/export"
wait_for 5 state_is running
assert_equal 4096 "$(cat "$POINT/job/result")" result
assert_shows result_name job-started "$STATUS"
assert_shows job_state 4 "$STATUS"
echo 1 >"$POINT/job/cancel"
check 32768 failed terminated 8
echo ExportDirectory=/x >"$POINT/export"
check 0 completed completed 7
assert_equal 100 "$(cat "$POINT/job/progress")" progress
assert_equal "" "$(cat "$POINT/job/error")" error
while read -r number name; do
    echo "ExportDirectory=/x/result-$number" >"$POINT/export"
    check "$number" "$name" exception 10
    [ -s "$POINT/job/error" ] || fail "error is empty"
done <<'END'
32768 failed
32769 access-denied
32770 not-supported
32771 status-unknown
32772 timeout
32773 invalid-parameter
32774 in-use
32775 invalid-state
32776 incorrect-data-type
32777 not-available
32778 out-of-memory
END
unmount_rp

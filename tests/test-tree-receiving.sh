#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# From the first text until its file is closed the state is receiving, and nothing of the job before
# shows; `wait` waits for the job to come.
. "$(dirname "$0")/tree.sh"
mount_fake

echo ExportDirectory=/x/before >"$POINT/export"
cat "$POINT/job/wait" >/dev/null
exec 5>"$POINT/export"
assert_shows state completed "$STATUS"
echo Bandwidth=1 >&5
assert_shows state receiving "$STATUS"
assert_shows job_state 0 "$STATUS"
assert_shows id '' "$STATUS"
assert_shows export_directory '' "$STATUS"
assert_equal receiving "$(cat "$POINT/job/state")"
cat "$POINT/job/wait" >"$T/result" 5>&- &
waiter=$!
echo ExportDirectory=/x/now/result-32772 >&5
assert_shows state receiving "$STATUS"
[ ! -s "$T/result" ] || fail "the wait is over: $(cat "$T/result")"
exec 5>&-
wait $waiter
assert_equal 32772 "$(cat "$T/result")"
assert_shows export_directory /x/now/result-32772 "$STATUS"

# Given up again.
exec 5>"$POINT/export"
echo Bandwidth=1 >&5
exec 5>&-
wait_for 5 shows last_refusal "32773 ExportDirectory is missing" "$STATUS"
state_is exception || fail "state $(cat "$POINT/job/state")"
unmount_rp

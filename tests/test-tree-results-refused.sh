#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Each documented result of a refusal: its errno at the program, its number and name in the tree.
. "$(dirname "$0")/tree.sh"
mount_fake

while IFS=: read -r number name text; do
    assert_fails_with "$text" bash -c "echo ExportDirectory=/x/refuse-$number >$POINT/export"
    assert_equal "$number" "$(cat "$POINT/job/result")"
    assert_shows state exception "$STATUS"
    assert_shows job_state 10 "$STATUS"
    assert_shows result "$number" "$STATUS"
    assert_shows result_name "$name" "$STATUS"
    assert_says "line 1: " error "$STATUS"
    assert_says "$number line 1: " last_refusal "$STATUS"
    grep -q "^line 1: " "$POINT/job/error" || fail "error: $(cat "$POINT/job/error")"
    assert_fails_with "$text" cp <(echo "ExportDirectory=/x/late-$number") "$POINT/export"
    assert_says "$number the whole text" last_refusal "$STATUS"
    assert_fails_with "$text" mkdir "$MNT/vms/vm1/refpoints/result-$number"
    assert_says "$number " last_refusal "$MNT/vms/vm1/info"
    grep -q "^$number	$name	" "$MNT/service/results" || fail "$number is not in service/results"
done <<'END'
32768:failed:Input/output error
32769:access-denied:Permission denied
32770:not-supported:Operation not supported
32771:status-unknown:Remote I/O error
32772:timeout:Connection timed out
32773:invalid-parameter:Invalid argument
32774:in-use:Device or resource busy
32775:invalid-state:State not recoverable
32776:incorrect-data-type:Bad message
32777:not-available:Host is down
32778:out-of-memory:Cannot allocate memory
END
[ -z "$(ls "$MNT/jobs")" ] || fail "a job was started"
unmount_rp

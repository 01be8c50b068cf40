#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Progress only ever grows while a job runs, and is 100 only when the export is complete.
. "$(dirname "$0")/tree.sh"
mount_fake
echo ExportDirectory=/x/ms-300 >"$POINT/export"
before=0
between=0
while state=$(cat "$POINT/job/state") && [ "$state" != completed ]; do
    progress=$(cat "$POINT/job/progress")
    [ "$progress" -ge $before ] || fail "from $before to $progress"
    [ "$progress" -lt 100 ] || shows state completed "$STATUS" || fail "100 while $state"
    [ "$progress" -eq $before ] || between=$((between + 1))
    before=$progress
done
[ $between -gt 0 ] || fail "it never moved"
assert_equal 100 "$(cat "$POINT/job/progress")"
echo ExportDirectory=/x/result-32768/ms-1 >"$POINT/export"
cat "$POINT/job/wait" >/dev/null
[ "$(cat "$POINT/job/progress")" -lt 100 ] || fail "a failed export is at 100 %"
unmount_rp

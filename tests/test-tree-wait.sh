#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# All who read `wait`, of the reference point or of the job, get the job's result when it ends, and
# those of a job that ended keep its result while the next one runs.
. "$(dirname "$0")/tree.sh"
mount_fake

# A job begins with the release of what was written, which echo does not wait for; who asks for the
# reference point's job is made to wait by the tree, who asks for a number is not.
echo ExportDirectory=/x/first/result-32772/ms-400 >"$POINT/export"
wait_for 5 test -e "$MNT/jobs/1"
waiters=()
for i in 1 2 3 4; do
    case $i in
    4) file=$MNT/jobs/1/wait ;;
    *) file=$POINT/job/wait ;;
    esac
    cat "$file" >"$T/result$i" &
    waiters+=($!)
done
for i in 1 2 3 4; do
    wait "${waiters[i - 1]}"
    assert_equal 32772 "$(cat "$T/result$i")" "result of waiter $i"
done
state_is exception || fail "the waits ended in state $(cat "$POINT/job/state")"

echo ExportDirectory=/x/second/ms-60000 >"$POINT/export"
assert_equal 32772 "$(cat "$MNT/jobs/1/wait")" "result of the first job"
cat "$POINT/job/wait" >"$T/result" &
waiter=$!
wait_for 5 test -e "$MNT/jobs/2"
echo 1 >"$MNT/jobs/2/cancel"
wait $waiter
assert_equal 32768 "$(cat "$T/result")" "result of the second job"
# A byte at a time, as some readers do; and what is started meanwhile does not change it.
exec 5<"$POINT/job/wait"
assert_equal 32 "$(dd bs=1 count=2 status=none <&5)" "first bytes of the result"
echo ExportDirectory=/x/third/ms-1 >"$POINT/export"
assert_equal 0 "$(cat "$POINT/job/wait")"
assert_equal 768 "$(dd bs=1 status=none <&5)" "the rest of it"
exec 5<&-
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Ctrl-C, TERM and KILL end a wait at once; the job and other waiters go on.
. "$(dirname "$0")/tree.sh"
mount_fake
echo ExportDirectory=/x/ms-60000 >"$POINT/export"
cat "$POINT/job/wait" >"$T/result" &
other=$!
for signal in INT TERM KILL; do
    status=0
    # 124 or 137: it was the signal, and not the second deadline, which is KILL after 3 s for INT.
    SECONDS=0
    timeout -k 3 -s $signal 0.2 cat "$POINT/job/wait" || status=$?
    case $signal:$status in
    KILL:137 | INT:124 | TERM:124) ;;
    *) fail "status $status after $signal" ;;
    esac
    [ $SECONDS -lt 3 ] || fail "$signal took $SECONDS s"
done
state_is running || fail "state $(cat "$POINT/job/state")"
echo 1 >"$POINT/job/cancel"
wait $other
assert_equal 32768 "$(cat "$T/result")"
unmount_rp

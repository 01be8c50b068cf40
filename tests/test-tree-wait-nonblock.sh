#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# With O_NONBLOCK, reading `wait` fails at once while the job runs, and gives the result afterwards.
. "$(dirname "$0")/tree.sh"
mount_fake
echo ExportDirectory=/x/result-32776/ms-60000 >"$POINT/export"
assert_fails_with "Resource temporarily unavailable" \
    timeout 5 dd if="$POINT/job/wait" iflag=nonblock status=none
echo 1 >"$POINT/job/cancel"
assert_equal 32768 "$(cat "$POINT/job/wait")"
assert_equal 32768 "$(dd if="$POINT/job/wait" iflag=nonblock status=none)"
unmount_rp

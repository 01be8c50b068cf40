#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Programs of a group that share one open file each close it, long before the text is whole: the
# text of all of them starts one job.
. "$(dirname "$0")/tree.sh"
mount_fake

# The first closes a text that could not be started yet, and may say so.
{
    /bin/echo Bandwidth=1M
    /bin/echo Timeout=90
    /bin/echo ExportDirectory=/x/late
} >"$POINT/export" 2>/dev/null || true
assert_equal 0 "$(cat "$POINT/job/wait")"
for line in Bandwidth=1048576 Timeout=90 ExportDirectory=/x/late; do
    grep -qx "$line" "$POINT/job/settings" || fail "no $line in: $(cat "$POINT/job/settings")"
done
jobs_are /x/late
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A text of 64 KiB is taken, a longer one is refused as too large, at the program and in the status.
. "$(dirname "$0")/tree.sh"
mount_fake
comment=$(printf '#%.0s' {1..1023})
for ((i = 0; i < 64; i++)); do
    echo "$comment"
done >"$T/full"
assert_equal 65536 "$(stat -c %s "$T/full")"
for writer in cat cp python bash_printf; do
    { cat "$T/full" && echo "# $writer"; } >"$T/text"
    assert_fails_with "File too large" "write_$writer" "$T/text" "$POINT/export"
    assert_says "32773 the text " last_refusal "$STATUS"
    "write_$writer" "$T/full" "$POINT/export"
done
assert_fails_with "File too large" dd if=/dev/zero of="$POINT/export" bs=1 count=1 seek=1M \
    conv=notrunc status=none
{ echo ExportDirectory=/x/full && head -c 65512 "$T/full"; } >"$T/text"
cat "$T/text" >"$POINT/export"
assert_equal 0 "$(cat "$POINT/job/wait")"
jobs_are /x/full
unmount_rp

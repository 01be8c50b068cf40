#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is wrong only with the whole text is an error to each program that looks at close, the
# reason stays readable for the others, and no job starts.
. "$(dirname "$0")/tree.sh"
mount_fake

for writer in $(writers_that_see_close); do
    case $writer in
    bash_heredoc) continue ;; # its last line always ends
    esac
    printf 'Bandwidth=1M\nNonsense_%s=1' "$writer" >"$T/text"
    notices "$writer" "$T/text" "$POINT/export" || fail "$writer did not notice"
    assert_says "32773 line 2: unknown key 'Nonsense_$writer'" last_refusal "$STATUS"
done
printf 'Bandwidth=1M\n' >"$T/text"
for writer in $(writers_that_see_close); do
    notices "$writer" "$T/text" "$POINT/export" || fail "$writer did not notice"
    assert_says "32773 ExportDirectory is missing" last_refusal "$STATUS"
done
is_remembered()
{
    shows last_refusal "32773 line 1: unknown key 'Silent_$1'" "$STATUS"
}
for writer in $(writers); do
    printf 'Silent_%s=1' "$writer" >"$T/text"
    "write_$writer" "$T/text" "$POINT/export" 2>/dev/null || true
    wait_for 5 is_remembered "$writer"
done
echo ExportDirectory=/x/good >"$POINT/export"
cat "$POINT/job/wait" >/dev/null
jobs_are /x/good
unmount_rp

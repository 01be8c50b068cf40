#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A refused line that is complete is an error to each program that writes it, the reason stays
# readable, and no part of the text starts a job, also not what comes behind the line.
. "$(dirname "$0")/tree.sh"
mount_fake

check()
{
    if ! notices "$1" "$T/text" "$POINT/export"; then
        fail "$1 did not notice the refusal of: $(cat "$T/text")"
    fi
    assert_says "32773 line $2: unknown key 'Nonsense_$1'" last_refusal "$STATUS"
}
for writer in $(writers); do
    printf '%s\n' "Nonsense_$writer=1" ExportDirectory=/x/bad >"$T/text"
    check "$writer" 1
    printf '%s\n' "Bandwidth=1M" "Nonsense_$writer=1" ExportDirectory=/x/bad >"$T/text"
    check "$writer" 2
done
# All files are closed by the time that a job of another text has ended.
echo ExportDirectory=/x/good >"$POINT/export"
cat "$POINT/job/wait" >/dev/null
jobs_are /x/good
unmount_rp

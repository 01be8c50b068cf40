#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file that can be written and is removed, or renamed to a backup, is back when it is made again,
# or by itself after a second; the backup reads as it did.
. "$(dirname "$0")/tree.sh"
mount_fake
cd "$POINT"
template=$(cat export)
is_listed()
{
    [[ " $(echo *) " = *" export "* ]]
}
is_back()
{
    [ "$(cat export 2>/dev/null)" = "$template" ] && is_listed
}
rm export
[ ! -e export ] || fail "export is still there"
! is_listed || fail "export is still listed"
assert_fails_with "No such file" rm export
wait_for 2 is_back

rm export
echo ExportDirectory=/x/anew >"$POINT/export"
assert_equal 0 "$(cat job/wait)"
is_back || fail "export is not back"

mv export export~
[ ! -e export ] || fail "export is still there"
assert_equal "$template" "$(cat export~)" "backup"
# Back again, as vim does it when it could not save.
mv export~ export
is_back || fail "export is not back"
[ ! -e export~ ] || fail "the backup is still there"

mv export export~
echo ExportDirectory=/x/behind >"$POINT/export"
assert_equal 0 "$(cat job/wait)"
mv export export~
wait_for 2 is_back
jobs_are /x/anew /x/behind
assert_shows last_refusal '' job/status
rm hold
wait_for 2 test -e hold
assert_equal 0 "$(cat hold)"
cd /
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# While a writer has export open with text in it, the state is receiving; the job starts at close.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
exec 5>"$mon/export"
assert_shows state none "$mon/job/status"
echo "ExportDirectory=$T/mon" >&5
assert_shows state receiving "$mon/job/status"
assert_shows result 4096 "$mon/job/status"
echo "KeepHold=yes" >&5
assert_equal receiving "$(cat "$mon/job/state")" state
assert_equal "" "$(ls "$MNT/jobs")" "jobs"
[ ! -e "$T/mon" ] || fail "the export began before the text was whole"
exec 5>&-
export_ends 0 "$mon"
images_check "$T/mon"
is_held "$mon" || fail "KeepHold=yes, the second line, was not heard"

# Comments alone start nothing, and leave the last job to be seen.
exec 5>"$mon/export"
echo "; ExportDirectory=$T/other" >&5
assert_shows state receiving "$mon/job/status"
exec 5>&-
wait_for 5 shows state completed "$mon/job/status"
cat "$mon/export" >"$T/template"
cat "$T/template" >"$mon/export"
wait_for 5 shows state completed "$mon/job/status"
assert_equal 1 "$(ls "$MNT/jobs")" "jobs"
assert_shows last_refusal "" "$mon/job/status"
unmount_rp

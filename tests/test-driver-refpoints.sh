#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# On a driver without backup jobs, mkdir makes a plain reference point that holds nothing, and rmdir
# destroys it.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

mount_rp test:///default
wait_for 10 test -d "$MNT/vms/test"
points=$MNT/vms/test/refpoints
assert_equal "" "$(ls -A "$points")" "reference points"
assert_shows can_hold no "$MNT/service/info"

before=$(date +%s)
mkdir "$points/mon"
after=$(date +%s)
assert_equal mon "$(ls "$points")" "reference points"
assert_equal 0 "$(cat "$points/mon/hold")" hold
assert_shows has_associated_data no "$points/mon/info"
assert_shows name mon "$points/mon/info"
assert_shows vm test "$points/mon/info"
assert_shows reference_point_type 2 "$points/mon/info"
assert_shows parent "" "$points/mon/info"
assert_shows instance_id "$(status_value uuid "$MNT/vms/test/info")/mon" "$points/mon/info"
created=$(date -d "$(status_value created "$points/mon/info")" +%s)
[ "$created" -ge "$before" ] && [ "$created" -le "$after" ] || fail "created at $created"
assert_equal "$created" "$(stat -c %Y "$points/mon")" "mtime of the reference point"
grep -q "<name>mon</name>" "$points/mon/checkpoint.xml" || fail "checkpoint.xml is another's"

mkdir "$points/tue"
assert_shows parent mon "$points/tue/info"
assert_shows refpoints 2 "$MNT/service/info"
assert_fails_with "File exists" mkdir "$points/tue"
assert_equal $'mon\ntue' "$(ls "$points")" "reference points"

# An export is refused with the documented result, since nothing is held.
assert_fails_with "not supported" settings "$points/mon" "ExportDirectory=$T/mon"
assert_shows result 32770 "$points/mon/job/status"

rmdir "$points/mon"
assert_equal tue "$(ls "$points")" "reference points"
assert_fails_with "No such file" cat "$points/mon/info"
assert_fails_with "No such file" rmdir "$points/mon"
assert_shows refpoints 1 "$MNT/service/info"
# The name is free again; and the point is another one.
mkdir "$points/mon"
assert_shows parent tue "$points/mon/info"
rmdir "$points/mon" "$points/tue"
assert_equal "" "$(ls -A "$points")" "reference points"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The export of a machine as it is has the files that a reference point's has, and can make one.
. "$(dirname "$0")/tree.sh"
mount_fake
cd "$MNT/vms/vm1"
printf '%s\n' ExportDirectory=/x/now/ms-60000 ReferencePoint=tue >./export
wait_for 5 shows state running job/status
assert_shows vm vm1 job/status
assert_shows reference_point '' job/status
assert_fails_with "Device or resource busy" cp <(echo ExportDirectory=/x) refpoints/r1/export
[ -d refpoints/tue ] || fail "there is no tue"
echo 1 >job/cancel
assert_equal 32768 "$(cat job/wait)"
grep -qx ReferencePoint=tue job/settings || fail "settings: $(cat job/settings)"
assert_fails_with "Invalid argument" bash -c "echo ReferencePoint=x >refpoints/r1/export"
assert_shows state none refpoints/r2/job/status
echo ExportDirectory=/x/again >./export
assert_equal 0 "$(cat job/wait)"
cd /
jobs_are /x/now/ms-60000 /x/again
unmount_rp

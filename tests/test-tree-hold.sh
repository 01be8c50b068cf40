#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# `hold` reads as 1 while the instant's data is held; 0 lets go of it, 1 changes nothing, anything
# else is refused, and what is gone cannot be held again.
. "$(dirname "$0")/tree.sh"
mount_fake
held=$MNT/vms/vm1/refpoints/held
mkdir "$held"
assert_equal 1 "$(cat "$held/hold")"
assert_shows held held "$MNT/vms/vm1/info"
assert_shows has_associated_data yes "$held/info"
echo 1 >"$held/hold"
for text in 2 x 00 -1 "0 0" yes; do
    assert_fails_with "Invalid argument" bash -c "echo $text >$held/hold"
done
assert_equal 1 "$(cat "$held/hold")"
: >"$held/hold"
assert_equal 1 "$(cat "$held/hold")" "after opening it"

# An export keeps it, as long as it runs; and ends it, when nothing else was asked for.
echo ExportDirectory=/x/ms-60000 >"$held/export"
assert_fails_with "Device or resource busy" bash -c "echo 0 >$held/hold"
echo 1 >"$held/job/cancel"
cat "$held/job/wait" >/dev/null
assert_equal 1 "$(cat "$held/hold")" "after a failed export"
printf '%s\n' ExportDirectory=/x KeepHold=yes >"$held/export"
assert_equal 0 "$(cat "$held/job/wait")"
assert_equal 1 "$(cat "$held/hold")" "after KeepHold"

echo 0 >"$held/hold"
assert_equal 0 "$(cat "$held/hold")"
assert_shows has_associated_data no "$held/info"
echo 0 >"$held/hold"
assert_fails_with "Invalid argument" bash -c "echo 1 >$held/hold"
unmount_rp

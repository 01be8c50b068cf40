#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# 300 reference points of a VM are listed once each, by ls and by find, and can all be removed.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

mount_rp test:///default
wait_for 10 test -d "$MNT/vms/test"
points=$MNT/vms/test/refpoints
(cd "$points" && seq -f "p%03.0f" 1 300 | xargs mkdir)
seq -f "p%03.0f" 1 300 >"$T/expected"
ls "$points" | cmp - "$T/expected" || fail "ls: $(ls "$points" | diff - "$T/expected")"
find "$points" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | cmp - "$T/expected" ||
    fail "find lists something else"
assert_shows refpoints 300 "$MNT/service/info"
assert_shows parent p299 "$points/p300/info"
# Every file of every point can be read.
tar -C "$MNT/vms" -cf - test | tar -tf - | grep -c '/info$' >"$T/count"
assert_equal 301 "$(cat "$T/count")" "info files"

# In an order that is not that of their making.
(cd "$points" && shuf -n 150 "$T/expected" | xargs rmdir)
assert_equal 150 "$(ls "$points" | sort -u | wc -l)" "reference points left"
assert_equal 150 "$(ls "$points" | wc -l)" "reference points left"
rmdir "$points"/*
assert_equal "" "$(ls -A "$points")" "reference points"
unmount_rp

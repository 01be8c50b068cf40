#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# `wait`, the one file that can block, is not listed, but it is found.
. "$(dirname "$0")/tree.sh"
mount_fake
echo ExportDirectory=/x/done >"$POINT/export"
assert_equal 0 "$(cat "$POINT/job/wait")"
[ -z "$(find "$MNT" -name wait)" ] || fail "wait is listed: $(find "$MNT" -name wait)"
for folder in "$POINT/job" "$MNT/vms/vm1/job" "$MNT/jobs/1"; do
    [ -f "$folder/wait" ] || fail "$folder/wait is not found"
    assert_equal 0 "$(stat -c %s "$folder/wait")" "size"
done
unmount_rp

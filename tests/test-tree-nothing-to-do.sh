#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Opening without writing, truncating, comments alone and the template copied back are no errors
# and start nothing.
. "$(dirname "$0")/tree.sh"
mount_fake

for file in "$POINT/export" "$MNT/vms/vm1/export" "$MNT/vms/vm1/create"; do
    touch "$file"
    : >"$file"
    truncate -s 0 "$file"
    exec 5>"$file"
    exec 5>&-
    echo "# nothing" >"$file"
    echo >"$file"
    echo "[export]" >"$file"
    cat "$file" >"$T/template"
    grep -q '^#' "$T/template" || fail "the template has no comments"
    ! grep -v '^#' "$T/template" || fail "the template has more than comments"
    cp "$T/template" "$file"
    cp -a "$T/template" "$file"
    assert_equal "$(cat "$T/template")" "$(cat "$file")" "template"
done
echo ExportDirectory=/x/only >"$POINT/export"
cat "$POINT/job/wait" >/dev/null
jobs_are /x/only
for status in "$STATUS" "$MNT/vms/vm1/job/status" "$MNT/vms/vm1/info"; do
    assert_shows last_refusal '' "$status"
done
assert_equal "r1 r2" "$(cd "$MNT/vms/vm1/refpoints" && echo *)" "reference points"
unmount_rp

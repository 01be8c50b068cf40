#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What programs ask of a file system before they copy: extended attributes are not supported, which
# disturbs nobody, and there is no space to run out of.
. "$(dirname "$0")/tree.sh"
requires python3 rsync
mount_fake
set_attribute()
{
    python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.x", b"1")' "$1"
}
for file in "$POINT/export" "$POINT/info" "$MNT"; do
    assert_fails_with "Operation not supported" set_attribute "$file"
    assert_fails_with "Operation not supported" \
        python3 -c 'import os, sys; os.getxattr(sys.argv[1], "user.x")' "$file"
done
echo ExportDirectory=/x/acl >"$T/text"
set_attribute "$T/text" 2>/dev/null || skip "no extended attributes in $T"
cp -a "$T/text" "$POINT/export"
assert_equal 0 "$(cat "$POINT/job/wait")"
rsync -aX --ignore-times "$MNT/vms/" "$T/copy"
assert_equal "0 0" "$(stat -f -c '%b %a' "$MNT")" "blocks"
jobs_are /x/acl
unmount_rp

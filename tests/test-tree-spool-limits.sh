#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is kept in memory beside `export` has an end: a file at 1 MiB, a user at 4 MiB and 256 names.
# Then control files can still be written, and other folders be read.
. "$(dirname "$0")/tree.sh"
mount_fake
cd "$POINT"
assert_fails_with "File too large" dd if=/dev/zero of=big bs=64K count=17 status=none
assert_equal $((1024 * 1024)) "$(stat -c %s big)" "size"
for i in 2 3 4; do
    dd if=/dev/zero of=big$i bs=64K count=16 status=none
done
assert_fails_with "Disk quota exceeded" dd if=/dev/zero of=more bs=64K count=1 status=none
rm big big2 big3 big4
dd if=/dev/zero of=more bs=64K count=16 status=none
rm more

many()
{
    local i
    for ((i = 1; i <= 257; i++)); do
        : >"$i" || return 1
    done
}
assert_fails_with "Disk quota exceeded" many
[ -e 256 ] && [ ! -e 257 ] || fail "the limit is not 256"
echo ExportDirectory=/x/still >"$POINT/export"
assert_equal 0 "$(cat job/wait)"
jobs_are /x/still
rm {1..256}
touch 1
cd /
unmount_rp

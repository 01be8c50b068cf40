#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A text that is refused when its file is renamed onto `export` leaves both as they were, and the
# refusal in the status; one that is taken is gone.
. "$(dirname "$0")/tree.sh"
requires python3
mount_fake
cd "$POINT"
template=$(cat export)
# mv(1) has its own idea of what "Invalid argument" says.
move()
{
    python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$@"
}
refused()
{
    assert_fails_with "$1" move new export
    [ -e new ] || fail "the file is gone"
    assert_equal "$template" "$(cat export)" "export"
    assert_says "$2" last_refusal job/status
}
printf '%s\n' ExportDirectory=/x/a Foo=1 >new
refused "Invalid argument" "32773 line 2: unknown key 'Foo'"
assert_equal exception "$(cat job/state)"
# What concerns the whole, and the last line though it does not end.
echo ExportDirectory=/x/late-32775 >new
refused "State not recoverable" 32775
printf 'ExportDirectory=/x/a\nFoo=1' >new
refused "Invalid argument" "line 2"
printf 'ExportDirectory=/x/a\n\0' >new
refused "Bad message" 32776
head -c 70000 /dev/zero | tr '\0' '#' >new
refused "File too large" "longer than 65536 bytes"
jobs_are

# Removed first, it is back as soon as the text is refused.
rm export
echo Foo=1 >new
assert_fails_with "Invalid argument" move new export
assert_equal "$template" "$(cat export)" "export"

# Comments and nothing are no error, and no job.
: >new
mv new export
[ ! -e new ] || fail "new is still there"
cp export new
mv new export
jobs_are

echo ExportDirectory=/x/ms-60000 >new
exec 5>>new
mv new export
[ ! -e new ] || fail "new is still there"
# What was written after it, would be lost.
assert_fails_with "Stale file handle" bash -c 'echo more >&5'
exec 5>&-
echo ExportDirectory=/x/busy >new
refused "Device or resource busy" 32774
assert_fails_with "Device or resource busy" cp --remove-destination new export
echo 1 >job/cancel
assert_equal 32768 "$(cat job/wait)"
wait_for 2 test -e export
mv new export
assert_equal 0 "$(cat job/wait)"
jobs_are /x/ms-60000 /x/busy

# A single value can be replaced, too.
mkdir ../held
sed -i s/1/0/ ../held/hold
assert_equal 0 "$(cat ../held/hold)"
assert_fails_with "Invalid argument" sed -i s/0/2/ ../held/hold
cd /
unmount_rp

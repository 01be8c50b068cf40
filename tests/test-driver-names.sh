#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Names that libvirt cannot store are refused as invalid, and the VM's info says why.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

mount_rp test:///default
wait_for 10 test -d "$MNT/vms/test"
points=$MNT/vms/test/refpoints
info=$MNT/vms/test/info
# In a locale of bytes mkdir sends names as they are.
export LC_ALL=C

# refused WORD NAME
refused()
{
    assert_fails_with "Invalid argument" mkdir "$points/$2"
    assert_says "32773 " last_refusal "$info"
    assert_says "$1" last_refusal "$info"
    [ ! -e "$points/$2" ] || fail "'$2' was made"
}
refused letters "two words"
refused "dot" ".hidden"
refused letters "größe"
refused letters "a&b"
refused letters "a<b>"
refused letters "per%cent"
refused letters $'new\nline'
# These two libvirt takes elsewhere, but not in the name of a checkpoint.
refused letters "a+b"
refused letters "10:00"
refused letters "back\\slash"
refused "201 bytes" "$(printf 'a%.0s' {1..201})"
refused "255 bytes" "$(printf 'a%.0s' {1..255})"
assert_fails_with "File name too long" mkdir "$points/$(printf 'a%.0s' {1..256})"
assert_fails_with "No such file" mkdir "$points/a/b"
assert_equal "" "$(ls -A "$points")" "reference points"

# The longest and oddest that are good.
for name in "$(printf 'a%.0s' {1..200})" "2026-11-22T10.00.00Z" "_a.b-c" "-dash" "A" "a" "0"; do
    mkdir -- "$points/$name" || fail "'$name' was refused: $(status_value last_refusal "$info")"
    assert_shows name "$name" "$points/$name/info"
    rmdir -- "$points/$name"
done
unmount_rp

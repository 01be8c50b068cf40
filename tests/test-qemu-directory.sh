#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Which directories are taken for an export and which are refused, without anything of the user's
# being touched.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"

# refused RESULT ERROR DIRECTORY
refused()
{
    assert_fails_with "$2" settings "$mon" "ExportDirectory=$3" KeepHold=yes
    assert_shows result "$1" "$mon/job/status"
    assert_says "line 1" error "$mon/job/status"
}
echo text >"$T/file"
refused 32773 "Invalid argument" "$T/missing/mon"
refused 32773 "Invalid argument" "$T/file"
refused 32773 "Invalid argument" "$T/file/mon"
refused 32773 "Invalid argument" "backup/mon"
refused 32773 "Invalid argument" ""
[ ! -e "$T/missing" ] || fail "the missing parent was made"
assert_equal text "$(cat "$T/file")" "the file that was named as a directory"

# A directory of other files is used, and they stay; so does one that is made.
mkdir "$T/there"
echo mine >"$T/there/notes"
export_point "$mon" "ExportDirectory=$T/there" KeepHold=yes
assert_equal mine "$(cat "$T/there/notes")" "a file that was there before"
export_point "$mon" "ExportDirectory=$T/made/" KeepHold=yes
assert_same "$T/there/vda.qcow2" "$T/made/vda.qcow2"

# One that holds an export is full.
sum=$(sha256sum "$T/made"/*)
refused 32773 "Invalid argument" "$T/made"
assert_equal "$sum" "$(sha256sum "$T/made"/*)" "the export that was there"

# Nobody else may read what is written.
for file in "$T/made"/*; do
    assert_equal 600 "$(stat -c %a "$file")" "mode of $file"
done
assert_equal 700 "$(stat -c %a "$T/made")" "mode of the directory that was made"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# mkdir makes and holds a reference point, rmdir removes it; what cannot be is refused with the errno
# that says why, and the sentence stays in the info of the machine.
. "$(dirname "$0")/tree.sh"
mount_fake
cd "$MNT/vms/vm1/refpoints"
info=../info

mkdir tue
[ -d tue ] && is_held tue || fail "tue is not held"
assert_fails_with "File exists" mkdir tue
assert_fails_with "Device or resource busy" mkdir wed
assert_says "32774 " last_refusal "$info"
mkdir "$MNT/vms/vm2/refpoints/wed"
assert_fails_with "No such file or directory" rmdir wed
assert_fails_with "No such file or directory" mkdir "$MNT/vms/nobody/refpoints/tue"
echo ExportDirectory=/x/ms-60000 >tue/export
assert_fails_with "Device or resource busy" rmdir tue
echo 1 >tue/job/cancel
cat tue/job/wait >/dev/null
exec 5<tue/info
rmdir tue
[ ! -e tue ] || fail "tue is still there"
read -r line <&5
assert_equal name=tue "$line" "what was open"
exec 5<&-

for name in .hidden "two words" ..; do
    ! mkdir "$name" 2>/dev/null || fail "'$name' was made"
done
assert_fails_with "Invalid argument" mkdir .hidden
assert_fails_with "Invalid argument" mkdir "$(printf 'n%.0s' {1..250})"
assert_fails_with "File name too long" mkdir "$(printf 'n%.0s' {1..256})"
assert_fails_with "File name too long" ls "$(printf 'n%.0s' {1..256})"
mkdir "$(printf 'ä%.0s' {1..100})"
mkdir -p r1
assert_fails_with "Operation not permitted" mkdir r1/sub
assert_fails_with "Operation not permitted" mkdir "$MNT/vms/vm3"
assert_fails_with "Operation not permitted" mkdir "$MNT/new"
assert_fails_with "Operation not permitted" rmdir "$MNT/vms/vm1"
assert_fails_with "Operation not permitted" rmdir r1/job
cd /
unmount_rp

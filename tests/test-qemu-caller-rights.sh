#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An export has the rights of whoever wrote its settings: where they may not write, it is refused
# as access denied, and what it writes is theirs.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img setpriv
[ "$(id -u)" = 0 ] || skip "only root can become another user"

# A user and a group that nothing on this machine belongs to.
as_user()
{
    setpriv --reuid=64999 --regid=64999 --groups=64998 "$@"
}
as_other()
{
    setpriv --reuid=64997 --regid=64997 --clear-groups "$@"
}
write_settings()
{
    local who=$1 point=$2
    shift 2
    printf '%s\n' "$@" | $who tee "$point/export" >/dev/null
}

chmod 711 "$T"
guest_new web1
mount_rp -o allow_other,group=64998
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$T/roots" "$T/theirs" "$T/none"
chmod 700 "$T/roots"
chmod 711 "$T/none"
chown 64999 "$T/theirs"

# Members of the group may mark; others may look.
as_user mkdir "$mon" || fail "a member of the group cannot make a reference point"
as_other cat "$mon/info" >/dev/null || fail "others cannot look"
assert_fails_with "Permission denied" as_other mkdir "$MNT/vms/web1/refpoints/tue"
assert_fails_with "Permission denied" write_settings as_other "$mon" "ExportDirectory=$T/theirs/mon"
assert_fails_with "Permission denied" as_other rmdir "$mon"
assert_fails_with "Permission denied" as_other tee "$mon/hold" <<<0
assert_equal 1 "$(cat "$mon/hold")" hold

# The same for a text that comes by a rename, as many programs save; root finds no one's files.
rename_settings()
{
    local who=$1 point=$2
    shift 2
    printf '%s\n' "$@" | $who tee "$point/new" >/dev/null
    $who mv -T "$point/new" "$point/export"
}
assert_fails_with "Permission denied" rename_settings as_other "$mon" "ExportDirectory=$T/theirs/mon"
assert_fails_with "Permission denied" rename_settings as_user "$mon" "ExportDirectory=$T/roots/mon"
assert_fails_with "No such file" mv "$mon/new" "$mon/export"
assert_shows result 32769 "$mon/job/status"
for folder in roots roots/mon none none/mon; do
    assert_fails_with "Permission denied" write_settings as_user "$mon" "ExportDirectory=$T/$folder"
    assert_shows result 32769 "$mon/job/status"
    assert_says "line 1" error "$mon/job/status"
done
assert_equal "" "$(ls -A "$T/roots")" "files in a directory of root"

rename_settings as_user "$mon" "ExportDirectory=$T/theirs/mon"
export_ends 0 "$mon"
assert_shows caller_uid 64999 "$mon/job/status"
images_check "$T/theirs/mon"
counter_of "$T/theirs/mon/vda.qcow2" >/dev/null
for file in "$T/theirs/mon" "$T/theirs/mon"/*; do
    assert_equal 64999:64999 "$(stat -c %u:%g "$file")" "owner of $file"
done
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# With group=, members of the group may mark and export, with their own rights; others may look.
. "$(dirname "$0")/tree.sh"
requires setpriv
[ "$(id -u)" = 0 ] || skip "only root can become somebody else"
group=$(getent group | awk -F: '$3 > 0 && $3 < 1000 { print $1 ":" $3; exit }')
[ -n "$group" ] || skip "there is no group"
chmod 711 "$T"
mount_fake -- -o "allow_other,group=${group%:*}"
assert_shows group "${group%:*}" "$MNT/service/settings"

member()
{
    setpriv --reuid=65534 --regid=65534 --groups="${group#*:}" "$@"
}
stranger()
{
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
stranger cat "$STATUS" >/dev/null
stranger find "$MNT" -type f -exec cat {} + >/dev/null
assert_fails_with "Permission denied" stranger mkdir "$MNT/vms/vm1/refpoints/tue"
assert_fails_with "Permission denied" stranger rmdir "$POINT"
for file in export hold job/cancel; do
    assert_fails_with "Permission denied" stranger dd if=/dev/null of="$POINT/$file" status=none
done
member mkdir "$MNT/vms/vm1/refpoints/tue"
member rmdir "$MNT/vms/vm1/refpoints/tue"
member sh -c "echo ExportDirectory=/x/member >$POINT/export"
assert_equal 0 "$(member cat "$POINT/job/wait")"
assert_shows caller_uid 65534 "$STATUS"
jobs_are /x/member
# Writing is theirs, times are the owner's; what was written counts all the same.
member touch "$POINT/export"
echo ExportDirectory=/x/copy >"$T/settings"
chmod 644 "$T/settings"
assert_fails_with "preserving times" member cp -p "$T/settings" "$POINT/export"
assert_equal 0 "$(member cat "$POINT/job/wait")"
jobs_are /x/member /x/copy
unmount_rp

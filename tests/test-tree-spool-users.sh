#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Of two users who may both write, neither sees, meets or replaces the files that the other has made
# beside `export`, or misses what the other has removed; the job is his who renamed.
. "$(dirname "$0")/tree.sh"
requires setpriv
[ "$(id -u)" = 0 ] || skip "only root can become somebody else"
chmod 711 "$T"
mount_fake -- -o "allow_other,group=nogroup"
cd "$POINT"

as()
{
    setpriv --reuid="$1" --regid=65534 --clear-groups "${@:2}"
}
for user in 4711 4712 0; do
    as $user sh -c "echo ExportDirectory=/x/$user >new"
done
for user in 4711 4712 0; do
    assert_equal "ExportDirectory=/x/$user" "$(as $user cat new)" "new of $user"
    assert_equal "$user" "$(as $user stat -c %u new)" "owner of new of $user"
done
as 4711 touch mine
for user in 4712 0; do
    assert_fails_with "No such file" as $user cat mine
    assert_fails_with "No such file" as $user rm mine
    assert_fails_with "No such file" as $user mv mine export
done
as 4711 rm export
as 4712 cat export >/dev/null
assert_fails_with "No such file" as 4711 cat export

as 4712 mv new export
assert_equal 0 "$(cat job/wait)"
assert_shows caller_uid 4712 job/status
as 4711 mv new export
assert_equal 0 "$(cat job/wait)"
assert_shows caller_uid 4711 job/status
as 4712 mv export backup
as 4712 grep -q ExportDirectory backup
assert_fails_with "No such file" as 4711 cat backup
jobs_are /x/4712 /x/4711
assert_equal "ExportDirectory=/x/0" "$(cat new)" "new of root"

# Who may not write export may make no files beside it, nor remove it.
stranger()
{
    setpriv --reuid=4713 --regid=4713 --clear-groups "$@"
}
for call in "touch new" "rm -f export" "mv export x" "cp --remove-destination /dev/null export"; do
    # shellcheck disable=SC2086
    assert_fails_with "Permission denied" stranger $call
done
cd /
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A second user, who may mark and export, aims exports at places that are not theirs: through "..",
# through symbolic links, and by putting one in the way while a job runs. Nothing is ever written or
# read that they could not themselves; and the cleaning after a crash keeps to that.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img setpriv
[ "$(id -u)" = 0 ] || skip "only root can become another user"

as_user()
{
    setpriv --reuid=64999 --regid=64999 --groups=64998 "$@"
}
write_settings()
{
    local point=$1
    shift
    printf '%s\n' "$@" | as_user tee "$point/export" >/dev/null
}

chmod 711 "$T"
guest_new web1 --disks 2
mount_rp -o allow_other,group=64998
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 6M
mkdir "$T/theirs" "$T/roots" "$T/roots/open"
chown 64999 "$T/theirs"
chmod 700 "$T/roots"
chmod 777 "$T/roots/open"
as_user mkdir "$mon"

roots_is_untouched()
{
    local found
    found=$(find "$T/roots" -mindepth 1 ! -path "$T/roots/open")
    [ -z "$found" ] || fail "written where only root may: $found"
}

as_user ln -s "$T/roots" "$T/theirs/link"
as_user ln -s "$T/roots/export.ini" "$T/theirs/export.ini"
for path in theirs/../roots/x theirs/link theirs/link/x roots/open theirs/link/open; do
    assert_fails_with "Permission denied" write_settings "$mon" "ExportDirectory=$T/$path"
    assert_shows result 32769 "$mon/job/status"
done
# A link that is called like a manifest is one, wherever it leads.
assert_fails_with "Invalid argument" write_settings "$mon" "ExportDirectory=$T/theirs"
as_user rm "$T/theirs/export.ini"

# A base that only root may read is none.
settings "$mon" "ExportDirectory=$T/roots/base" DisksToExport=vdb KeepHold=yes
export_ends 0 "$mon"
assert_fails_with "Permission denied" write_settings "$mon" "ExportDirectory=$T/theirs/x" \
    "BaseExportDirectory=$T/roots/base"
rm -r "$T/roots/base"

# The directory becomes a link to root's while the job runs.
as_user mkdir "$T/theirs/a" "$T/theirs/a/b"
write_settings "$mon" "ExportDirectory=$T/theirs/a/b" DisksToExport=vdb Bandwidth=4M KeepHold=yes
wait_for 10 shows state running "$mon/job/status"
as_user mv "$T/theirs/a" "$T/theirs/was"
as_user ln -s "$T/roots" "$T/theirs/a"
mkdir "$T/roots/b"
export_ends 0 "$mon"
nothing_left "$T/roots/b" || fail "written where only root may: $(ls -a "$T/roots/b")"
rmdir "$T/roots/b"
[ -e "$T/theirs/was/b/export.ini" ] || fail "no export where the directory went"

# The same while the service is dead: what it left behind, it looks for with the user's rights.
as_user mkdir "$T/theirs/c"
write_settings "$mon" "ExportDirectory=$T/theirs/c/d" DisksToExport=vdb Bandwidth=1M
wait_for 10 shows state running "$mon/job/status"
kill_rp
as_user mv "$T/theirs/c" "$T/theirs/gone"
as_user ln -s "$T/roots" "$T/theirs/c"
mkdir "$T/roots/d"
mount_rp -o allow_other,group=64998
ready web1
is_clean()
{
    grep -q ";" "$mon/job/error"
}
wait_for 10 is_clean
assert_shows state killed "$mon/job/status"
[ -d "$T/roots/d" ] || fail "a directory of root was removed"
rmdir "$T/roots/d"
roots_is_untouched

# Files of the service are nobody else's.
for path in state scratch run; do
    ! as_user ls "$T/$path" >/dev/null 2>&1 || fail "another user can list $path"
done
for path in state/jobs state/holds state/exports; do
    assert_equal 700 "$(stat -c %a "$T/$path")" "mode of $path"
done
assert_equal 600 "$(stat -c %a "$T/state/jobs/1.ini")" "mode of what is written down of a job"
unmount_rp

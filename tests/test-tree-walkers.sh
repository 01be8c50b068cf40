#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Whoever walks the tree and reads all of it meets no error and never waits, and copies are whole.
. "$(dirname "$0")/tree.sh"
requires rsync tar
mount_fake vms=3

mkdir "$MNT/vms/vm2/refpoints/held"
echo ExportDirectory=/x/done >"$POINT/export"
cat "$POINT/job/wait" >/dev/null
echo ExportDirectory=/x/refuse-32769 2>/dev/null >"$MNT/vms/vm3/export" || true

quietly()
{
    timeout 10 "$@" >"$T/out" 2>"$T/err" || fail "status $? of: $*: $(cat "$T/err")"
    [ ! -s "$T/err" ] || fail "$* says: $(cat "$T/err")"
}
quietly ls -lR "$MNT"
quietly find "$MNT" -ls
quietly find "$MNT" -type f -exec cat {} +
quietly grep -r completed "$MNT"
grep -q "r1/job/state:completed" "$T/out" || fail "grep -r missed the state of the job"
quietly find "$MNT" -type f -exec wc -c {} +
quietly du -a "$MNT"
quietly cp -r "$MNT" "$T/cp"
quietly rsync -a "$MNT/" "$T/rsync"
quietly tar -C "$MNT" -cf "$T/tree.tar" .
mkdir "$T/tar"
tar -C "$T/tar" -xf "$T/tree.tar"


# But for what may have changed since: counts, and what remains of the hold.
sizes()
{
    (cd "$1" && find . -type f -printf '%s %p\n' | sort)
}
for copy in cp rsync tar; do
    diff -r --exclude=info "$MNT" "$T/$copy" || fail "$copy made another tree"
    diff <(sizes "$MNT") <(sizes "$T/$copy") || fail "$copy made other sizes"
done
unmount_rp

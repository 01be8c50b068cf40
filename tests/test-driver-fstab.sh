#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# mount(8) mounts it, by a command and by a line of fstab, with mount's own options, a URI with
# '=' in it and a mount point with a blank; umount ends it; what is wrong reaches whoever mounts.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires mount umount unshare
[ "$(id -u)" -eq 0 ] || skip "only root may use mount(8)"
[ -x /sbin/mount.fuse3 ] || skip "mount.fuse3 is not installed"

# mount(8) looks for the program in the system's folders alone: there it is only in a namespace of
# this test, which lets go of the mounts of others.
if [ -z "${IN_NAMESPACE:-}" ]; then
    REFPOINTFS=$(built refpointfs)
    export REFPOINTFS
    IN_NAMESPACE=1 unshare -m "$0"
    exit
fi
let_go()
{
    ! mountpoint -q "$1" || umount -l "$1"
}
umount -l -a -t fuse.refpointfs
mount -t tmpfs none /usr/local/sbin
ln -s "$REFPOINTFS" /usr/local/sbin/refpointfs
cleanup_fn let_go "$MNT"
dirs=state=$T/state,run=$T/run

# Until the one before has let go of its state.
may_mount()
{
    [ ! -e "$T/state/lock" ] || flock -n "$T/state/lock" true
}

# mounted URI ARGUMENT...: mount succeeds, says nothing, and the tree is that of the URI.
mounted()
{
    local uri=$1
    shift
    wait_for 10 may_mount
    timeout 20 mount "$@" >"$T/said" 2>&1 || fail "mount $*: $(cat "$T/said")"
    assert_equal "" "$(cat "$T/said")" "what mount says"
    mountpoint -q "$MNT" || fail "not mounted by: mount $*"
    grep -qxF "uri=$uri" "$MNT/service/settings" || fail "another uri: $(cat "$MNT/service/settings")"
}

mounted test:///default -t fuse.refpointfs test:///default "$MNT" -o "$dirs,hold=60,allow_other"
assert_shows hold 60 "$MNT/service/settings"
grep -q " $MNT .*allow_other" /proc/self/mounts || fail "allow_other was lost"
umount "$MNT"

cat >"$T/fstab" <<END
test:///default $MNT fuse.refpointfs noauto,_netdev,nofail,x-systemd.automount,defaults,$dirs 0 0
END
mounted test:///default -T "$T/fstab" "$MNT"
mkdir "$MNT/vms/test/refpoints/mon"
umount "$MNT"
cat >"$T/fstab" <<END
qemu:///embed?root=$T/embed $T/a\\040mount fuse.refpointfs noauto,ro,nosuid,noexec,noatime,user,$dirs 0 0
END
MNT="$T/a mount"
mkdir "$MNT"
cleanup_fn let_go "$MNT"
mounted "qemu:///embed?root=$T/embed" -T "$T/fstab" "$MNT"
assert_fails_with "Read-only file system" touch "$MNT/vms"
umount "$MNT"

wait_for 20 may_mount
assert_fails_with "refpointfs: option jobs=x: a number from 1 to 64 is expected" \
    mount -t fuse.refpointfs test:///default "$MNT" -o "$dirs,jobs=x"
assert_fails_with "refpointfs: unknown option(s): \`-o remount'" \
    mount -t fuse.refpointfs test:///default "$MNT" -o "$dirs,remount"
assert_fails_with "make it first" mount -t fuse.refpointfs test:///default "$T/none" -o "$dirs"
! mountpoint -q "$MNT" || fail "it is mounted"

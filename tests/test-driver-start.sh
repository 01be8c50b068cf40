#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What keeps a mount from being made is said in one line, that names it and what to do about it, and
# nothing stays mounted; that libvirt is not reached is said too, and the mount is there.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires unshare setpriv

# Where the user nobody can run it, and mount.
chmod 755 "$T"
install -m 755 "$(built refpointfs)" "$T/refpointfs"
uri=test:///default
dirs="state=$T/state,run=$T/run"
nobody=(setpriv --reuid nobody --regid nogroup --clear-groups env "HOME=$T/home")

# refused SENTENCE COMMAND...: it must end with 1 and one line with that sentence.
refused()
{
    local sentence=$1 status=0
    shift
    timeout 20 "$@" >"$T/out" 2>&1 || status=$?
    assert_equal 1 $status "exit status of '$*', that said '$(cat "$T/out")',"
    assert_equal 1 "$(wc -l <"$T/out")" "lines said: $(cat "$T/out")"
    grep -qF -- "refpointfs: $sentence" "$T/out" || fail "'$sentence' is not in: $(cat "$T/out")"
    ! grep -qF " $T/" /proc/self/mounts || fail "mounted by: $*"
}

# The mount point.
touch "$T/file"
refused "cannot use the mount point $T/none: No such file or directory; make it first" \
    "$T/refpointfs" $uri "$T/none" -o "$dirs"
refused "cannot use the mount point $T/file: Not a directory" \
    "$T/refpointfs" $uri "$T/file" -o "$dirs"

# Options, and where things lie.
refused "unknown option(s): \`-o foo'; refpointfs --help lists" \
    "$T/refpointfs" $uri "$MNT" -o "$dirs,foo"
refused "option hold=x: a number from 1 to" "$T/refpointfs" $uri "$MNT" -o "$dirs,hold=x"
refused "cannot make the folder '$T/file/state' (-o state=DIR takes another)" \
    "$T/refpointfs" $uri "$MNT" -o "state=$T/file/state,run=$T/run"
refused "cannot make the folder '$T/file/run' (-o run=DIR takes another)" \
    "$T/refpointfs" $uri "$MNT" -o "state=$T/state,run=$T/file/run"
refused "cannot make the folder '$T/file/scratch' (-o scratch=DIR takes another)" \
    "$T/refpointfs" $uri "$MNT" -o "$dirs,scratch=$T/file/scratch"
long=$(printf 'a%.0s' {1..60})
refused "the path of the folder for sockets '/tmp/$long' is longer than 60 bytes; mount with a" \
    "$T/refpointfs" $uri "$MNT" -o "state=$T/state,run=/tmp/$long"

# What runs already. Directories that are not empty can be mounted on.
touch "$MNT/file"
mount_rp $uri
mkdir "$T/other"
status=0
for where in "$MNT" "$T/other"; do
    ! timeout 20 "$T/refpointfs" $uri "$where" -o "$dirs" 2>>"$T/busy" || fail "mounted at $where"
done
grep -qF "something is mounted at $MNT already; \`fusermount3 -u $MNT\` ends it" "$T/busy" ||
    fail "it says: $(cat "$T/busy")"
grep -qF "the state folder '$T/state' is used by another running service; mount with" "$T/busy" ||
    fail "it says: $(cat "$T/busy")"
unmount_rp

# libvirt.
cleanup_fn fusermount3 -q -u -z "$MNT"
"$T/refpointfs" nonsense:///x "$MNT" -o "$dirs" 2>"$T/said"
grep -q "^refpointfs: mounted, and trying on, but: .*nonsense:///x" "$T/said" ||
    fail "it says: $(cat "$T/said")"
ls "$MNT/vms" >"$T/out"
fusermount3 -u "$MNT"
wait_for 10 flock -n "$T/state/lock" true
"$T/refpointfs" $uri "$MNT" -o "$dirs" 2>"$T/said"
assert_equal "" "$(cat "$T/said")" "what is said when all is well"
fusermount3 -u "$MNT"
wait_for 10 flock -n "$T/state/lock" true
cleanup_list=("${cleanup_list[@]:0:${#cleanup_list[@]}-1}")

[ "$(id -u)" -eq 0 ] || exit 0
install -d -o nobody "$T/home" "$T/his"

# FUSE itself, and rights: as in a container without the device, without the kernel's module, and
# as a user who may not.
in_dev=(unshare -m sh -c 'mount -t tmpfs none /dev && eval "$1" && shift && exec "$@"' sh)
refused "/dev/fuse is missing; load" "${in_dev[@]}" true "$T/refpointfs" $uri "$MNT" -o "$dirs"
refused "the kernel has no FUSE now; load" \
    "${in_dev[@]}" "mknod /dev/fuse c 10 250" "$T/refpointfs" $uri "$MNT" -o "$dirs"
refused "cannot open /dev/fuse: Permission denied; its mode" \
    "${in_dev[@]}" "mknod -m 600 /dev/fuse c 10 229" "${nobody[@]}" "$T/refpointfs" $uri "$T/his"
refused "cannot use the mount point $MNT: Permission denied; take a directory" \
    "${nobody[@]}" "$T/refpointfs" $uri "$MNT"
refused "cannot make the directory /proc/none (-o state=DIR takes another)" \
    "${nobody[@]}" HOME=/proc/none "$T/refpointfs" $uri "$T/his"

# With a word of fusermount3's before.
if ! grep -qs '^user_allow_other' /etc/fuse.conf; then
    ! timeout 20 "${nobody[@]}" "$T/refpointfs" $uri "$T/his" -o "allow_other,run=$T/home/run" \
        2>"$T/said" || fail "mounted with allow_other"
    grep -q "user_allow_other.*/etc/fuse.conf" "$T/said" || fail "it says: $(cat "$T/said")"
    grep -q "^refpointfs: cannot mount at $T/his" "$T/said" || fail "it says: $(cat "$T/said")"
fi

# An ordinary user mounts, marks and ends it; nobody else gets in.
cleanup_fn fusermount3 -q -u -z "$T/his"
"${nobody[@]}" "$T/refpointfs" $uri "$T/his" -o "run=$T/home/run"
"${nobody[@]}" mkdir "$T/his/vms/test/refpoints/mon"
assert_equal mon "$("${nobody[@]}" ls "$T/his/vms/test/refpoints")" "reference points"
assert_fails_with "Permission denied" ls "$T/his/vms"
"${nobody[@]}" fusermount3 -u "$T/his"
wait_for 10 flock -n "$T/home/.local/state/refpointfs"/*/lock true
cleanup_list=("${cleanup_list[@]:0:${#cleanup_list[@]}-1}")

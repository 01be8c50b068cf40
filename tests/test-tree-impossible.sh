#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What cannot be done in the tree is refused as not permitted, never as not implemented.
. "$(dirname "$0")/tree.sh"
mount_fake
cd "$POINT"
check()
{
    local output
    ! output=$("$@" 2>&1) || fail "succeeded: $*"
    case $output in
    *"Operation not permitted"* | *"Permission denied"*) ;;
    *) fail "$*: $output" ;;
    esac
}
check touch "$MNT/new" "$MNT/vms/new" "$MNT/vms/vm1/refpoints/new" "$MNT/service/new"
check rm info
check mv info other
check mv info "$MNT/other"
check mv export info
check mkdir new
check ln info other
check ln export other
check ln -s info other
check mknod other p
check mkfifo other
check cp /dev/null info
check cp --remove-destination /dev/null info
check chmod 600 info
check touch info
check truncate -s 0 info
check chown 1 "$MNT/README"
check bash -c 'echo x >info'
check bash -c 'echo x >job/status'
check python3 -c 'open("job/wait", "w")'
output=$(rm -rf "$POINT" 2>&1) && fail "rm -rf succeeded"
case $output in
*"Function not implemented"*) fail "rm -rf: $output" ;;
esac
[ -e "$POINT/info" ] || fail "rm -rf removed something"
cd /
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A guest agent that hangs costs a reference point its consistency level and some seconds, and the
# guest nothing: a freeze that the agent makes up for when it comes back is thawed.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/guest/linux.sh
. "$TESTS/guest/linux.sh"

refused()
{
    status_value last_refusal "$MNT/vms/web1/info" | grep -qF "cannot be frozen"
}

hooks_are()
{
    [ "$(linux_hooks web1)" = "$1" ]
}

linux_new web1
mount_rp
linux_ready web1
points=$MNT/vms/web1/refpoints

# libvirt asks an agent whether it is there before the first command alone. Of one that has answered
# before it expects an answer, and gives it the command to freeze.
mkdir "$points/mon"
assert_shows consistency_level 1 "$points/mon/info"
wait_for 20 hooks_are "freeze thaw"
echo 0 >"$points/mon/hold"

linux_do web1 'kill -STOP $(pidof qemu-ga)'
begun=$SECONDS
mkdir "$points/tue"
elapsed=$((SECONDS - begun))
# 10 s for the freeze, and the 5 s in which libvirt gives up the thaw that follows.
[ $elapsed -lt 20 ] || fail "the reference point took $elapsed s"
assert_shows consistency_level 2 "$points/tue/info"
linux_goes_on web1
echo 0 >"$points/tue/hold"

printf '%s\n' Name=wed ConsistencyLevel=1 | cat >"$MNT/vms/web1/create"
wait_for 40 refused
[ ! -e "$points/wed" ] || fail "a refused reference point is there"
linux_goes_on web1

# The agent finds the command to freeze in its port, and nobody waits for it any more.
linux_do web1 'kill -CONT $(pidof qemu-ga)'
wait_for 20 eval 'linux_hooks web1 | grep -q "^freeze thaw freeze"'
wait_for 40 eval 'linux_hooks web1 | grep -q "thaw$"'
linux_goes_on web1
mkdir "$points/thu"
assert_shows consistency_level 1 "$points/thu/info"
linux_goes_on web1
unmount_rp

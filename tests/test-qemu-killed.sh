#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# After kill -9 of the service while it held a VM, a new mount ends what it left in libvirt: the VM
# can be marked and exported again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
is_held "$points/mon" || fail "mon is not held"
kill -KILL "$mount_pid"
wait_for 10 process_is_gone "$mount_pid"
wait "$mount_pid" || true
fusermount3 -u -z "$MNT"
mount_pid=

[ -n "$(pid_of_guest web1)" ] || fail "the guest ended with the service"
mount_rp
ready web1
wait_for 5 test -d "$points/mon"
assert_equal 0 "$(cat "$points/mon/hold")" "hold of the service before"
can_mark()
{
    mkdir "$points/tue" 2>"$T/refusal"
}
wait_for 10 can_mark
export_point "$points/tue" "ExportDirectory=$T/tue"
counter_of "$T/tue/vda.qcow2" >/dev/null
# The point before it is one like any other.
mkdir "$points/wed"
assert_shows parent tue "$points/wed/info"
rmdir "$points/mon"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Unmounting while a job runs and readers wait for it ends the service with status 0, and them.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$mon"
settings "$mon" "ExportDirectory=$T/mon" Bandwidth=1M
wait_for 10 shows state running "$mon/job/status"
cat "$mon/job/wait" >"$T/waited" 2>&1 &
waiter=$!
# It is inside once the kernel has taken its open of the file.
is_waiting()
{
    [ -n "$(find "/proc/$waiter/fd" -lname "*/job/wait" 2>/dev/null)" ]
}
wait_for 10 is_waiting
# A lazy unmount: the reader still has its file open.
kill -TERM "$mount_pid"
rp_ends
wait_for 10 process_is_gone "$waiter"
mountpoint -q "$MNT" && fail "still mounted"
[ ! -e "$T/mon" ] || fail "left: $(ls -aR "$T/mon")"
true

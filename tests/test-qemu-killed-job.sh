#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# kill -9 of the service during an export leaves no manifest, so that the half export never passes
# for one; the same directory takes the next try.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$points/mon"
settings "$points/mon" "ExportDirectory=$T/mon" Bandwidth=1M
wait_for 10 shows state running "$points/mon/job/status"
kill -KILL "$mount_pid"
wait_for 10 process_is_gone "$mount_pid"
wait "$mount_pid" || true
fusermount3 -u -z "$MNT"
mount_pid=
nothing_left "$T/mon" || fail "left: $(ls -aR "$T/mon")"

mount_rp
ready web1
can_mark()
{
    mkdir "$points/tue" 2>"$T/refusal"
}
wait_for 10 can_mark
export_point "$points/tue" "ExportDirectory=$T/mon"
assert_reads 0xaa 8M 8M "$T/mon/vdb.qcow2"
unmount_rp

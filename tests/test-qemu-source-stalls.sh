#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A QEMU that stops answering in the middle of an export: the mount answers, the job ends by its
# time limit with 32772, and when QEMU goes on the VM can be marked and exported again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$points/mon"
settings "$points/mon" "ExportDirectory=$T/mon" DisksToExport=vdb Bandwidth=1M Timeout=2
wait_for 10 shows state running "$points/mon/job/status"
pid=$(pid_of_guest web1)
kill -STOP "$pid"
cleanup_fn kill -CONT "$pid"
end=$((SECONDS + 20))
until shows state exception "$points/mon/job/status"; do
    [ $SECONDS -lt $end ] || fail "the job does not end: $(cat "$points/mon/job/status")"
    timeout 1 ls -l "$MNT/vms" "$points" >/dev/null || fail "ls hangs"
    timeout 1 cat "$points/mon/job/status" "$MNT/vms/web1/info" >/dev/null || fail "cat hangs"
done
export_ends 32772 "$points/mon"
assert_says "Timeout of 2 s reached" error "$points/mon/job/status"
[ ! -e "$T/mon" ] || fail "left: $(ls -aR "$T/mon")"
kill -CONT "$pid"

export_point "$points/mon" "ExportDirectory=$T/mon"
assert_reads 0xaa 8M 8M "$T/mon/vdb.qcow2"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file system under the export directory that stops answering in the middle: the mount answers,
# and the job ends with its documented result, by its time limit or a cancel, though its thread
# hangs in the kernel. When the file system answers again, nothing of the export is left there.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img bindfs

mkdir "$T/behind" "$T/target"
bindfs -f "$T/behind" "$T/target" &
target_pid=$!
target_end()
{
    kill -CONT "$target_pid" 2>/dev/null
    umount -l "$T/target"
    kill -KILL "$target_pid" 2>/dev/null
    wait_for 10 process_is_gone "$target_pid"
}
cleanup_fn target_end
wait_for 10 mountpoint -q "$T/target"

guest_new web1 --disks 2
guest_new web2
mount_rp
ready web1 web2
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 32M

# Each name and state of the tree within a second, while the target hangs.
tree_answers()
{
    timeout 1 ls -l "$MNT/vms" "$MNT/jobs" "$mon" >/dev/null || fail "ls hangs"
    timeout 1 cat "$mon/job/status" "$MNT/vms/web1/info" >/dev/null || fail "cat hangs"
}

job_ends_meanwhile()
{
    local end=$((SECONDS + 30))
    until grep -qE 'exception|terminated' "$mon/job/state"; do
        [ $SECONDS -lt $end ] || fail "the job does not end: $(cat "$mon/job/status")"
        tree_answers
    done
    tree_answers
}

begin_and_hang()
{
    settings "$mon" "ExportDirectory=$T/target/mon" Bandwidth=8M "$@"
    wait_for 10 shows state running "$mon/job/status"
    kill -STOP "$target_pid"
}

wake()
{
    kill -CONT "$target_pid"
    wait_for 20 nothing_left "$T/behind"
}

mkdir "$mon"
begin_and_hang Timeout=2
job_ends_meanwhile
export_ends 32772 "$mon"
assert_says "Timeout of 2 s reached" error "$mon/job/status"
# Meanwhile other VMs go on.
mkdir "$MNT/vms/web2/refpoints/tue"
export_point "$MNT/vms/web2/refpoints/tue" "ExportDirectory=$T/tue"
wake

begin_and_hang
echo 1 >"$mon/job/cancel"
job_ends_meanwhile
export_ends 32768 "$mon"
assert_shows state terminated "$mon/job/status"
assert_says "cancelled" error "$mon/job/status"
wake

# The hold is still what it was.
export_point "$mon" "ExportDirectory=$T/target/mon" DisksToExport=vdb
assert_reads 0xaa 8M 32M "$T/behind/mon/vdb.qcow2"
unmount_rp

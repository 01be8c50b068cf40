#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A libvirtd that hangs does not make the mount hang: what is known is shown at once, an export that
# runs goes on reading, and all is well when it wakes up.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
libvirtd_start

virsh_guest web1 --disks 2
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"

# The list of reference points is asked for anew when it is older than a second.
mount_answers_for_4_s()
{
    local end=$((SECONDS + 4))
    while [ $SECONDS -lt $end ]; do
        timeout 1 ls "$MNT/vms" "$MNT/vms/web1/refpoints" >/dev/null || fail "ls hangs"
        timeout 1 cat "$MNT/vms/web1/info" >/dev/null || fail "cat of the VM's info hangs"
        timeout 1 cat "$1/job/status" >/dev/null || fail "cat of job/status hangs"
    done
}

kill -STOP "$libvirtd_pid"
cleanup_fn kill -CONT "$libvirtd_pid"
mount_answers_for_4_s "$mon"
# A walk of the tree, of about 30 names, may not wait anew for each of them.
timeout 4 ls -lR "$MNT" >/dev/null || fail "ls -lR waits for libvirtd again and again"
# The data comes from QEMU, not from libvirtd: but its papers do. Wait for it in the background.
settings "$mon" "ExportDirectory=$T/mon" || fail "settings are refused while libvirtd hangs"
timeout 1 cat "$mon/job/status" >"$T/status"
kill -CONT "$libvirtd_pid"
export_ends 0 "$mon"
images_check "$T/mon"
counter_of "$T/mon/vda.qcow2" >/dev/null

# In the middle of an export, whose data come from QEMU.
tue=$MNT/vms/web1/refpoints/tue
guest_write web1 --disk 1 0xaa 8M 24M
mkdir "$tue"
settings "$tue" "ExportDirectory=$T/tue" DisksToExport=vdb Bandwidth=4M
wait_for 10 shows state running "$tue/job/status"
kill -STOP "$libvirtd_pid"
before=$(status_value bytes_done "$tue/job/status")
mount_answers_for_4_s "$tue"
assert_shows state running "$tue/job/status"
[ "$(status_value bytes_done "$tue/job/status")" -gt $((before + 4000000)) ] ||
    fail "the export stopped with libvirtd: $(cat "$tue/job/status")"
kill -CONT "$libvirtd_pid"
export_ends 0 "$tue"
images_check "$T/tue"
assert_reads 0xaa 8M 24M "$T/tue/vdb.qcow2"
unmount_rp

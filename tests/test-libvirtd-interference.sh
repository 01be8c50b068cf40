#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What others do to a VM in the middle of its export: abort its backup job, ask for one of their
# own, take a snapshot, resize a disk, shut it off. The mount answers throughout, the job ends with
# its documented result, nothing is left of a failed one, a job of theirs is never ended by us, and
# the next export succeeds.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires nbdinfo
libvirtd_start

virsh_guest web1 --disks 2
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
vm=$MNT/vms/web1
points=$vm/refpoints
guest_write web1 --disk 1 0xaa 8M 4M

# ---- the mount answers within a second, all the time ----

# Says so in T/hung if it does not; the file T/watching ends it.
watch_mount()
{
    while [ -e "$T/watching" ]; do
        timeout 1 ls "$MNT/vms" "$points" "$MNT/jobs" >/dev/null || echo "ls: $?" >>"$T/hung"
        timeout 1 cat "$vm/job/status" "$vm/info" >/dev/null || echo "cat: $?" >>"$T/hung"
        sleep 0.1
    done
}
watch_end()
{
    rm -f "$T/watching"
    wait "$watcher"
}
: >"$T/watching"
watch_mount &
watcher=$!
cleanup_fn rm -f "$T/watching"

# ---- an export, and how it ends ----

# begin NAME: an export of vdb that takes a while.
begin()
{
    mkdir "$points/$1"
    settings "$points/$1" "ExportDirectory=$T/$1" DisksToExport=vdb Bandwidth=1M
    wait_for 10 shows state running "$points/$1/job/status"
}

# fails NAME SENTENCE
fails()
{
    export_ends 32768 "$points/$1"
    assert_says "$2" error "$points/$1/job/status"
    nothing_left "$T/$1" || fail "left: $(ls -aR "$T/$1")"
    wait_for 10 is_bare "$points/$1"
    [ -z "$(find "$T/scratch" "$T/run" -type f -o -type s)" ] || fail "scratch or socket left"
}

# completes NAME: with the data of its instant, of the size that the disk had.
completes()
{
    export_ends 0 "$points/$1"
    images_check "$T/$1"
    assert_reads 0xaa 8M 4M "$T/$1/vdb.qcow2"
    qemu-img info "$T/$1/vdb.qcow2" | grep -q "virtual size: 64 MiB" || fail "$1: another size"
}

runs_on()
{
    assert_equal running "$(virsh_ domstate web1)" "state of the VM"
}

# ---- their backup job is aborted: by whom does not matter ----

begin aborted
virsh_ domjobabort web1
fails aborted "ended during the export"
runs_on

# ---- they want one of their own: libvirt lets it wait for ours, and then it is theirs ----

foreign_backup_xml >"$T/backup.xml"
foreign_job_runs()
{
    virsh_ backup-dumpxml web1 2>/dev/null | grep -q "$T/foreign.sock" &&
        nbdinfo --size "nbd+unix:///vda?socket=$T/foreign.sock" >/dev/null 2>&1
}
begin asked
virsh_ backup-begin web1 "$T/backup.xml" >/dev/null &
foreign=$!
completes asked
wait "$foreign" || fail "the foreign job did not get its turn"
foreign_job_runs || fail "the foreign job is not there"
assert_fails_with "Device or resource busy" timeout 10 mkdir "$points/refused"
rmdir "$points/asked"
foreign_job_runs || fail "the foreign job was ended"
virsh_ domjobabort web1
no_job()
{
    ! virsh_ backup-dumpxml web1 >/dev/null 2>&1
}
wait_for 10 no_job
runs_on

# ---- a snapshot of theirs ----

begin snapped
virsh_ snapshot-create-as web1 theirs --disk-only >/dev/null 2>"$T/said" &
foreign=$!
completes snapped
wait "$foreign" || fail "the snapshot did not get its turn: $(cat "$T/said")"
virsh_ snapshot-info web1 theirs >/dev/null || fail "the snapshot is not there"
runs_on
mkdir "$points/after"
export_point "$points/after" "ExportDirectory=$T/after" DisksToExport=vdb
assert_reads 0xaa 8M 4M "$T/after/vdb.qcow2"

# ---- a disk that is resized: QEMU refuses, or the export is that of the instant ----

begin resized
virsh_ blockresize web1 vdb 96M >/dev/null 2>&1 || true
completes resized
runs_on

# ---- the power is cut ----

begin off
virsh_ destroy web1 >/dev/null
fails off "shut off"
wait_for 10 shows state "shut off" "$vm/info"
watch_end
[ ! -e "$T/hung" ] || fail "the mount did not answer: $(sort "$T/hung" | uniq -c)"
export_point "$points/off" "ExportDirectory=$T/off" DisksToExport=vdb
assert_reads 0xaa 8M 4M "$T/off/vdb.qcow2"
unmount_rp

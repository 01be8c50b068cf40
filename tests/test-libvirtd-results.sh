#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Each documented result, provoked for real: its number, name and sentence, the state of the job,
# and where the settings are refused at once, the errno that the program sees.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires setpriv prlimit tee
libvirtd_start

virsh_guest web1 --disks 2
virsh_ start web1 >/dev/null
# Threads of small stacks, so that the buffers of an export are the one big allocation.
ulimit -S -s 1024
mount_rp "$LIBVIRTD_URI" -o allow_other,group=64998
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 16M
mkdir "$points/old"
echo 0 >"$points/old/hold"
mkdir "$points/mon"
mkdir "$T/small" "$T/roots"
chmod 700 "$T/roots"
mount -t tmpfs -o size=6m tmpfs "$T/small"
cleanup_fn umount -l "$T/small"
foreign_backup_xml >"$T/backup.xml"

# ---- what provokes each, and prints what the program that wrote the settings said ----

# write POINT LINE...
write()
{
    local point=$points/$1
    shift
    { printf '%s\n' "$@" | LC_ALL=C tee "$point/export" >/dev/null; } 2>&1
}

# As a user who may export, but not write everywhere.
write_as_user()
{
    local point=$points/$1
    shift
    { printf '%s\n' "$@" | LC_ALL=C setpriv --reuid=64999 --regid=64999 --groups=64998 \
        tee "$point/export" >/dev/null; } 2>&1
}

provoke_0() { write mon "ExportDirectory=$T/done" KeepHold=yes; }
provoke_4096() { write mon "ExportDirectory=$T/out" DisksToExport=vdb Bandwidth=1M; }
provoke_32768() { write mon "ExportDirectory=$T/small/out"; }
provoke_32769() { write_as_user mon "ExportDirectory=$T/roots/out"; }
provoke_32770() { write mon "ExportDirectory=$T/out" BaseReferencePoint=old Format=raw; }
provoke_32771()
{
    write mon "ExportDirectory=$T/out" DisksToExport=vdb Bandwidth=1M
    wait_for 10 shows state running "$points/mon/job/status"
    kill_rp
    mount_rp "$LIBVIRTD_URI" -o allow_other,group=64998
    ready web1
    wait_for 10 test -d "$points/mon"
}
provoke_32772() { write mon "ExportDirectory=$T/out" DisksToExport=vdb Bandwidth=1M Timeout=1; }
provoke_32773() { write mon "ExportDirectory=$T/out" BaseReferencePoint=never; }
provoke_32774()
{
    echo 0 >"$points/mon/hold"
    virsh_ backup-begin web1 "$T/backup.xml" >/dev/null
    write mon "ExportDirectory=$T/out"
}
provoke_32775() { write old "ExportDirectory=$T/out" BaseReferencePoint=mon; }
provoke_32776() { write mon "ExportDirectory=$T/out" Bandwidth=fast; }
provoke_32777()
{
    virsh_ domjobabort web1
    libvirtd_stop KILL
    wait_for 10 shows connected no "$MNT/service/info"
    write mon "ExportDirectory=$T/out"
}
# Enough for threads and their buffers, not for the 18 MiB of an export.
provoke_32778()
{
    local used
    used=$(awk '/^VmSize:/ {print $2}' "/proc/$mount_pid/status") # in KiB
    prlimit --pid "$mount_pid" --as=$((used * 1024 + (12 << 20))):
    write mon "ExportDirectory=$T/out" DisksToExport=vdb
}

# ---- what must be seen of each ----

after_4096()
{
    assert_fails_with "Device or resource busy" write mon "ExportDirectory=$T/other"
    echo 1 >"$points/mon/job/cancel"
    export_ends 32768 "$points/mon"
    assert_shows state terminated "$points/mon/job/status"
}
after_32778()
{
    prlimit --pid "$mount_pid" --as=unlimited:
}

check()
{
    local number=$1 name=$2 point=$points/$3 state=$4 job_state=$5 errno=$6 sentence=$7 said row
    row=$(awk -F'\t' -v n="$number" '$1 == n {print $2}' "$MNT/service/results")
    assert_equal "$name" "$row" "name of $number in service/results"
    "provoke_$number" >"$T/said" || true
    said=$(<"$T/said")
    if [ "$errno" != - ]; then
        case $said in
        *": $errno") ;;
        *) fail "$number: the writer said '$said', not '$errno'" ;;
        esac
    else
        assert_equal "" "$said" "$number: what the writer said"
    fi
    if [ "$state" = running ]; then
        wait_for 10 shows state running "$point/job/status"
    else
        assert_equal "$number" "$(timeout 60 cat "$point/job/wait")" "wait of $number"
    fi
    assert_shows result "$number" "$point/job/status"
    assert_shows result_name "$name" "$point/job/status"
    assert_shows state "$state" "$point/job/status"
    assert_shows job_state "$job_state" "$point/job/status"
    if [ "$sentence" = - ]; then
        assert_shows error "" "$point/job/status"
    else
        assert_says "$sentence" error "$point/job/status"
    fi
    ! declare -F "after_$number" >/dev/null || "after_$number"
    [ ! -e "$T/out" ] || [ "$number" = 32771 ] || fail "$number left: $(ls -a "$T/out")"
}

seen=
while IFS=: read -r number name point state job_state errno sentence; do
    check "$number" "$name" "$point" "$state" "$job_state" "$errno" "$sentence" </dev/null
    seen+="$number "
done <<END
0:completed:mon:completed:7:-:-
4096:job-started:mon:running:4:-:-
32768:failed:mon:exception:10:-:No space left on device
32769:access-denied:mon:exception:10:Permission denied:line 1
32770:not-supported:mon:exception:10:Operation not supported:raw
32772:timeout:mon:exception:10:-:Timeout of 1 s reached
32773:invalid-parameter:mon:exception:10:Invalid argument:line 2
32775:invalid-state:old:exception:10:State not recoverable:mon
32776:incorrect-data-type:mon:exception:10:Bad message:line 2
32778:out-of-memory:mon:exception:10:-:out of memory
32771:status-unknown:mon:killed:9:-:the service ended
32774:in-use:mon:exception:10:-:another program
32777:not-available:mon:exception:10:-:libvirt
END
assert_equal "$(awk -F'\t' '$1 ~ /^[0-9]+$/ {print $1}' "$MNT/service/results" | sort -n)" \
    "$(printf '%s\n' $seen | sort -n)" "results of service/results that were provoked"
libvirtd_run
unmount_rp

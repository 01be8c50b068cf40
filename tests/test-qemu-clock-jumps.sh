#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The clock is set ahead by years and back again while a VM is held, exported and marked: no time
# limit comes early or late, holds stay, the mount answers, and points and exports go on.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img python3

shim=$(built libclock-shim.so)
YEARS=$((10 * 365 * 24 * 3600))

# clock_ahead SECONDS
clock_ahead()
{
    python3 -c '
import sys
sys.stdout.buffer.write(int(sys.argv[1]).to_bytes(8, "little", signed=True))' "$1" |
        dd of="$T/ahead" conv=notrunc status=none
    timeout 1 ls "$MNT/vms" "$MNT/jobs" >/dev/null || fail "ls hangs with the clock $1 s ahead"
    timeout 1 cat "$MNT/vms/web1/info" >/dev/null || fail "cat hangs with the clock $1 s ahead"
}

printf '\0\0\0\0\0\0\0\0' >"$T/ahead"
guest_new web1 --disks 2
# A sanitizer wants to be the first library; that it is not does no harm here.
CLOCK_SHIM=$T/ahead LD_PRELOAD=$shim ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 \
    mount_rp -o hold=30
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 16M
mkdir "$points/mon"

# An export that has time until it is done, but not years.
settings "$points/mon" "ExportDirectory=$T/mon" DisksToExport=vdb Bandwidth=2M Timeout=60 \
    KeepHold=yes
wait_for 10 shows state running "$points/mon/job/status"
clock_ahead $YEARS
assert_shows state running "$points/mon/job/status"
clock_ahead -$YEARS
assert_shows state running "$points/mon/job/status"
assert_shows elapsed "" "$points/mon/job/status" # rather none than one below zero
export_ends 0 "$points/mon"
images_check "$T/mon"
assert_reads 0xaa 8M 16M "$T/mon/vdb.qcow2"
assert_equal 1 "$(cat "$points/mon/hold")" "hold"

# One whose time is up, whatever the clock says.
settings "$points/mon" "ExportDirectory=$T/late" DisksToExport=vdb Bandwidth=1M Timeout=2 \
    KeepHold=yes
wait_for 10 shows state running "$points/mon/job/status"
clock_ahead 0
began=$SECONDS
assert_equal 32772 "$(timeout 30 cat "$points/mon/job/wait")" "result of a timeout"
[ $((SECONDS - began)) -lt 10 ] || fail "the timeout came after $((SECONDS - began)) s"

# What is marked and exported years ahead is as good as any.
clock_ahead $YEARS
echo 0 >"$points/mon/hold"
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" DisksToExport=vdb
clock_ahead 0
guest_write web1 --disk 1 0xbb 9M 1M
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed" DisksToExport=vdb BaseReferencePoint=tue
assert_reads 0xaa 8M 1M "$T/wed/vdb.qcow2"
assert_reads 0xbb 9M 1M "$T/wed/vdb.qcow2"
grep -qx mode=incremental "$T/wed/export.ini" || fail "wed is not incremental"

# A hold of its own time runs out in that time.
printf '%s\n' Name=thu Hold=2 >"$MNT/vms/web1/create"
clock_ahead -$YEARS
wait_for 10 is_bare "$points/thu"
clock_ahead 0
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An export directory that is removed in the middle makes the export fail with 32768 and a sentence;
# one that is renamed gets the export where it is then, and one put in its place gets nothing.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 6M
mkdir "$mon"

settings "$mon" "ExportDirectory=$T/out" DisksToExport=vdb Bandwidth=4M KeepHold=yes
wait_for 10 shows state running "$mon/job/status"
rmdir "$T/out"
export_ends 32768 "$mon"
[ -n "$(cat "$mon/job/error")" ] || fail "no sentence says why"
[ ! -e "$T/out" ] || fail "left: $(ls -aR "$T/out")"

settings "$mon" "ExportDirectory=$T/out" DisksToExport=vdb Bandwidth=4M KeepHold=yes
wait_for 10 shows state running "$mon/job/status"
mv "$T/out" "$T/moved"
mkdir "$T/out"
export_ends 0 "$mon"
nothing_left "$T/out" || fail "in the wrong place: $(ls -a "$T/out")"
[ -e "$T/moved/export.ini" ] || fail "no manifest: $(ls -a "$T/moved")"
assert_reads 0xaa 8M 6M "$T/moved/vdb.qcow2"

# Cancelled, nothing is left there either.
settings "$mon" "ExportDirectory=$T/again" DisksToExport=vdb Bandwidth=1M KeepHold=yes
wait_for 10 shows state running "$mon/job/status"
mv "$T/again" "$T/elsewhere"
echo 1 >"$mon/job/cancel"
export_ends 32768 "$mon"
[ ! -e "$T/elsewhere" ] || fail "left: $(ls -a "$T/elsewhere")"
unmount_rp

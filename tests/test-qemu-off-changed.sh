#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# While a VM that is off is exported, nothing keeps others from opening its images; that one did is
# found out, and the export ends as invalid-state with nothing left.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io qemu-storage-daemon

guest_new web1 --disks 2
rm "$ROOT/etc/qemu/autostart/web1.xml"
image=$T/web1-vdb.qcow2
qemu-io -f qcow2 -c "write -q -P 0xaa 8M 8M" "$image"
mount_rp
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
vm=$MNT/vms/web1

settings "$vm" "ExportDirectory=$T/out" DisksToExport=vdb Bandwidth=4M
wait_for 10 shows state running "$vm/job/status"
# With its lock, as a VM that starts would: it must be had.
qemu-io -f qcow2 -c "write -q -P 0xbb 9M 64k" "$image"
export_ends 32775 "$vm"
assert_says "images were written to" error "$vm/job/status"
[ ! -e "$T/out" ] || fail "left: $(ls -aR "$T/out")"

# Undisturbed it works.
export_point "$vm" "ExportDirectory=$T/out" DisksToExport=vdb
assert_same "$image" "$T/out/vdb.qcow2"
unmount_rp
[ -z "$(find "$T/run" "$T/scratch" -type s -o -type f)" ] || fail "left: $(find "$T/run")"

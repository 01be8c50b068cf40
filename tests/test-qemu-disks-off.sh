#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# While a VM that is shut off is exported as a new reference point, the disks of that can be read;
# with the export's end they are gone.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io qemu-storage-daemon

guest_new web1 --disks 2
mv "$ROOT/etc/qemu/autostart/web1.xml" "$T/autostart"
qemu-io -f qcow2 -c "write -q -P 0xaa 8M 4M" "$T/web1-vdb.qcow2"
qemu-img convert -O raw "$T/web1-vdb.qcow2" "$T/raw"
mount_rp
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
vm=$MNT/vms/web1
mon=$vm/refpoints/mon
printf '%s\n' "ExportDirectory=$T/mon" ReferencePoint=mon Bandwidth=64K >"$vm/export"
wait_for 10 test -e "$mon/disks/vdb.img"
cmp "$T/raw" "$mon/disks/vdb.img"
assert_equal "8388608 4194304" "$(awk '$3 ~ /data/ { print $1, $2 }' "$mon/disks/vdb.map")"
assert_shows state running "$vm/job/status"
exec {image}<"$mon/disks/vdb.img"
echo 1 >"$vm/job/cancel"
export_ends 32768 "$vm"
assert_equal "" "$(ls "$mon/disks" 2>/dev/null)"
assert_fails_with "No such device" dd bs=4096 skip=100 status=none <&$image
exec {image}<&-
unmount_rp

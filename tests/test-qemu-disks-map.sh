#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A disk's map has what changed since the hold's base, zeros told from data; without a base, all
# that has data, as qemu-img map tells it.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0x11 1M 4M
guest_write web1 --disk 1 0x22 40M 64k
mkdir "$points/mon"
assert_equal "1048576 4194304 data 41943040 65536 data" \
    "$(xargs <"$points/mon/disks/vdb.map")" "map of what is held in full"
echo 0 >"$points/mon/hold"

guest_write web1 --disk 1 zero 2M 1M
guest_write web1 --disk 1 0x33 8M 192k
guest_write web1 --disk 1 0x44 50000k 1k
mkdir "$points/tue"
assert_shows disk.vdb.base mon "$points/tue/info"
guest_write web1 --disk 1 0x55 20M 1M
assert_equal "2097152 1048576 zero 8388608 196608 data 51183616 65536 data" \
    "$(xargs <"$points/tue/disks/vdb.map")" "map of what changed"
# The exact size, and any part of it, as a program may ask for it.
map=$points/tue/disks/vdb.map
assert_equal "$(cat "$map" | wc -c)" "$(stat -c %s "$map")" "size of the map"
assert_equal "$(tail -c +10 "$map")" "$(dd if="$map" bs=1 skip=9 status=none)" "part of the map"

# The image is the whole disk all the same.
cp "$points/tue/disks/vdb.img" "$T/vdb.raw"
settings "$points/tue" "ExportDirectory=$T/full" DisksToExport=vdb
export_ends 0 "$points/tue"
assert_same "$T/full/vdb.qcow2" "$T/vdb.raw"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A target without enough space makes the export fail with 32768 and a sentence; nothing is left,
# and the hold is there for another try.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img
[ "$(id -u)" = 0 ] || skip "only root can mount a small file system"

mkdir "$T/small"
mount -t tmpfs -o size=6m,mode=700 tmpfs "$T/small" || skip "cannot mount a tmpfs"
cleanup_fn umount -l "$T/small"

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 16M
mkdir "$mon"
for format in qcow2 raw; do
    settings "$mon" "ExportDirectory=$T/small/mon" "Format=$format"
    export_ends 32768 "$mon"
    assert_says "No space left on device" error "$mon/job/status"
    [ ! -e "$T/small/mon" ] || fail "left: $(ls -aR "$T/small")"
    settings "$mon" "ExportDirectory=$T/small" "Format=$format"
    export_ends 32768 "$mon"
    assert_equal "" "$(ls -A "$T/small")" "files left"
done
export_point "$mon" "ExportDirectory=$T/mon"
assert_reads 0xaa 8M 16M "$T/mon/vdb.qcow2"
unmount_rp

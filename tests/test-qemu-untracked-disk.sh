#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A disk without change tracking is left out of reference points, and the VM's info says why; a VM
# that has no other cannot be marked.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
guest_new web2
to_raw()
{
    qemu-img convert -O raw "$T/$1.qcow2" "$T/$1.raw"
    # The disk's driver stands on the line before its source.
    local definition=$ROOT/etc/qemu/${1%-*}.xml
    sed -i "N;s|type='qcow2'/>\n\(.*\)$1.qcow2|type='raw'/>\n\1$1.raw|;P;D" "$definition"
    grep -q "$1.raw" "$definition" || fail "the definition was not changed"
}
to_raw web1-vdb
to_raw web2-vda
mount_rp
ready web1 web2
assert_shows disk.vda.tracked yes "$MNT/vms/web1/info"
assert_shows disk.vdb.tracked no "$MNT/vms/web1/info"
assert_says qcow2 disk.vdb.why_not "$MNT/vms/web1/info"

mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
assert_shows disks vda "$mon/info"
assert_fails_with "Invalid argument" settings "$mon" "ExportDirectory=$T/no" DisksToExport=vdb
export_point "$mon" "ExportDirectory=$T/mon"
[ ! -e "$T/mon/vdb.qcow2" ] || fail "vdb was exported"
assert_shows left_out vdb "$T/mon/export.ini"

assert_fails_with "not supported" mkdir "$MNT/vms/web2/refpoints/mon"
assert_says "32770 " last_refusal "$MNT/vms/web2/info"
assert_equal "" "$(ls "$MNT/vms/web2/refpoints")" "reference points of web2"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# libvirtd restarts during an export. QEMU goes on, and with it the held data: the export ends well
# and shows its instant, or fails with a result; it never hangs, nor leaves half an export.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
libvirtd_start

virsh_guest web1 --disks 2
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 6M
mkdir "$points/mon"
guest_write web1 --disk 1 0xbb 8M 6M
settings "$points/mon" "ExportDirectory=$T/mon" DisksToExport=vdb Bandwidth=2M
wait_for 10 shows state running "$points/mon/job/status"
libvirtd_stop
libvirtd_run

result=$(timeout 60 cat "$points/mon/job/wait")
if [ "$result" = 0 ]; then
    images_check "$T/mon"
    assert_reads 0xaa 8M 6M "$T/mon/vdb.qcow2"
else
    [ -n "$(cat "$points/mon/job/error")" ] || fail "result $result, but no sentence"
    nothing_left "$T/mon" || fail "result $result, but left: $(ls -aR "$T/mon")"
fi
wait_for 20 shows connected yes "$MNT/service/info"
echo 0 >"$points/mon/hold"
wait_for 10 is_bare "$points/mon"
can_mark()
{
    mkdir "$points/tue" 2>/dev/null
}
wait_for 10 can_mark
export_point "$points/tue" "ExportDirectory=$T/tue"
assert_reads 0xbb 8M 6M "$T/tue/vdb.qcow2"
unmount_rp

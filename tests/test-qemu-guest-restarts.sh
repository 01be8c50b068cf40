#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Reference points survive a clean stop and start of the VM: an increment since one of before shows
# its instant.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 0xaa 32M 2M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
guest_write web1 0xbb 33M 2M
pid=$(pid_of_guest web1)
hmp web1 quit >/dev/null 2>&1 || true
wait_for 10 process_is_gone "$pid"
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
[ -d "$points/mon" ] || fail "the reference point went with the VM's process"
unmount_rp

guests_start_again
mount_rp
ready web1
wait_for 5 shows disk.vda.health ok "$points/mon/info"
mkdir "$points/tue"
assert_shows disk.vda.base mon "$points/tue/info"
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon \
    "BaseExportDirectory=$T/mon"
assert_same "$T/full/vda.qcow2" "$T/tue/vda.qcow2"
assert_reads 0xaa 32M 1M "$T/tue/vda.qcow2"
assert_reads 0xbb 33M 2M "$T/tue/vda.qcow2"
unmount_rp

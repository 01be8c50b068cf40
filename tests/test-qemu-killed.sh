#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# After kill -9 of the service a new mount takes its hold over: it goes on holding the same instant,
# and full export and delta are exact, though the guest has written on all the time.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 1M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
guest_write web1 --disk 1 0xbb 9M 1M
mkdir "$points/tue"
guest_write web1 --disk 1 0xcc 8M 4M
kill_rp
guest_write web1 --disk 1 0xdd 8M 4M

[ -n "$(pid_of_guest web1)" ] || fail "the guest ended with the service"
mount_rp
ready web1
wait_for 5 test -d "$points/tue"
assert_equal 1 "$(cat "$points/tue/hold")" "hold of the service before"
assert_equal 0 "$(cat "$points/mon/hold")" "hold of the other point"
assert_shows held tue "$MNT/vms/web1/info"
assert_shows disk.vdb.base mon "$points/tue/info"
assert_fails_with "Device or resource busy" mkdir "$points/wed"

export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
assert_shows exact yes "$points/tue/job/status"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
assert_shows exact yes "$points/tue/job/status"
assert_reads 0xaa 8M 1M "$T/tue/vdb.qcow2"
assert_reads 0xbb 9M 1M "$T/tue/vdb.qcow2"
for disk in vda vdb; do
    assert_same "$T/full/$disk.qcow2" "$T/tue/$disk.qcow2"
done
counter_of "$T/tue/vda.qcow2" >/dev/null

# It ended with the export, as any does, and the VM is free.
assert_equal 0 "$(cat "$points/tue/hold")" "hold after the export"
mkdir "$points/wed"
assert_shows parent tue "$points/wed/info"
rmdir "$points/mon"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Full and incremental exports through libvirtd, with QEMU running as libvirt's user, show their
# instants.
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
live=$T/web1-vda.qcow2

guest_write web1 --disk 1 0xaa 8M 4M
min=$(counter_bound "$live")
mkdir "$points/mon"
max=$(counter_bound "$live")
guest_write web1 --disk 1 0xbb 8M 1M
export_point "$points/mon" "ExportDirectory=$T/mon"
counter_of "$T/mon/vda.qcow2" "$min" "$max" >/dev/null || fail "not the instant of mkdir"
assert_reads 0xaa 8M 4M "$T/mon/vdb.qcow2"

min=$(counter_bound "$live")
mkdir "$points/tue"
max=$(counter_bound "$live")
guest_write web1 --disk 1 0xcc 8M 4M
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
counter_of "$T/tue/vda.qcow2" "$min" "$max" >/dev/null || fail "not the instant of mkdir"
for disk in vda vdb; do
    assert_same "$T/full/$disk.qcow2" "$T/tue/$disk.qcow2"
done
assert_reads 0xbb 8M 1M "$T/tue/vdb.qcow2"
assert_reads 0xaa 9M 3M "$T/tue/vdb.qcow2"

# What QEMU was given to write lies open to nobody, and is gone with the hold.
mkdir "$points/wed"
for folder in "$T/scratch" "$T/run"; do
    for file in "$folder"/*; do
        assert_equal 700 "$(stat -c %a "$file")" "mode of $file"
    done
done
echo 0 >"$points/wed/hold"
gone()
{
    [ -z "$(find "$T/scratch" "$T/run" -type f -o -type s)" ]
}
wait_for 5 gone
unmount_rp

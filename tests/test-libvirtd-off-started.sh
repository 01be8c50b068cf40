#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A VM that is started while its images are being exported starts as if nothing were: the export
# ends as invalid-state and leaves nothing, and the VM can be marked and exported at once.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires qemu-storage-daemon qemu-io
libvirtd_start

virsh_guest web1 --disks 2
image=$T/web1-vdb.qcow2
qemu-io -f qcow2 -c "write -q -P 0xaa 8M 8M" "$image"
mount_rp "$LIBVIRTD_URI"
vm=$MNT/vms/web1
wait_for 10 test -d "$vm"
wait_for 10 shows state "shut off" "$vm/info"

# As a delta as well: the bitmap that is read is the one that the VM's QEMU takes over.
mkdir "$vm/refpoints/mon"
export_point "$vm/refpoints/mon" "ExportDirectory=$T/mon"
chown libvirt-qemu: "$T"/web1-*.qcow2
qemu-io -f qcow2 -c "write -q -P 0xbb 8M 8M" "$image"
for base in "" BaseReferencePoint=mon; do
    settings "$vm" "ExportDirectory=$T/out" DisksToExport=vdb Bandwidth=2M $base
    wait_for 10 shows state running "$vm/job/status"
    virsh_ start web1 >/dev/null
    export_ends 32775 "$vm"
    assert_says "was started" error "$vm/job/status"
    [ ! -e "$T/out" ] || fail "left: $(ls -aR "$T/out")"
    assert_equal running "$(virsh_ domstate web1)" "state of the VM"
    ready web1
    [ -n "$base" ] || {
        virsh_ destroy web1 >/dev/null
        rm "$T/web1.serial"
        wait_for 10 shows state "shut off" "$vm/info"
    }
done

guest_write web1 --disk 1 0xcc 9M 1M
mkdir "$vm/refpoints/tue"
export_point "$vm/refpoints/tue" "ExportDirectory=$T/full" KeepHold=yes
assert_reads 0xcc 9M 1M "$T/full/vdb.qcow2"
assert_reads 0xbb 10M 6M "$T/full/vdb.qcow2"
unmount_rp

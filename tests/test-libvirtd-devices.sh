#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Disks on block devices, qcow2 and raw, are marked and exported whether the VM is off or runs; that
# one of them is written to while it is exported, off, is found out; and a LUN that is handed through
# to the guest is left out, as the manifest says.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires qemu-storage-daemon qemu-io losetup
libvirtd_start

virsh_guest web1

# device NAME SIZE: a loop device, whose path goes to `device`.
device()
{
    truncate -s "$2" "$T/$1"
    device=$(losetup --find --show "$T/$1" 2>/dev/null) || skip "no loop devices here"
    cleanup_fn losetup -d "$device"
    [ -b "$device" ] || skip "no loop devices here"
    chown libvirt-qemu: "$device"
    cleanup_fn chown root:disk "$device"
}
device tracked 80M
tracked=$device
device raw 32M
raw=$device
qemu-img create -q -f qcow2 "$tracked" 64M
qemu-io -f qcow2 -c "write -q -P 0xaa 8M 8M" "$tracked"
qemu-io -f raw -c "write -q -P 0xab 8M 8M" "$raw"

virsh_add web1 "$(disk_xml block qcow2 vdb "<source dev='$tracked'/>")"
virsh_add web1 "$(disk_xml block raw vdc "<source dev='$raw'/>")"

mount_rp "$LIBVIRTD_URI"
vm=$MNT/vms/web1
points=$vm/refpoints
wait_for 10 test -d "$vm"
wait_for 10 shows state "shut off" "$vm/info"

# Off.
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
assert_same "$tracked" "$T/mon/vdb.qcow2"
qemu-io -f qcow2 -c "write -q -P 0xbb 9M 1M" "$tracked"
settings "$vm" "ExportDirectory=$T/off" BaseReferencePoint=mon IfBaseLost=full
export_ends 0 "$vm"
images_check "$T/off"
assert_equal "incremental incremental full" "$(sed -n 's/^mode=//p' "$T/off/export.ini" | xargs)" \
    "modes"
assert_same "$tracked" "$T/off/vdb.qcow2"
assert_same "$raw" "$T/off/vdc.qcow2"

# Written to meanwhile, by a node of its own, as libvirt gives each QEMU: ours does not tell.
for disk in "vdb qcow2 $tracked" "vdc raw $raw"; do
    # shellcheck disable=SC2086
    set -- $disk
    settings "$vm" "ExportDirectory=$T/harmed" "DisksToExport=$1" Bandwidth=6M
    wait_for 10 shows state running "$vm/job/status"
    mknod "$T/node" b "0x$(stat -c %t "$3")" "0x$(stat -c %T "$3")"
    dd if="$T/node" of="$T/read" count=1 2>/dev/null || skip "device nodes cannot be used in $T"
    qemu-io -f "$2" -t none -c "write -q -P 0xcc 10M 64k" "$T/node"
    rm "$T/node"
    export_ends 32775 "$vm"
    assert_says "written to" error "$vm/job/status"
    [ ! -e "$T/harmed" ] || fail "left: $(ls -A "$T/harmed")"
done

# What is handed through to the guest cannot be held: not by the way, and not without a word.
virsh_guest web2
virsh_add web2 "<disk type='block' device='lun'><driver name='qemu' type='raw'/>
<source dev='$raw'/><target dev='sda' bus='scsi'/></disk>"
lun=$MNT/vms/web2
wait_for 10 test -d "$lun"
wait_for 10 shows disk.sda.tracked no "$lun/info"
assert_says "handed through" disk.sda.why_not "$lun/info"
assert_fails_with "Invalid argument" settings "$lun" "ExportDirectory=$T/lun" DisksToExport=sda
settings "$lun" "ExportDirectory=$T/lun"
export_ends 0 "$lun"
assert_shows left_out sda "$T/lun/export.ini"
[ ! -e "$T/lun/sda.qcow2" ] || fail "sda was exported"

# Running.
virsh_ start web1 >/dev/null
ready web1
guest_write web1 --disk 1 0xdd 11M 1M
guest_write web1 --disk 2 0xde 11M 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
settings "$vm" "ExportDirectory=$T/on"
export_ends 0 "$vm"
images_check "$T/on"
for folder in tue on; do
    assert_same "$tracked" "$T/$folder/vdb.qcow2"
done
assert_same "$raw" "$T/on/vdc.qcow2"
unmount_rp

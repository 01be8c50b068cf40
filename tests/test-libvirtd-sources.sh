#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Disks that are volumes of a storage pool, or come over the network, are marked and exported as
# files are. Of a VM that is off, a volume is found through its pool; what is on the network cannot
# be read, and is refused by name instead of being left out.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires qemu-storage-daemon qemu-nbd
libvirtd_start

virsh_guest web1
mkdir "$T/pool"
qemu-img create -q -f qcow2 "$T/pool/volume" 64M
qemu-img create -q -f qcow2 "$T/tracked" 64M
qemu-img create -q -f raw "$T/raw" 64M
virsh_ pool-define-as pool dir --target "$T/pool" >/dev/null
virsh_ pool-start pool >/dev/null

# serve NAME: the file over NBD, for as long as the test runs.
serve()
{
    qemu-nbd --persistent --fork --pid-file="$T/$1.pid" -f raw -e 9 -k "$T/$1.sock" "$T/$1"
    cleanup_fn kill "$(cat "$T/$1.pid")"
    chown libvirt-qemu: "$T/$1.sock"
}
serve tracked
serve raw

nbd()
{
    echo "<source protocol='nbd' name=''><host transport='unix' socket='$T/$1.sock'/></source>"
}
virsh_add web1 "$(disk_xml volume qcow2 vdb "<source pool='pool' volume='volume'/>")"
virsh_add web1 "$(disk_xml network qcow2 vdc "$(nbd tracked)")"
virsh_add web1 "$(disk_xml network raw vdd "$(nbd raw)")"

mount_rp "$LIBVIRTD_URI"
vm=$MNT/vms/web1
points=$vm/refpoints
wait_for 10 test -d "$vm"
wait_for 10 shows state "shut off" "$vm/info"
wait_for 10 shows disk.vdb.source "$T/pool/volume" "$vm/info"
assert_shows disk.vdc.source nbd: "$vm/info"
assert_shows disk.vdc.tracked yes "$vm/info"
assert_shows disk.vdd.tracked no "$vm/info"

# Off: never less than was asked for.
assert_fails_with "Operation not supported" mkdir "$points/no"
assert_says "disk 'vdc' (nbd:)" last_refusal "$vm/info"
settings "$vm" "ExportDirectory=$T/no"
export_ends 32770 "$vm"
assert_says "disk 'vdc' (nbd:)" error "$vm/job/status"
[ ! -e "$T/no" ] || fail "left: $(ls -A "$T/no")"
printf '%s\n' Name=mon DisksToExport=vda,vdb >"$vm/create"
wait_for 10 test -d "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
chown -R libvirt-qemu: "$T/pool"

virsh_ start web1 >/dev/null
ready web1
guest_write web1 --disk 1 0xbb 8M 1M
guest_write web1 --disk 2 0xcc 8M 1M
guest_write web1 --disk 3 0xdd 8M 1M
mkdir "$points/tue"
assert_shows disks "vda vdb vdc" "$points/tue/info"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon IfBaseLost=full
assert_equal "incremental incremental full" "$(sed -n 's/^mode=//p' "$T/tue/export.ini" | xargs)" \
    "modes"
assert_shows left_out vdd "$T/tue/export.ini"
settings "$vm" "ExportDirectory=$T/all"
export_ends 0 "$vm"
assert_shows left_out "" "$T/all/export.ini"
images_check "$T/all"
assert_equal "vda vdb vdc vdd" \
    "$(sed -n 's/^\[disk \(.*\)\]/\1/p' "$T/all/export.ini" | xargs)" "disks of the whole VM"
for folder in tue all; do
    assert_same "$T/pool/volume" "$T/$folder/vdb.qcow2"
    assert_same "nbd+unix:///?socket=$T/tracked.sock" "$T/$folder/vdc.qcow2"
done
assert_same "nbd+unix:///?socket=$T/raw.sock" "$T/all/vdd.qcow2"

# A delta of all that can have one.
guest_write web1 --disk 2 0xee 9M 1M
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed" BaseReferencePoint=tue
assert_same "nbd+unix:///?socket=$T/tracked.sock" "$T/wed/vdc.qcow2"
assert_fails_with "Operation not supported" \
    settings "$vm" "ExportDirectory=$T/no" BaseReferencePoint=wed
assert_says "disk 'vdd'" last_refusal "$vm/job/status"

# Off again, points cannot be removed from the network's image, and none is forgotten.
virsh_ destroy --graceful web1 >/dev/null
wait_for 10 shows state "shut off" "$vm/info"
assert_fails_with "not supported" rmdir "$points/wed"
assert_says "disk 'vdc' (nbd:)" last_refusal "$vm/info"
[ -d "$points/wed" ] || fail "wed is gone"
rmdir "$points/mon"
unmount_rp

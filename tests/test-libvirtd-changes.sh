#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Changes of a VM's disks that libvirt tells nobody of are known when they matter: a disk that came
# is marked and exported, one that went is missed by name, and a point goes into the image that is
# topmost now. Settings that come line by line, as bash writes them, are judged when all are there.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires qemu-storage-daemon qemu-io
libvirtd_start

virsh_guest web1 --disks 2
mount_rp "$LIBVIRTD_URI"
vm=$MNT/vms/web1
points=$vm/refpoints
wait_for 10 test -d "$vm"
wait_for 10 shows disks "vda vdb" "$vm/info"
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"

# One comes.
qemu-img create -q -f qcow2 "$T/new.qcow2" 16M
virsh_ attach-disk web1 "$T/new.qcow2" vdc --subdriver qcow2 --config >/dev/null
settings "$vm" "ExportDirectory=$T/three"
export_ends 0 "$vm"
assert_equal "vda vdb vdc" "$(sed -n 's/^\[disk \(.*\)\]/\1/p' "$T/three/export.ini" | xargs)" \
    "disks of the export"
qemu-img create -q -f qcow2 "$T/newer.qcow2" 16M
virsh_ attach-disk web1 "$T/newer.qcow2" vdd --subdriver qcow2 --config >/dev/null
printf '%s\n' Name=one DisksToExport=vdd >"$vm/create"
wait_for 10 test -d "$points/one"
rmdir "$points/one"
virsh_ detach-disk web1 vdd --config >/dev/null
mkdir "$points/tue"
assert_shows disks "vda vdb vdc" "$points/tue/info"
wait_for 30 shows disks "vda vdb vdc" "$vm/info"

# Its base does not know it, which a line that comes later sets right.
{
    echo "ExportDirectory=$T/tue"
    echo BaseReferencePoint=mon
    echo IfBaseLost=full
} >"$points/tue/export"
export_ends 0 "$points/tue"
assert_equal "incremental incremental full" "$(sed -n 's/^mode=//p' "$T/tue/export.ini" | xargs)" \
    "modes"
{
    echo "ExportDirectory=$T/no"
    echo BaseReferencePoint=mon
} >"$points/tue/export"
wait_for 10 shows result 32775 "$points/tue/job/status"
assert_says "disk 'vdc'" error "$points/tue/job/status"
# All in one write, of a program that ignores what close says.
python3 - "$points/tue/export" "$T/no" <<'END'
import errno, os, sys
file = os.open(sys.argv[1], os.O_WRONLY)
try:
    os.write(file, f"ExportDirectory={sys.argv[2]}\nBaseReferencePoint=mon\n".encode())
    sys.exit("the write was not refused")
except OSError as error:
    assert error.errno == errno.ENOTRECOVERABLE, error
END
[ ! -e "$T/no" ] || fail "an export began"

# One goes.
virsh_ detach-disk web1 vdb --config >/dev/null
assert_fails_with "not recoverable" settings "$points/mon" "ExportDirectory=$T/no"
assert_says "covers disk 'vdb', which VM 'web1' has no longer" error "$points/mon/job/status"
{
    echo "ExportDirectory=$T/rest"
    echo DisksToExport=vda
} >"$points/mon/export"
export_ends 0 "$points/mon"
assert_shows exact yes "$points/mon/job/status"

# Another image above, put there by hand while the VM is off, without the bitmaps that libvirt would
# begin in it: the changes since tue are not known any more.
qemu-img create -q -f qcow2 -b "$T/web1-vda.qcow2" -F qcow2 "$T/s1.qcow2"
virsh_ dumpxml --inactive web1 | sed "s|$T/web1-vda.qcow2|$T/s1.qcow2|" >"$T/new.xml"
virsh_ define "$T/new.xml" >/dev/null
mkdir "$points/wed"
qemu-img info -U "$T/s1.qcow2" | grep -q "name: wed" || fail "wed is not in the new image"
! qemu-img info -U "$T/web1-vda.qcow2" | grep -q "name: wed" || fail "wed is in the old image"
assert_fails_with "not recoverable" settings "$points/wed" "ExportDirectory=$T/no" \
    BaseReferencePoint=tue DisksToExport=vda
assert_says "disk 'vda' since 'tue'" error "$points/wed/job/status"
export_point "$points/wed" "ExportDirectory=$T/wed"
assert_same "$T/s1.qcow2" "$T/wed/vda.qcow2"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An encrypted disk is exported while the VM runs, as the guest sees it, and the manifest says that
# it is encrypted no longer; while the VM is off it is refused by name, for the secret is libvirt's.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires qemu-storage-daemon qemu-io
libvirtd_start

secret=5b2f2f0e-6f0a-4a3e-9b1f-7d8c3e5a9012
virsh_guest web1
# QEMU measures how fast it is, and gives up when a busy machine's clock says that it took no time.
luks_create()
{
    qemu-img create -q -f qcow2 --object secret,id=s,data=abc \
        -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 "$T/luks.qcow2" 32M
}
wait_for 60 luks_create
chown libvirt-qemu: "$T/luks.qcow2"
cat >"$T/secret.xml" <<END
<secret ephemeral='no' private='yes'><uuid>$secret</uuid>
  <usage type='volume'><volume>$T/luks.qcow2</volume></usage></secret>
END
virsh_ secret-define "$T/secret.xml" >/dev/null
printf abc >"$T/secret"
virsh_ secret-set-value "$secret" --file "$T/secret" --plain >/dev/null
virsh_add web1 "$(disk_xml file qcow2 vdb "<source file='$T/luks.qcow2'><encryption format='luks'>
<secret type='passphrase' uuid='$secret'/></encryption></source>")"

mount_rp "$LIBVIRTD_URI"
vm=$MNT/vms/web1
points=$vm/refpoints
wait_for 10 test -d "$vm"
wait_for 10 shows state "shut off" "$vm/info"
assert_fails_with "Operation not supported" mkdir "$points/mon"
assert_says "disk 'vdb' ($T/luks.qcow2) is encrypted" last_refusal "$vm/info"
printf '%s\n' Name=mon DisksToExport=vda >"$vm/create"
wait_for 10 test -d "$points/mon"
chown libvirt-qemu: "$T"/*.qcow2

virsh_ start web1 >/dev/null
ready web1
guest_write web1 --disk 1 0xaa 8M 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue"
assert_reads 0xaa 8M 1M "$T/tue/vdb.qcow2"
assert_says "the disk is encrypted, this file is not" why <(sed -n '/disk vdb/,$p' "$T/tue/export.ini")
assert_shows why "no base was asked for" <(sed -n '/disk vda/,/^$/p' "$T/tue/export.ini")
guest_write web1 --disk 1 0xbb 9M 1M
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed" BaseReferencePoint=tue
assert_reads 0xaa 8M 1M "$T/wed/vdb.qcow2"
assert_reads 0xbb 9M 1M "$T/wed/vdb.qcow2"
unmount_rp

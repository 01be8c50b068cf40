#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Bitmaps that outlived the definition of their VM are left alone: a reference point of such a name
# is refused as one that exists, with what to do, and one of another name can be made.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
libvirtd_start

virsh_guest web1
mount_rp "$LIBVIRTD_URI"
vm=$MNT/vms/web1
points=$vm/refpoints
wait_for 10 test -d "$vm"
mkdir "$points/mon"
virsh_ undefine --checkpoints-metadata web1 >/dev/null
wait_for 10 test ! -e "$vm"
chown libvirt-qemu: "$T"/*.qcow2

# is_refused: mon is, and nothing is left of the try.
is_refused()
{
    wait_for 10 test -d "$points"
    assert_equal "" "$(ls "$points")" "reference points"
    assert_fails_with "File exists" mkdir "$points/mon"
    assert_says "a disk has a bitmap 'mon' already" last_refusal "$vm/info"
    assert_equal "" "$(ls "$points")" "reference points"
    qemu-img info -U "$T/web1-vda.qcow2" | grep -q "name: mon" || fail "the bitmap is gone"
}

virsh_ define "$T/web1.xml" >/dev/null
is_refused
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue"
rmdir "$points/tue"

# A transient VM: it runs.
virsh_ undefine web1 >/dev/null
wait_for 10 test ! -e "$vm"
chown libvirt-qemu: "$T"/*.qcow2
virsh_ create "$T/web1.xml" >/dev/null
ready web1
is_refused
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed"
counter_of "$T/wed/vda.qcow2" >/dev/null
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The definition in an export is the machine of the instant, whatever became of it since; that of an
# export of a later moment is of that moment.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires xmllint
libvirtd_start

virsh_guest web1
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
points=$MNT/vms/web1/refpoints
title()
{
    xmllint --xpath 'string(/domain/title)' "$1/domain.xml"
}

virsh_ desc web1 --live --config --title "as of mon & before" >/dev/null
mkdir "$points/mon"
qemu-img create -q -f qcow2 "$T/later.qcow2" 1M
chown libvirt-qemu: "$T/later.qcow2"
virsh_ attach-disk web1 "$T/later.qcow2" vdx --subdriver qcow2 --live >/dev/null
virsh_ desc web1 --live --config --title later >/dev/null
export_point "$points/mon" "ExportDirectory=$T/mon"
assert_equal "as of mon & before" "$(title "$T/mon")" "title of the definition"
assert_equal 1 "$(xmllint --xpath 'count(//disk)' "$T/mon/domain.xml")" "number of its disks"
virt-xml-validate "$T/mon/domain.xml" domain >/dev/null || fail "libvirt's schema refuses it"

# Written to since, and no longer held.
export_point "$points/mon" "ExportDirectory=$T/bare"
assert_shows exact no "$points/mon/job/status"
assert_equal later "$(title "$T/bare")" "title of the definition"
unmount_rp

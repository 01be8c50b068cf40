#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# VMs do not stand in each other's way: three are held, exported and let go at the same time.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

for vm in web1 web2 web3; do
    guest_new $vm
done
mount_rp -o jobs=2
ready web1 web2 web3
for vm in web1 web2 web3; do
    mkdir "$MNT/vms/$vm/refpoints/mon"
done
assert_shows holds 3 "$MNT/service/info"
for vm in web1 web2 web3; do
    settings "$MNT/vms/$vm/refpoints/mon" "ExportDirectory=$T/$vm"
done
for vm in web1 web2 web3; do
    export_ends 0 "$MNT/vms/$vm/refpoints/mon"
    images_check "$T/$vm"
    counter_of "$T/$vm/vda.qcow2" >/dev/null
    grep -qx "vm=$vm" "$T/$vm/export.ini" || fail "export.ini of $vm names another VM"
done
assert_shows holds 0 "$MNT/service/info"
assert_shows jobs_ended 3 "$MNT/service/info"
assert_equal "1 2 3" "$(ls "$MNT/jobs" | sort -n | xargs)" jobs
unmount_rp

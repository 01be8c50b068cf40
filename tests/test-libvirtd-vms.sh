#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# VMs that virsh defines, starts, suspends, stops, renames and undefines show in the mount as they
# are, without anybody asking libvirt.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
libvirtd_start

mount_rp "$LIBVIRTD_URI"
wait_for 10 shows connected yes "$MNT/service/info"
assert_equal "" "$(ls "$MNT/vms")" VMs

virsh_guest web1
wait_for 5 test -d "$MNT/vms/web1"
wait_for 5 shows state "shut off" "$MNT/vms/web1/info"
assert_shows persistent yes "$MNT/vms/web1/info"
assert_shows uuid "$(virsh_ domuuid web1)" "$MNT/vms/web1/info"
assert_shows disk.vda.source "$T/web1-vda.qcow2" "$MNT/vms/web1/info"
grep -q "<name>web1</name>" "$MNT/vms/web1/domain.xml" || fail "domain.xml is not that of web1"

virsh_ start web1 >/dev/null
wait_for 5 shows state running "$MNT/vms/web1/info"
virsh_ suspend web1 >/dev/null
wait_for 5 shows state paused "$MNT/vms/web1/info"
virsh_ resume web1 >/dev/null
wait_for 5 shows state running "$MNT/vms/web1/info"
virsh_ destroy web1 >/dev/null
wait_for 5 shows state "shut off" "$MNT/vms/web1/info"

virsh_ domrename web1 db1 >/dev/null
wait_for 5 test -d "$MNT/vms/db1"
wait_for 5 test ! -e "$MNT/vms/web1"
assert_equal db1 "$(ls "$MNT/vms")" "VMs after the new name"
assert_shows name db1 "$MNT/vms/db1/info"

# A transient VM is there for as long as it runs.
virsh_ undefine db1 >/dev/null
wait_for 5 test ! -e "$MNT/vms/db1"
assert_equal "" "$(ls "$MNT/vms")" "VMs after undefine"
virsh_ create "$T/web1.xml" >/dev/null
wait_for 5 shows persistent no "$MNT/vms/web1/info" 2>/dev/null
virsh_ destroy web1 >/dev/null
wait_for 5 test ! -e "$MNT/vms/web1"
unmount_rp

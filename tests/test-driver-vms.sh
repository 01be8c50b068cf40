#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The VMs of a libvirt driver are shown by name, each with its info and definition.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

domain()
{
    cat <<END
  <domain type='test'>
    <name>$1</name>
    <uuid>$2</uuid>
    <memory>8192</memory>
    <vcpu>1</vcpu>
    <os><type arch='i686'>hvm</type></os>
    <devices>
      <disk type='file' device='disk'>
        <driver name='qemu' type='qcow2'/><source file='$T/$1.qcow2'/><target dev='vda'/>
      </disk>
      <disk type='file' device='disk'>
        <driver name='qemu' type='raw'/><source file='$T/$1.raw'/><target dev='vdb'/>
      </disk>
      <disk type='file' device='disk'>
        <driver name='qemu' type='qcow2'/><source file='$T/$1.ro'/><target dev='vdc'/><readonly/>
      </disk>
      <disk type='file' device='cdrom'><target dev='hdc'/></disk>
    </devices>
  </domain>
END
}
{
    echo "<node>"
    for i in 1 2 3 4 5; do
        domain web$i 00000000-0000-4000-8000-00000000000$i
    done
    # Letters that XML escapes, and others beyond ASCII.
    domain "a &amp; b" 00000000-0000-4000-8000-000000000006
    domain "größe" 00000000-0000-4000-8000-000000000007
    echo "</node>"
} >"$T/node.xml"

mount_rp "test://$T/node.xml"
wait_for 10 shows vms 7 "$MNT/service/info"
assert_equal "a & b,größe,web1,web2,web3,web4,web5" \
    "$(ls "$MNT/vms" | LC_ALL=C sort | paste -sd,)" VMs

info=$MNT/vms/web3/info
wait_for 10 shows disks "vda vdb vdc hdc" "$info"
assert_shows name web3 "$info"
assert_shows uuid 00000000-0000-4000-8000-000000000003 "$info"
assert_shows state running "$info"
assert_shows persistent yes "$info"
assert_shows held "" "$info"
assert_shows last_refusal "" "$info"
assert_shows disk.vda.source "$T/web3.qcow2" "$info"
assert_shows disk.vda.format qcow2 "$info"
assert_shows disk.vda.tracked yes "$info"
assert_shows disk.vda.why_not "" "$info"
for disk in vdb vdc hdc; do
    assert_shows disk.$disk.tracked no "$info"
    [ -n "$(status_value disk.$disk.why_not "$info")" ] || fail "no reason why $disk is not tracked"
done
assert_shows disk.vdb.format raw "$info"
assert_says qcow2 disk.vdb.why_not "$info"
assert_shows name "a & b" "$MNT/vms/a & b/info"
grep -q "<name>a &amp; b</name>" "$MNT/vms/a & b/domain.xml" || fail "domain.xml is not escaped"
grep -q "<name>web3</name>" "$MNT/vms/web3/domain.xml" || fail "domain.xml is another's"
xml=$MNT/vms/web3/domain.xml
assert_equal "$(stat -c %s "$xml")" "$(wc -c <"$xml")" "size of domain.xml"
assert_fails_with "No such file" ls "$MNT/vms/web6"
unmount_rp

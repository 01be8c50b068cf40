#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# refpoint-restore --define makes a VM of an export that libvirt accepts, that shares no identity,
# disk or NVRAM with the original, and that counts on from the exported instant beside it.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires qemu-img sha256sum xsltproc xmllint
restore=$TESTS/../scripts/refpoint-restore
libvirtd_start

virsh_guest web1 --disks 3
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 4M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon" "DisksToExport=vda,vdb"
guest_write web1 --disk 1 0xbb 8M 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon "DisksToExport=vda,vdb"
unmount_rp
instant=$(counter_of "$T/tue/vda.qcow2")

# The guest has the least of devices; here are those of a real one, as a running VM shows them.
cp -a "$T/tue" "$T/rich"
python3 - "$T/rich/domain.xml" <<'EOF'
import sys
path = sys.argv[1]
# Whichever quotes it was written with.
text = open(path).read().replace('"', "'")
devices = '''
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='/nowhere/boot.iso' index='7'/>
      <backingStore/>
      <target dev='hda' bus='ide'/>
      <readonly/>
      <alias name='ide0-0-0'/>
    </disk>
    <interface type='user'>
      <mac address='52:54:00:12:34:56'/>
      <target dev='vnet3'/>
      <model type='virtio'/>
      <alias name='net0'/>
    </interface>
    <serial type='pty'>
      <source path='/dev/pts/17'/>
      <target type='isa-serial' port='1'/>
      <alias name='serial1'/>
    </serial>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-1-web1/agent.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0' state='disconnected'/>
      <alias name='channel0'/>
    </channel>
    <graphics type='vnc' port='5917' autoport='no' listen='127.0.0.1'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
    <vsock model='virtio'>
      <cid auto='no' address='33'/>
      <alias name='vsock0'/>
    </vsock>
  </devices>'''
text = text.replace("  </devices>", devices.lstrip("\n"), 1)
uuid = text.split("<uuid>")[1].split("</uuid>")[0]
text = text.replace("<os>", f'''<genid>11111111-2222-4333-8444-555555555555</genid>
  <sysinfo type='smbios'><system><entry name='uuid'>{uuid}</entry></system></sysinfo>
  <os>
    <loader readonly='yes' type='pflash'>/nowhere/CODE.fd</loader>
    <nvram template='/nowhere/VARS.fd'>/var/lib/libvirt/qemu/nvram/web1_VARS.fd</nvram>''', 1)
text = text.replace("""    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>""", """    <disk type='file' device='disk' model='virtio'>
      <driver name='qemu' type='qcow2' cache='writeback' discard='unmap'/>""", 1)
open(path, "w").write(text)
EOF
echo variables >"$T/rich/nvram.fd"
sed -i 's/^nvram=$/nvram=nvram.fd/' "$T/rich/export.ini"

# xml NAME XPATH: as libvirt has it.
xml()
{
    virsh_ dumpxml --inactive "$1" >"$T/$1.dump"
    xmllint --xpath "string($2)" "$T/$1.dump"
}

disks=$T/images
mkdir "$disks"
[ "$(id -u)" != 0 ] || chmod 711 "$disks"
before=$(virsh_ list --all --name)
define()
{
    "$restore" "$@" --connect "$LIBVIRTD_URI" --directory "$disks"
}

# Refusals leave nothing.
assert_fails_with "there is a VM 'web1' already" define "$T/tue" --define web1
assert_fails_with "is no name for a VM" define "$T/tue" --define a/b
assert_fails_with "directory for the disks is missing" \
    "$restore" "$T/tue" --define new --connect "$LIBVIRTD_URI" --directory "$T/none"
assert_fails_with "libvirt cannot be reached" \
    "$restore" "$T/tue" --define new --connect "qemu+unix:///system?socket=$T/none"
touch "$disks/new-vdb.qcow2"
assert_fails_with "new-vdb.qcow2 exists" define "$T/tue" --define new
rm "$disks/new-vdb.qcow2"
mv "$T/mon" "$T/away"
assert_fails_with "its base is missing" define "$T/tue" --define new
mv "$T/away" "$T/mon"
nothing_left "$disks" || fail "left: $(ls -A "$disks")"
assert_equal "$before" "$(virsh_ list --all --name)" "VMs"

# The definition of a real VM.
define "$T/rich" --define "rich & new" 2>"$T/warnings" >/dev/null
for warning in "disk vdc is not in the export" "cdrom hda: its medium" \
    "vnc no longer listens on port 5917" "serial uses $T/web1.serial" "options for QEMU itself"; do
    grep -qF "refpoint-restore: warning: $warning" "$T/warnings" ||
        fail "no warning '$warning': $(cat "$T/warnings")"
done
rich()
{
    xml "rich & new" "$1"
}
uuid=$(virsh_ domuuid web1)
[ "$(rich /domain/uuid)" != "$uuid" ] || fail "the UUID is that of the original"
[ "$(rich //interface/mac/@address)" != 52:54:00:12:34:56 ] || fail "the MAC address is the same"
[ "$(rich /domain/genid)" != 11111111-2222-4333-8444-555555555555 ] || fail "genid is the same"
! grep -qF "$uuid" "$T/rich & new.dump" || fail "the UUID of the original is still somewhere"
assert_equal "$disks/rich & new_VARS.fd" "$(rich /domain/os/nvram)" NVRAM
assert_equal variables "$(cat "$disks/rich & new_VARS.fd")" "what the NVRAM has"
assert_equal "$disks/rich & new-vdb.qcow2" "$(rich "//disk[target/@dev='vdb']/source/@file")" vdb
assert_equal writeback "$(rich "//disk[target/@dev='vda']/driver/@cache")" "cache of vda"
assert_equal "$(xml web1 "//disk[target/@dev='vda']/address/@slot")" \
    "$(rich "//disk[target/@dev='vda']/address/@slot")" "slot of vda"
assert_equal 3 "$(rich "count(//disk)")" "number of disks"
assert_equal 0 "$(rich "count(//disk[@device='cdrom']/source)")" "media"
assert_equal yes "$(rich //graphics/@autoport)" autoport
assert_equal yes "$(rich //vsock/cid/@auto)" "cid/@auto"
assert_equal "" "$(rich //channel/source/@path)" "path of the agent's channel"
for disk in vda vdb; do
    assert_same "$T/tue/$disk.qcow2" "$disks/rich & new-$disk.qcow2"
done
assert_equal 600 "$(stat -c %a "$disks/rich & new-vda.qcow2")" "mode of a disk"
virsh_ undefine --keep-nvram "rich & new" >/dev/null
rm "$disks"/*

# What libvirt does not take is kept for who corrects it.
cp -a "$T/tue" "$T/refused"
sed -i "s/machine=\"[^\"]*\"/machine='abacus'/" "$T/refused/domain.xml"
status=0
define "$T/refused" --define refused >/dev/null 2>"$T/said" || status=$?
assert_equal 3 $status "exit status when libvirt refuses"
grep -q "refused.xml: correct it" "$T/said" || fail "does not say what to do: $(cat "$T/said")"
sed -i "s/'abacus'/'pc'/; s/\"abacus\"/\"pc\"/" "$disks/refused.xml"
virsh_ define "$disks/refused.xml" >/dev/null
virsh_ undefine refused >/dev/null
rm "$disks"/*

# A VM that runs, while the original does.
define "$T/tue" --define web2 >/dev/null 2>"$T/warnings"
# Not the original's files, to tell who says what.
xml web2 /domain/name >/dev/null
sed -i "s|$T/web1\.|$T/web2.|g" "$T/web2.dump"
virsh_ define "$T/web2.dump" >/dev/null
virsh_ start web2 >/dev/null
goes_on()
{
    guest_is_counting web2 &&
        [ "$(counter_bound "$disks/web2-vda.qcow2")" -gt $((instant + 20)) ]
}
wait_for 30 goes_on
assert_equal running "$(virsh_ domstate web1)" "state of the original"
virsh_ destroy web2 >/dev/null
counter_of "$disks/web2-vda.qcow2" $((instant + 20)) 18446744073709551615 >/dev/null ||
    fail "the restored guest did not go on from $instant"
assert_reads 0xbb 8M 1M "$disks/web2-vdb.qcow2"
assert_reads 0xaa 9M 3M "$disks/web2-vdb.qcow2"
"$restore" "$T/tue" --verify --quiet || fail "the export has changed"
virsh_ undefine web2 >/dev/null

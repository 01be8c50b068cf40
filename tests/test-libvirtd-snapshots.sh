#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# External snapshots between reference points: what changed since a point is then in the bitmaps of
# several images. Deltas of the VM, whether it runs or is off, have all of it; a bare point is exact
# only if none of them has anything; and rmdir leaves a bitmap in none of them.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
requires qemu-storage-daemon qemu-io
libvirtd_start

virsh_guest web1 --disks 2
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
vm=$MNT/vms/web1
points=$vm/refpoints

# snapshot NAME: of the disk that is the test's, into T/NAME.qcow2.
snapshot()
{
    virsh_ snapshot-create-as web1 "$1" --disk-only --no-metadata --diskspec vda,snapshot=no \
        --diskspec "vdb,file=$T/$1.qcow2" >/dev/null
}

# off: shuts the VM off as a guest would that ends by itself.
off()
{
    virsh_ destroy --graceful web1 >/dev/null
    wait_for 10 shows state "shut off" "$vm/info"
}

# on: starts it again.
on()
{
    rm -f "$T/web1.serial"
    virsh_ start web1 >/dev/null
    ready web1
}

# mark NAME BASE: a point that holds what changed since an older one than the last.
mark()
{
    printf '%s\n' "Name=$1" "BaseReferencePoint=$2" >"$vm/create"
    wait_for 10 test -d "$points/$1"
}

# is_delta FOLDER BASE: of vdb, over the base's export, and it shows the disk as it is now.
is_delta()
{
    grep -A9 '^\[disk vdb\]' "$T/$1/export.ini" | grep -qx mode=incremental ||
        fail "$1 is no increment: $(cat "$T/$1/export.ini")"
    grep -A9 '^\[disk vdb\]' "$T/$1/export.ini" | grep -qx "backing=../$2/vdb.qcow2" ||
        fail "$1 is not based on $2: $(cat "$T/$1/export.ini")"
    [ "$(stat -c %s "$T/$1/vdb.qcow2")" -lt $((12 << 20)) ] || fail "$1 is no small increment"
    assert_same "$top" "$T/$1/vdb.qcow2"
}

# bitmaps NAME: the images that have a bitmap of that name.
bitmaps()
{
    local image
    for image in "$T"/web1-vdb.qcow2 "$T"/s[0-9].qcow2; do
        [ ! -e "$image" ] || qemu-img info -U "$image" | grep -qx " *name: $1" && basename "$image"
    done
    return 0
}

top=$T/web1-vdb.qcow2
guest_write web1 --disk 1 0x11 0 16M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
guest_write web1 --disk 1 0x22 1M 1M
mkdir "$points/calm"
echo 0 >"$points/calm/hold"

snapshot s1
top=$T/s1.qcow2
guest_write web1 --disk 1 0x33 4M 1M
guest_write web1 --disk 1 zero 6M 1M

# It runs.
mark tue mon
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon DisksToExport=vdb
is_delta tue mon

# A second snapshot; then it is off.
snapshot s2
top=$T/s2.qcow2
guest_write web1 --disk 1 0x44 8M 1M
off
assert_equal "web1-vdb.qcow2 s1.qcow2 s2.qcow2" "$(bitmaps mon | xargs)" "images with mon's bitmap"
settings "$vm" "ExportDirectory=$T/vm" BaseReferencePoint=mon DisksToExport=vdb
export_ends 0 "$vm"
is_delta vm mon
assert_reads 0x22 1M 1M "$T/vm/vdb.qcow2"
assert_reads 0 6M 1M "$T/vm/vdb.qcow2"

# Grown since, and written where it was not before.
qemu-img resize -q -f qcow2 "$top" 65M
qemu-io -f qcow2 -c "write -q -P 0x55 64M 1M" "$top"
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed" BaseReferencePoint=mon DisksToExport=vdb
is_delta wed mon
[ -z "$(find "$T/scratch" -name '*.scratch')" ] || fail "left: $(find "$T/scratch")"

# Nothing was written since wed; since calm there was, into its second image alone.
settings "$points/wed" "ExportDirectory=$T/wed2" DisksToExport=vdb RequireExact=yes
export_ends 0 "$points/wed"
settings "$points/calm" "ExportDirectory=$T/calm" DisksToExport=vdb
export_ends 0 "$points/calm"
assert_shows exact no "$points/calm/job/status"
chown libvirt-qemu: "$T"/*.qcow2

# It runs again, with bitmaps that were not always in one image.
on
guest_write web1 --disk 1 0x66 10M 1M
# QEMU cannot put together the bitmaps of before and after the growth, nor libvirt ask for them.
wait_for 10 shows disk.vdb.health unknown "$points/mon/info"
mark thu mon
assert_says "different sizes" disk.vdb.why_full "$points/thu/info"
assert_fails_with "not recoverable" \
    settings "$points/thu" "ExportDirectory=$T/thu" BaseReferencePoint=mon DisksToExport=vdb
echo 0 >"$points/thu/hold"
rmdir "$points/thu"
mark thu wed
export_point "$points/thu" "ExportDirectory=$T/thu" BaseReferencePoint=wed DisksToExport=vdb
is_delta thu wed2

# What is below is written to while it is read: found out.
off
settings "$vm" "ExportDirectory=$T/harmed" BaseReferencePoint=mon DisksToExport=vdb Bandwidth=1M
wait_for 10 shows state running "$vm/job/status"
touch "$T/s1.qcow2"
export_ends 32775 "$vm"

# Removed while it is off: from all images. calm, made in the first one, is not harmed by it.
rmdir "$points/mon"
assert_equal "" "$(bitmaps mon)" "images that still have mon's bitmap"
assert_equal "web1-vdb.qcow2 s1.qcow2 s2.qcow2" "$(bitmaps calm | xargs)" "images with calm's bitmap"
wait_for 10 shows disk.vdb.health ok "$points/calm/info"

# A bitmap that one of them lost, or whose image is away, is no base.
qemu-img bitmap --remove -f qcow2 "$T/s2.qcow2" calm
wait_for 10 shows disk.vdb.health broken "$points/calm/info"
assert_fails_with "not recoverable" \
    settings "$vm" "ExportDirectory=$T/no" DisksToExport=vdb BaseReferencePoint=calm
rmdir "$points/calm"
assert_equal "" "$(bitmaps calm)" "images that still have calm's bitmap"
on
rmdir "$points/wed"
assert_equal "" "$(bitmaps wed)" "images that still have wed's bitmap"
unmount_rp

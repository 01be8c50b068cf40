# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A small scratch file system, and a guest that fills it: for test-qemu-scratch-*.sh; bash, after
# functions.sh; only for root.

requires qemu-system-x86_64 qemu-img
[ "$(id -u)" = 0 ] || skip "only root can mount a small file system"

# filler_new NAME SIZE: the guest, with 512 MiB of data that it overwrites the half of, and a scratch
# file system of SIZE.
filler_new()
{
    guest_new "$1" --size 512M --boot "$(built filler.bin)"
    # Or it would wait for the disk after each write, of which SeaBIOS does one at a time.
    sed -i "s|type='qcow2'/>|type='qcow2' cache='unsafe'/>|" "$ROOT/etc/qemu/$1.xml"
    # Old data that is a hole takes no space: it has to be there.
    qemu-io -f qcow2 -c "write -q -P 0x11 64k 288M" "$T/$1-vda.qcow2"
    mkdir "$T/scratch"
    mount -t tmpfs -o "size=$2,mode=711" tmpfs "$T/scratch" || skip "cannot mount a tmpfs"
    cleanup_fn umount -l "$T/scratch"
}

scratch_free()
{
    df --output=avail -B1 "$T/scratch" | tail -1
}

# vm_is STATUS: what QEMU itself says of the guest, "running" or "paused ...".
vm_is()
{
    hmp web1 "info status" | grep -q "VM status: $1"
}

writes_of()
{
    hmp web1 "info blockstats" | sed -n 's/.*wr_operations=\([0-9]*\).*/\1/p' | head -1
}

goes_on()
{
    vm_is running && [ "$(writes_of)" -gt "$1" ]
}

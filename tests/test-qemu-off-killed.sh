#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The service is killed while it marks a VM that is off: before, between and after the bitmaps of
# its disks, and around the definition. The next service finds the reference point whole or not at
# all; a bitmap without one is removed, and no other; the name can be used again at once.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-storage-daemon python3

guest_new web1 --disks 2
rm "$ROOT/etc/qemu/autostart/web1.xml"
shim=$(built libkill-shim.so)
printf '\0\0\0\0\0\0\0\0' >"$T/countdown"
points=$MNT/vms/web1/refpoints

mount_with_shim()
{
    # A sanitizer wants to be the first library; that it is not does no harm here.
    KILL_SHIM=$T/countdown KILL_SHIM_AT="posix_spawnp virDomainCheckpointCreateXML" \
        LD_PRELOAD=$shim ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 mount_rp
    wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
}

# arm N: dies at the Nth moment from now on.
arm()
{
    python3 -c 'import sys; sys.stdout.buffer.write(int(sys.argv[1]).to_bytes(8, "little"))' "$1" |
        dd of="$T/countdown" conv=notrunc status=none
}
moments_left()
{
    python3 -c 'import sys; print(int.from_bytes(open(sys.argv[1], "rb").read(8), "little"))' \
        "$T/countdown"
}

# bitmaps_are NAME...: in both images.
bitmaps_are()
{
    local disk names
    for disk in vda vdb; do
        names=$(qemu-img info -U "$T/web1-$disk.qcow2" | sed -n 's/^ *name: //p' | sort | xargs)
        [ "$*" = "$names" ] || return 1
    done
}

# killed_at MOMENT NAME: the mark is, and the next service runs.
killed_at()
{
    arm "$1"
    ! mkdir "$points/$2" 2>/dev/null || fail "mkdir $2 succeeded in spite of moment $1"
    kill_rp
    arm 0
    mount_with_shim
    wait_for 10 test -d "$points/base"
}

# One of somebody else's, with the name of a point that is refused for it.
for disk in vda vdb; do
    qemu-img bitmap --add "$T/web1-$disk.qcow2" theirs
done
mount_with_shim
arm 1000
mkdir "$points/base"
moments=$((1000 - $(moments_left)))
arm 0
[ "$moments" -ge 6 ] || fail "the shim sees $moments calls"
arm 1000
! mkdir "$points/theirs" 2>/dev/null || fail "the name of another's bitmap is taken"
refused=$((1000 - $(moments_left)))
arm 0
[ "$refused" -ge 1 ] || fail "the shim sees no call of a refusal"
bitmaps_are base theirs || fail "a refusal removed another's bitmap"
[ -z "$(ls "$T/state/marks")" ] || fail "noted still: $(ls "$T/state/marks")"

# A service that is killed while it is about to refuse does not leave it to the next to remove them.
for ((moment = 1; moment <= refused; moment++)); do
    killed_at "$moment" theirs
    mkdir "$points/mon"
    bitmaps_are base mon theirs || fail "moment $moment of a refusal: another's bitmap is gone"
    rmdir "$points/mon"
done

for ((moment = 1; moment <= moments; moment++)); do
    killed_at "$moment" mon
    if [ -d "$points/mon" ]; then
        bitmaps_are base mon theirs || fail "moment $moment: a point without its bitmaps"
        rmdir "$points/mon"
    fi
    wait_for 10 bitmaps_are base theirs
    mkdir "$points/mon" || fail "moment $moment: $(status_value last_refusal "$MNT/vms/web1/info")"
    bitmaps_are base mon theirs || fail "moment $moment: a new point without its bitmaps"
    export_point "$points/mon" "ExportDirectory=$T/mon" BaseReferencePoint=base
    rm -r "$T/mon"
    rmdir "$points/mon"
done
unmount_rp

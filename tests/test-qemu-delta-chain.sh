#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Increments chained over three reference points each show their instant, as a full export of the
# same point does.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
live=$T/web1-vda.qcow2
mkdir "$T/full" "$T/chain"

# Each point overwrites a part of what the ones before wrote, and leaves a part alone.
before=
number=0
for name in mon tue wed; do
    number=$((number + 1))
    guest_write web1 "0x1$number" $((30 + number))M 3M
    min=$(counter_bound "$live")
    mkdir "$points/$name"
    max=$(counter_bound "$live")
    guest_write web1 0xee 40M 1M

    if [ -n "$before" ]; then
        export_point "$points/$name" "ExportDirectory=$T/full/$name" KeepHold=yes
        is_held "$points/$name" || fail "KeepHold=yes let go of $name"
        export_point "$points/$name" "ExportDirectory=$T/chain/$name" "BaseReferencePoint=$before"
        assert_same "$T/full/$name/vda.qcow2" "$T/chain/$name/vda.qcow2"
        backing=$(qemu-img info --output=json "$T/chain/$name/vda.qcow2" |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["backing-filename"])')
        assert_equal "../$before/vda.qcow2" "$backing" "backing file of $name"
        grep -qx mode=incremental "$T/chain/$name/export.ini" || fail "$name is not incremental"
    else
        export_point "$points/$name" "ExportDirectory=$T/chain/$name"
    fi
    is_bare "$points/$name" || fail "$name is still held after its export"
    counter_of "$T/chain/$name/vda.qcow2" "$min" "$max" >/dev/null ||
        fail "$name does not show its instant"
    before=$name
done

# The increment holds what changed, not the disk.
full=$(stat -c %s "$T/full/wed/vda.qcow2")
guest_idle_part=$((3 * 1024 * 1024))
assert_reads 0x11 31M 1M "$T/chain/mon/vda.qcow2"
assert_reads 0x11 31M 1M "$T/chain/wed/vda.qcow2"
assert_reads 0x12 32M 1M "$T/chain/wed/vda.qcow2"
assert_reads 0x13 33M 3M "$T/chain/wed/vda.qcow2"
assert_reads 0xee 40M 1M "$T/chain/tue/vda.qcow2"
[ "$full" -gt $guest_idle_part ] || fail "the full export has no data"
# One file, moved together with its chain, still opens.
mv "$T/chain" "$T/moved"
assert_same "$T/full/wed/vda.qcow2" "$T/moved/wed/vda.qcow2"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Exports have the clusters of their disk, of 2 MiB as of 4 KiB; a delta's are no larger than what
# its bitmap tells apart. Each shows its instant, and a delta holds the pieces that changed.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

# image_clusters VM SIZE: gives the guest's disk clusters of that size.
image_clusters()
{
    local image=$T/$1-vda.qcow2
    mv "$image" "$image.old"
    qemu-img convert -O qcow2 -o cluster_size="$2" "$image.old" "$image"
    rm "$image.old"
}

cluster_of()
{
    qemu-img info --output=json "$1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["cluster-size"])'
}

# data_of FILE: bytes of the file's own clusters, not of its base's.
data_of()
{
    qemu-img map --output=json "$1" | python3 -c '
import json, sys
print(sum(run["length"] for run in json.load(sys.stdin) if run["depth"] == 0 and run["data"]))'
}

guest_new large
guest_new small
image_clusters large 2M
image_clusters small 4k
mount_rp
ready large small

for vm in large small; do
    points=$MNT/vms/$vm/refpoints
    # Ends of pieces within clusters of either size; zeros and a hole beside data.
    guest_write $vm 0x11 32M 5M
    mkdir "$points/mon"
    guest_write $vm 0xee 33M 4k
    export_point "$points/mon" "ExportDirectory=$T/$vm-mon"
    guest_write $vm 0x22 40964k 4k
    guest_write $vm 0x33 34820k 68k
    guest_write $vm zero 36M 64k
    mkdir "$points/tue"
    guest_write $vm 0xee 34820k 4k
    export_point "$points/tue" "ExportDirectory=$T/$vm-tue" BaseReferencePoint=mon KeepHold=yes
    export_point "$points/tue" "ExportDirectory=$T/$vm-full" KeepHold=yes
    export_point "$points/tue" "ExportDirectory=$T/$vm-raw" Format=raw

    assert_reads 0x11 32M 5M "$T/$vm-mon/vda.qcow2"
    for export in tue full; do
        image=$T/$vm-$export/vda.qcow2
        assert_reads 0xee 33M 4k "$image"
        assert_reads 0x11 33796k 1024k "$image"
        assert_reads 0x33 34820k 68k "$image"
        assert_reads 0x11 34888k 64k "$image"
        assert_reads 0 36M 64k "$image"
        assert_reads 0x11 36928k 960k "$image"
        assert_reads 0x22 40964k 4k "$image"
        assert_reads 0 40968k 64k "$image"
        counter_of "$image" >/dev/null
    done
    assert_same "$T/$vm-tue/vda.qcow2" "$T/$vm-full/vda.qcow2"
    assert_same "$T/$vm-raw/vda.raw" "$T/$vm-full/vda.qcow2"
done

assert_equal 2097152 "$(cluster_of "$T/large-mon/vda.qcow2")" "clusters of a full export"
assert_equal 2097152 "$(cluster_of "$T/large-full/vda.qcow2")" "clusters of a full export"
assert_equal 65536 "$(cluster_of "$T/large-tue/vda.qcow2")" "clusters of a delta"
assert_equal 4096 "$(cluster_of "$T/small-mon/vda.qcow2")" "clusters of a full export"
assert_equal 4096 "$(cluster_of "$T/small-tue/vda.qcow2")" "clusters of a delta"

# Beside the test's own writes, 3 of them at 2 or 3 clusters of 64 KiB each, there is the guest's
# part of 257 clusters, of which it touches a sector each.
most=$(((257 + 7) * 65536))
[ "$(data_of "$T/large-tue/vda.qcow2")" -le $most ] || fail "the delta holds more than changed"
[ "$(data_of "$T/small-tue/vda.qcow2")" -le $((most / 8)) ] ||
    fail "the delta in small clusters holds more than changed"
unmount_rp

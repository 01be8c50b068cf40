#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# QEMU boots an increment as it is, and the guest goes on from the exported instant.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
unmount_rp
instant=$(counter_of "$T/tue/vda.qcow2")

accel=tcg
[ "${GUEST_TYPE:-qemu}" = qemu ] || accel=$GUEST_TYPE
qemu-system-x86_64 -machine pc,accel="$accel" -m 8 -nodefaults -display none \
    -serial "file:$T/restored.serial" -drive "file=$T/tue/vda.qcow2,if=virtio" 2>"$T/qemu.log" &
restored=$!
end_restored()
{
    process_is_gone $restored || kill -KILL $restored
}
cleanup_fn end_restored
goes_on()
{
    grep -q counting "$T/restored.serial" 2>/dev/null &&
        [ "$(counter_bound "$T/tue/vda.qcow2")" -gt $((instant + 20)) ]
}
wait_for 20 goes_on
kill -TERM $restored
wait_for 10 process_is_gone $restored
counter_of "$T/tue/vda.qcow2" $((instant + 20)) 18446744073709551615 >/dev/null ||
    fail "the restored guest did not go on from $instant"

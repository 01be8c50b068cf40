#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The guest's end ends an open image, too: its reads say "No such device", nothing hangs, and the
# mount goes away in order with the image open.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
exec {image}<"$mon/disks/vda.img"
head -c 4096 <&$image >/dev/null

# Readers that never end by themselves, past the cache.
for i in 1 2 3 4; do
    (while dd if="/dev/fd/$image" of=/dev/null bs=1M iflag=direct status=none; do :; done) \
        2>"$T/err.$i" &
    readers[i]=$!
done
# reads PID: its dd, if it has one now, has read some of it.
reads()
{
    local child
    child=$(pgrep -P "$1") &&
        [ "$(awk '$1 == "rchar:" { print $2 }' "/proc/$child/io" 2>/dev/null)" -gt 1048576 ]
}
for i in 1 2 3 4; do
    wait_for 10 reads "${readers[i]}"
done
guest_kill web1
for i in 1 2 3 4; do
    wait_for 10 process_is_gone "${readers[i]}"
    grep -qE "No such (device|file)" "$T/err.$i" || fail "reader $i says: $(cat "$T/err.$i")"
done
wait_for 10 is_bare "$mon"
assert_equal "" "$(ls "$mon/disks")"
assert_fails_with "No such device" dd bs=4096 skip=100 status=none <&$image

rmdir "$mon"
kill -TERM "$mount_pid"
rp_ends "with an open image"
exec {image}<&-

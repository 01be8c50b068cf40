#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Reading an image is use of its hold, having it open is not: the hold runs out after the last read.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp -o hold=2
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
exec {image}<"$mon/disks/vda.img"
end=$((SECONDS + 6))
block=0
while [ $SECONDS -lt $end ]; do
    dd if="$mon/disks/vda.img" of=/dev/null bs=4096 skip=$((block += 64)) count=1 iflag=direct \
        status=none || fail "the hold ended while it was read"
    sleep 0.1
done
is_held "$mon" || fail "the hold ended while it was read"
wait_for 10 is_bare "$mon"
assert_fails_with "No such device" dd bs=4096 skip=100 status=none <&$image
exec {image}<&-
unmount_rp

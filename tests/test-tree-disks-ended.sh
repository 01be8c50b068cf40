#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Open images keep nobody from ending the hold: reads then fail with "No such device", those under
# way at once, and nothing hangs, neither rmdir nor the end of the mount.
# shellcheck source=tests/tree.sh
. "$(dirname "$0")/tree.sh"
mount_fake read_ms=60000
held=$MNT/vms/vm1/refpoints/held
mkdir "$held"
exec {image}<"$held/disks/vda.img" {map}<"$held/disks/vda.map"
kept=$((3 * 1024 * 1024))
head -c 4096 <(dd bs=4096 skip=$((kept / 4096)) status=none <&$image) >/dev/null

# As the kernel counts system calls: 0 is read(2).
is_reading()
{
    grep -q "^0 " "/proc/$1/syscall"
}

# One read that is not answered yet; another one, of a part that is answered at once, passes it.
dd if="$held/disks/vda.img" bs=4096 count=1 status=none >"$T/out" 2>"$T/err" &
reader=$!
wait_for 5 is_reading $reader
dd if="$held/disks/vda.img" bs=4096 skip=$((kept / 4096)) count=1 status=none | cmp -n 8 - <(
    printf '\0\0\060\0\0\0\0\0')
kill -0 $reader || fail "the slow read has ended"

echo 0 >"$held/hold"
status=0
wait $reader || status=$?
assert_equal 1 $status "status of the reader"
grep -q "No such device" "$T/err" || fail "the reader says: $(cat "$T/err")"
assert_equal "" "$(ls "$held/disks")"
is_refused()
{
    ! head -c 1 <&"$1" >/dev/null 2>"$T/err"
}
wait_for 5 is_refused $image
grep -q "No such device" "$T/err" || fail "the open image says: $(cat "$T/err")"
wait_for 5 is_refused $map
assert_fails_with "No such file" cat "$held/disks/vda.img"

rmdir "$held"
mkdir "$held"
exec {again}<"$held/disks/vda.img"
rmdir "$held"
mkdir "$held"
exec {last}<"$held/disks/vda.img"
dd if="$held/disks/vda.img" bs=4096 count=1 status=none >"$T/out" 2>"$T/err" &
reader=$!
wait_for 5 is_reading $reader
kill -TERM "$mount_pid"
rp_ends
wait $reader && fail "the read succeeded"
exec {image}<&- {map}<&- {again}<&- {last}<&-
fusermount3 -u "$MNT" 2>/dev/null || ! mountpoint -q "$MNT"

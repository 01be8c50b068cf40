#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# While slow operations wait for the hypervisor, as many as there are machines, everybody else is
# answered at once, and they do not wait for each other. (In the directory that a name is made in,
# the kernel itself makes others wait.)
. "$(dirname "$0")/tree.sh"
mount_fake vms=25 slow_ms=1500
children=()
SECONDS=0
for ((i = 1; i <= 24; i++)); do
    mkdir "$MNT/vms/vm$i/refpoints/tue" &
    children+=($!)
done
rounds=0
while kill -0 "${children[0]}" 2>/dev/null; do
    timeout 0.5 cat "$MNT/service/info" >/dev/null || fail "service/info waits, round $rounds"
    timeout 0.5 cat "$MNT/vms/vm1/info" >/dev/null || fail "a machine's info waits, round $rounds"
    timeout 0.5 ls -R "$MNT/vms/vm25" >/dev/null || fail "ls waits, round $rounds"
    timeout 0.5 cat "$MNT/vms/vm25/refpoints/r1/job/status" >/dev/null ||
        fail "job/status waits, round $rounds"
    rounds=$((rounds + 1))
done
[ $rounds -ge 3 ] || fail "only $rounds rounds: nothing was slow"
for child in "${children[@]}"; do
    wait "$child" || fail "a mkdir failed"
done
# One after the other would be 36 s.
[ $SECONDS -lt 12 ] || fail "24 machines took $SECONDS s"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A read of job/wait returns when the job has ended, with its result, for any number of readers;
# it is not listed.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 4M
mkdir "$mon"
find "$mon/job" | grep -q wait && fail "wait is listed"
settings "$mon" "ExportDirectory=$T/mon" DisksToExport=vdb Bandwidth=2M
wait_for 10 shows state running "$mon/job/status"

waiters=()
for i in 1 2 3 4 5 6 7 8; do
    cat "$mon/job/wait" >"$T/waited.$i" &
    waiters+=($!)
done
# A waiter can be interrupted, and asked not to wait.
timeout -s INT 0.3 cat "$mon/job/wait" && fail "wait returned while the job ran"
assert_fails_with "Resource temporarily unavailable" \
    dd if="$mon/job/wait" iflag=nonblock status=none
assert_shows state running "$mon/job/status"
for i in 1 2 3 4 5 6 7 8; do
    [ ! -s "$T/waited.$i" ] || fail "waiter $i returned while the job ran"
done

for pid in "${waiters[@]}"; do
    wait "$pid" || fail "a waiter failed"
done
for i in 1 2 3 4 5 6 7 8; do
    assert_equal 0 "$(cat "$T/waited.$i")" "what waiter $i read"
done
assert_shows state completed "$mon/job/status"
unmount_rp

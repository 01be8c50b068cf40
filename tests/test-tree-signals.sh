#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# TERM and HUP end the mount in order, whoever waits: unmounted, exit status 0.
. "$(dirname "$0")/tree.sh"
# What whoever starts it ignores, as nohup does, it goes on ignoring.
signals=(TERM)
[ -n "$(trap -p HUP)" ] || signals+=(HUP)
for signal in "${signals[@]}"; do
    mount_fake
    echo ExportDirectory=/x/ms-60000 >"$POINT/export"
    cat "$POINT/job/wait" >"$T/out" 2>&1 &
    waiter=$!
    kill -$signal "$mount_pid"
    rp_ends "after $signal"
    ! mountpoint -q "$MNT" || fail "still mounted after $signal"
    wait $waiter || true
done

# Also when the signal comes while the service is about to wait for one.
shim=$(built liblate-wait-shim.so)
LD_PRELOAD=$shim ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 mount_fake
kill -TERM "$mount_pid"
rp_ends "after TERM at the worst moment"

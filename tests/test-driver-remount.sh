#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The service can be mounted, unmounted and mounted again in the same place, with the same state.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

for round in 1 2 3; do
    mount_rp test:///default
    wait_for 10 test -d "$MNT/vms/test"
    mkdir "$MNT/vms/test/refpoints/mon" || fail "round $round"
    assert_equal mon "$(ls "$MNT/vms/test/refpoints")" "reference points of round $round"
    if [ $round = 2 ]; then
        kill -TERM "$mount_pid"
        rp_ends "after SIGTERM"
    else
        unmount_rp
    fi
    mountpoint -q "$MNT" && fail "still mounted after round $round"
    assert_equal "" "$(ls -A "$MNT")" "what lies below the mount"
done
# Others may pass through the state folder, as QEMU must, but not look into it.
mode=$(stat -c %a "$T/state")
[ $((0$mode & 066)) = 0 ] || fail "mode of the state folder: $mode"

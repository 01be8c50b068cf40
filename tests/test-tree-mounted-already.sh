#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A second mount at the same place is refused, and the first one stays.
. "$(dirname "$0")/tree.sh"
mount_fake
for foreground in '' -f; do
    # shellcheck disable=SC2086
    assert_fails_with "something is mounted at $MNT already" timeout 10 \
        "$REFPOINTFS" $foreground fake:/// "$MNT" -o "state=$T/state2,run=$T/run2"
done
[ -r "$MNT/service/info" ] || fail "the first mount is gone"
unmount_rp

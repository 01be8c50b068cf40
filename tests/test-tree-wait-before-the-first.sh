#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Before the first job there is nothing to wait for.
. "$(dirname "$0")/tree.sh"
mount_fake
for file in "$POINT/job/wait" "$MNT/vms/vm1/job/wait"; do
    assert_equal "" "$(timeout 5 cat "$file" || echo "status $?")"
done
assert_shows state none "$STATUS"
assert_shows result '' "$STATUS"
assert_equal "" "$(cat "$POINT/job/result")" result
unmount_rp

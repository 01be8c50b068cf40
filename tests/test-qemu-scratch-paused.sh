#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A guest that QEMU paused because scratch space was full, while the service could not look, goes on
# when it can: the hold is let go of. A guest that somebody else paused stays paused. And an orderly
# end of the service leaves no hold that could fill the scratch space.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/scratch.sh
. "$TESTS/scratch.sh"

filler_new web1 96M
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
kill -STOP "$mount_pid"
wait_for 60 vm_is paused
kill -CONT "$mount_pid"
wait_for 20 vm_is running
wait_for 10 goes_on "$(writes_of)"
wait_for 10 is_bare "$points/mon"
assert_says "ran short" last_refusal "$MNT/vms/web1/info"

# The service is killed, and a later one finds the guest paused.
mkdir "$points/tue"
kill_rp
wait_for 60 vm_is paused
mount_rp
wait_for 30 vm_is running
wait_for 10 goes_on "$(writes_of)"
wait_for 10 is_bare "$points/tue"

# Paused by somebody else, and then scratch space runs short: let go of, but not resumed.
mkdir "$points/wed"
hmp web1 stop >/dev/null
vm_is paused || fail "the guest is not paused"
fallocate -l "$(scratch_free)" "$T/scratch/foreign"
wait_for 10 is_bare "$points/wed"
wait_for 10 test -z "$(find "$T/scratch" -name '*.scratch')"
vm_is paused || fail "a guest that somebody else paused was resumed"
[ -e "$T/scratch/foreign" ] || fail "a foreign file was removed"
rm "$T/scratch/foreign"
hmp web1 cont >/dev/null

# 512 MiB cannot wait for the next service in 96.
mkdir "$points/thu"
unmount_rp
assert_equal "" "$(find "$T/scratch" "$T/run" -type f -o -type s)" "left of the hold"
mount_rp
ready web1
is_bare "$points/thu" || fail "thu is held"
unmount_rp

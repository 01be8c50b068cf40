#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Without -f the command returns when the tree can be used, with 0; or ends with 1 and the sentence
# that says why it cannot, and leaves no mount behind. Its daemon holds on to no terminal.
. "$(dirname "$0")/tree.sh"
dirs=(-o "state=$T/state,run=$T/run")

status=0
timeout 10 "$REFPOINTFS" 'fake:///?open=32777' "$MNT" "${dirs[@]}" >"$T/out" 2>&1 || status=$?
assert_equal 1 $status "exit status"
grep -q "the service was asked not to open" "$T/out" || fail "it says: $(cat "$T/out")"
! mountpoint -q "$MNT" || fail "a mount was left behind"

cleanup_fn fusermount3 -q -u -z "$MNT"
# The end of the pipe comes only when nobody has it open any more.
output=$(cd "$T" && timeout 10 "$REFPOINTFS" fake:/// mnt "${dirs[@]}" 2>&1)
assert_equal "" "$output" "output"
ls "$MNT/vms/vm1" >/dev/null
mkdir "$MNT/vms/vm1/refpoints/tue"
pid=$(pgrep -f "^$REFPOINTFS fake:/// mnt -o state=$T/state")
assert_equal / "$(readlink "/proc/$pid/cwd")" "working directory"
fusermount3 -u "$MNT"
wait_for 10 process_is_gone "$pid"
cleanup_list=("${cleanup_list[@]:0:1}")

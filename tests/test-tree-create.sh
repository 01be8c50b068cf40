#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Settings written to create make and hold a reference point, which the next listing shows; refusals
# are seen by the program and stay in the info of the machine.
. "$(dirname "$0")/tree.sh"
mount_fake slow_ms=50
cd "$MNT/vms/vm1"
for i in {1..5}; do
    echo "Name=n$i" >create
    [ -d "refpoints/n$i" ] || fail "n$i is not there"
    is_held "refpoints/n$i" || fail "n$i is not held"
    echo "Name=m$i" >create
    # Lists wait for what is being made.
    [ ! -d "refpoints/m$i" ] || fail "m$i is there"
    wait_for 5 shows last_refusal "32774 the VM is held by another reference point" info
    echo 0 >"refpoints/n$i/hold"
done
assert_fails_with "Invalid argument" bash -c 'echo ExportDirectory=/x >create'
assert_says "32773 line 1: " last_refusal info
assert_fails_with "File exists" bash -c 'echo Name=n1 >create'
assert_fails_with "Operation not supported" cp <(echo Name=result-32770) create
assert_fails_with "Invalid argument" cp <(echo Hold=5) create
assert_says "32773 Name is missing" last_refusal info
printf '%s\n' Name=tue BaseReferencePoint=n1 DisksToExport=vda ConsistencyLevel=2 Hold=60 >create
[ -d refpoints/tue ] || fail "tue is not there"
[ ! -e refpoints/m1 ] || fail "m1 is there"
cd /
unmount_rp

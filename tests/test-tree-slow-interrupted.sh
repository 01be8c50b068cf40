#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Ctrl-C ends a mkdir that waits for the hypervisor; what has begun goes on.
. "$(dirname "$0")/tree.sh"
mount_fake slow_ms=1500
start=${EPOCHREALTIME/./}
status=0
timeout -s INT -k 5 0.2 mkdir "$MNT/vms/vm1/refpoints/tue" || status=$?
took=$(((${EPOCHREALTIME/./} - start) / 1000))
assert_equal 124 $status "exit status"
[ $took -lt 1200 ] || fail "it took $took ms"
wait_for 5 test -d "$MNT/vms/vm1/refpoints/tue"
unmount_rp

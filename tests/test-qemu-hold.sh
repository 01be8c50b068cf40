#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# `hold` reads 1 while the instant is held; writing 0 lets go of it, and the VM can be marked again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
assert_equal 1 "$(cat "$points/mon/hold")" hold
assert_shows held mon "$MNT/vms/web1/info"
assert_shows holds 1 "$MNT/service/info"

# One hold per VM.
assert_fails_with "Device or resource busy" mkdir "$points/tue"
assert_says "32774 " last_refusal "$MNT/vms/web1/info"
assert_says "mon" last_refusal "$MNT/vms/web1/info"
[ ! -e "$points/tue" ] || fail "the refused mkdir left something behind"

# What was read can be written back; nothing else is taken.
echo 1 >"$points/mon/hold"
assert_fails_with "Invalid argument" tee "$points/mon/hold" <<<2
assert_equal 1 "$(cat "$points/mon/hold")" "hold after a refused value"

echo 0 >"$points/mon/hold"
assert_equal 0 "$(cat "$points/mon/hold")" "hold after 0"
assert_shows has_associated_data no "$points/mon/info"
assert_shows held "" "$MNT/vms/web1/info"
echo 0 >"$points/mon/hold"
assert_fails_with "Invalid argument" tee "$points/mon/hold" <<<1

# The point itself is still there, and the VM free.
mkdir "$points/tue"
assert_equal 1 "$(cat "$points/tue/hold")" "hold of the next point"
assert_shows parent mon "$points/tue/info"
assert_shows disk.vda.base mon "$points/tue/info"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Format=raw writes a full export as a sparse raw file; an increment in raw is refused.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 0xaa 32M 2M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/qcow2" KeepHold=yes
export_point "$points/mon" "ExportDirectory=$T/raw" Format=raw
assert_same "$T/qcow2/vda.qcow2" "$T/raw/vda.raw"
assert_equal $((64 * 1024 * 1024)) "$(stat -c %s "$T/raw/vda.raw")" "size of the raw file"
blocks=$(stat -c %b "$T/raw/vda.raw")
[ "$blocks" -lt $((24 * 2048)) ] || fail "the raw file is not sparse: $blocks blocks"

mkdir "$points/tue"
assert_fails_with "not supported" settings "$points/tue" "ExportDirectory=$T/tue" \
    BaseReferencePoint=mon Format=raw
assert_shows result 32770 "$points/tue/job/status"
assert_says "raw" error "$points/tue/job/status"
[ ! -e "$T/tue" ] || fail "the refused export made its directory"
unmount_rp

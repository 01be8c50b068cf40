#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A second export of a VM while one runs is refused at once as in use, is remembered, and does not
# disturb the first.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 4M
mkdir "$mon"
settings "$mon" "ExportDirectory=$T/mon" DisksToExport=vdb Bandwidth=2M
wait_for 10 shows state running "$mon/job/status"

assert_fails_with "Device or resource busy" bash -c 'echo "ExportDirectory=$1" >"$2"' \
    bash "$T/two" "$mon/export"
assert_shows state running "$mon/job/status"
assert_shows result 4096 "$mon/job/status"
assert_shows error "" "$mon/job/status"
assert_says "32774 " last_refusal "$mon/job/status"
assert_fails_with "Device or resource busy" mkdir "$MNT/vms/web1/refpoints/tue"
assert_shows state running "$mon/job/status"

export_ends 0 "$mon"
images_check "$T/mon"
assert_reads 0xaa 8M 4M "$T/mon/vdb.qcow2"
assert_says "32774 " last_refusal "$mon/job/status"
assert_equal 1 "$(ls "$MNT/jobs" | wc -l)" "jobs"
[ ! -e "$T/two" ] || fail "the refused export made its directory"
unmount_rp

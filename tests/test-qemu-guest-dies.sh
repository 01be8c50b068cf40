#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# When QEMU dies during an export, the job fails with a sentence, nothing is left, the hold ends,
# the VM shows as shut off, and the mount goes on answering.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
guest_new web2
mount_rp
ready web1 web2
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$mon"
settings "$mon" "ExportDirectory=$T/mon" Bandwidth=1M
wait_for 10 shows state running "$mon/job/status"

guest_kill web1
export_ends 32768 "$mon"
assert_shows state exception "$mon/job/status"
[ -n "$(cat "$mon/job/error")" ] || fail "no sentence says why"
[ ! -e "$T/mon" ] || fail "left: $(ls -aR "$T/mon")"
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
wait_for 10 is_bare "$mon"
assert_shows held "" "$MNT/vms/web1/info"
wait_for 5 shows holds 0 "$MNT/service/info"

# Shut off, it can still be marked and exported, and the other VM is as before.
mkdir "$MNT/vms/web1/refpoints/tue"
export_point "$MNT/vms/web1/refpoints/tue" "ExportDirectory=$T/off"
assert_same "$T/off/vdb.qcow2" "$T/web1-vdb.qcow2"
tue=$MNT/vms/web2/refpoints/tue
mkdir "$tue"
export_point "$tue" "ExportDirectory=$T/tue"
counter_of "$T/tue/vda.qcow2" >/dev/null
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A hold ends with its VM: the reference point becomes bare, an export of it is no longer exact, and
# with RequireExact=yes there is none.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
guest_kill web1
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
wait_for 10 is_bare "$mon"
assert_shows has_associated_data no "$mon/info"
settings "$mon" "ExportDirectory=$T/mon" RequireExact=yes
export_ends 32775 "$mon"
[ ! -e "$T/mon" ] || fail "the refused export made its directory"
export_point "$mon" "ExportDirectory=$T/mon"
assert_shows exact no "$mon/job/status"
[ -z "$(find "$T/scratch" "$T/run" -type f -o -type s)" ] ||
    fail "left of the hold: $(find "$T/scratch" "$T/run" -type f -o -type s)"
unmount_rp

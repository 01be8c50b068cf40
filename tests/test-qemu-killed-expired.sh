#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The time that a hold is kept unused goes on while no service runs: what has run out then is ended
# by the next mount, and nothing of it is left.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp -o hold=3
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
over=$((SECONDS + 4))
kill_rp
has_run_out()
{
    [ $SECONDS -gt $over ]
}
wait_for 10 has_run_out

mount_rp
ready web1
wait_for 5 test -d "$mon"
wait_for 10 is_bare "$mon"
[ -z "$(find "$T/scratch" "$T/run" -type f -o -type s)" ] ||
    fail "left of the hold: $(find "$T/scratch" "$T/run" -type f -o -type s)"
nothing_left "$T/state/holds" || fail "written down: $(ls -a "$T/state/holds")"
mkdir "$MNT/vms/web1/refpoints/tue"
unmount_rp

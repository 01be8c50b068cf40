#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# With a guest agent a reference point has consistency level 1: the guest's file systems are frozen
# for its instant, and for no longer, whether or not the reference point comes about.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/guest/linux.sh
. "$TESTS/guest/linux.sh"

# last_number IMAGE: what the guest had written last, as the frozen file system in it shows.
last_number()
{
    debugfs -R 'cat /journal' "$1" 2>/dev/null | tail -n 1
}

# refusal_says TEXT VM
refusal_says()
{
    status_value last_refusal "$MNT/vms/$2/info" | grep -qF -e "$1"
}

linux_new web1
guest_new web2 # no agent
# A bitmap that libvirt does not know of: a reference point of this name fails in QEMU, after the
# freeze.
qemu-img bitmap --add "$T/web1-vda.qcow2" taken
mount_rp
linux_ready web1
ready web2
points=$MNT/vms/web1/refpoints

# Frozen: what the guest had written before is there, and nothing is half-way.
wait_for 20 linux_has_written web1 0
before=$(linux_written web1)
mkdir "$points/mon"
assert_shows consistency_level 1 "$points/mon/info"
linux_goes_on web1
assert_equal "freeze thaw" "$(linux_hooks web1)" "what the agent did"
export_point "$points/mon" "ExportDirectory=$T/mon" Format=raw
grep -qx consistency_level=1 "$T/mon/export.ini" || fail "$(cat "$T/mon/export.ini")"
e2fsck -fn "$T/mon/vda.raw" >"$T/fsck" 2>&1 || fail "not clean: $(cat "$T/fsck")"
if needs_recovery "$T/mon/vda.raw"; then
    fail "frozen, but its journal needs recovery"
fi
[ "$(last_number "$T/mon/vda.raw")" -ge "$before" ] || fail "what was written before is not there"

# Not frozen: what a power cut would leave.
printf '%s\n' Name=tue ConsistencyLevel=2 | cat >"$MNT/vms/web1/create"
wait_for 20 test -d "$points/tue"
assert_shows consistency_level 2 "$points/tue/info"
export_point "$points/tue" "ExportDirectory=$T/tue" Format=raw
grep -qx consistency_level=2 "$T/tue/export.ini" || fail "$(cat "$T/tue/export.ini")"
needs_recovery "$T/tue/vda.raw" || fail "not frozen, but its journal needs no recovery"
assert_equal "freeze thaw" "$(linux_hooks web1)" "what the agent did"

# Frozen, and then refused by QEMU.
assert_fails_with "File exists" mkdir "$points/taken"
refusal_says "a bitmap 'taken' already" web1 || fail "$(cat "$MNT/vms/web1/info")"
[ ! -e "$points/taken" ] || fail "a refused reference point is there"
wait_for 20 eval '[ "$(linux_hooks web1)" = "freeze thaw freeze thaw" ]'
linux_goes_on web1

# Without an agent.
printf '%s\n' Name=mon ConsistencyLevel=1 | cat >"$MNT/vms/web2/create"
wait_for 20 refusal_says "cannot be frozen" web2
[ ! -e "$MNT/vms/web2/refpoints/mon" ] || fail "a refused reference point is there"
mkdir "$MNT/vms/web2/refpoints/mon"
assert_shows consistency_level 2 "$MNT/vms/web2/refpoints/mon/info"
unmount_rp

# The settings go before the option.
mount_rp -o quiesce=no
linux_ready web1
mkdir "$points/wed"
assert_shows consistency_level 2 "$points/wed/info"
assert_equal "freeze thaw freeze thaw" "$(linux_hooks web1)" "what the agent did"
echo 0 >"$points/wed/hold"
printf '%s\n' Name=thu ConsistencyLevel=1 | cat >"$MNT/vms/web1/create"
wait_for 20 test -d "$points/thu"
assert_shows consistency_level 1 "$points/thu/info"
linux_goes_on web1
unmount_rp

mount_rp -o quiesce=yes
ready web2
echo 0 >"$MNT/vms/web2/refpoints/mon/hold"
assert_fails_with "not supported" mkdir "$MNT/vms/web2/refpoints/tue"
refusal_says "cannot be frozen" web2 || fail "$(cat "$MNT/vms/web2/info")"
[ ! -e "$MNT/vms/web2/refpoints/tue" ] || fail "a refused reference point is there"
unmount_rp

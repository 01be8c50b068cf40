#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# libvirtd goes away and comes back under a mount: the tree answers meanwhile, the connection comes
# back by itself, and the VM can be marked and exported again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
libvirtd_start

virsh_guest web1
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
points=$MNT/vms/web1/refpoints
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"

libvirtd_stop
wait_for 10 shows connected no "$MNT/service/info"
[ -n "$(status_value connection "$MNT/service/info")" ] || fail "no sentence says why"
timeout 1 ls -lR "$MNT/vms" >/dev/null || fail "ls hangs without libvirtd"
timeout 1 cat "$MNT/vms/web1/info" >/dev/null || fail "cat of info hangs without libvirtd"
assert_shows result 0 "$points/mon/job/status"
# 32777, not available.
assert_fails_with "Host is down" timeout 10 mkdir "$points/tue"
assert_says "32777 " last_refusal "$MNT/vms/web1/info"
# An export whose data libvirt would have to hold first.
settings "$points/mon" "ExportDirectory=$T/none"
export_ends 32777 "$points/mon"
[ -n "$(cat "$points/mon/job/error")" ] || fail "no sentence says why"
[ ! -e "$T/none" ] || fail "left: $(ls -aR "$T/none")"

libvirtd_run
wait_for 20 shows connected yes "$MNT/service/info"
can_mark()
{
    mkdir "$points/tue" 2>/dev/null
}
wait_for 10 can_mark
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
assert_same "$T/full/vda.qcow2" "$T/tue/vda.qcow2"
# Events come over the new connection, too.
virsh_ suspend web1 >/dev/null
wait_for 5 shows state paused "$MNT/vms/web1/info"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A libvirtd that hangs does not make the mount hang: what is known is shown at once, and all is
# well when it wakes up.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
libvirtd_start

virsh_guest web1
virsh_ start web1 >/dev/null
mount_rp "$LIBVIRTD_URI"
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"

kill -STOP "$libvirtd_pid"
cleanup_fn kill -CONT "$libvirtd_pid"
# The list of reference points is asked for anew when it is older than a second.
end=$((SECONDS + 4))
while [ $SECONDS -lt $end ]; do
    timeout 1 ls "$MNT/vms" "$MNT/vms/web1/refpoints" >/dev/null || fail "ls hangs with libvirtd"
    timeout 1 cat "$MNT/vms/web1/info" >/dev/null || fail "cat of the VM's info hangs with libvirtd"
    timeout 1 cat "$mon/job/status" >/dev/null || fail "cat of job/status hangs with libvirtd"
done
# A walk of the tree, of about 30 names, may not wait anew for each of them.
timeout 4 ls -lR "$MNT" >/dev/null || fail "ls -lR waits for libvirtd again and again"
# The data comes from QEMU, not from libvirtd: but its papers do. Wait for it in the background.
settings "$mon" "ExportDirectory=$T/mon" || fail "settings are refused while libvirtd hangs"
timeout 1 cat "$mon/job/status" >"$T/status"
kill -CONT "$libvirtd_pid"
export_ends 0 "$mon"
images_check "$T/mon"
counter_of "$T/mon/vda.qcow2" >/dev/null
unmount_rp

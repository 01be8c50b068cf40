#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Checkpoints that virsh makes and deletes come and go in the mount within a second or two, serve as
# bases, and can be exported, exactly while nothing was written since; what mkdir makes, virsh sees.
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
assert_equal "" "$(ls "$points")" "reference points"

virsh_ checkpoint-create-as web1 theirs >/dev/null
listed()
{
    [ "$(ls "$points")" = "$1" ]
}
wait_for 1 listed theirs
assert_equal 0 "$(cat "$points/theirs/hold")" "hold of a foreign checkpoint"
grep -q "<name>theirs</name>" "$points/theirs/checkpoint.xml" || fail "checkpoint.xml is another's"
assert_fails_with "File exists" mkdir "$points/theirs"

mkdir "$points/ours"
assert_shows parent theirs "$points/ours/info"
assert_shows disk.vda.base theirs "$points/ours/info"
assert_equal "ours theirs" "$(virsh_ checkpoint-list --name web1 | sort | xargs)" "virsh's list"
export_point "$points/ours" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/ours" "ExportDirectory=$T/delta" BaseReferencePoint=theirs
# Nobody exported theirs: the increment has no backing file, only its own clusters.
grep -qx mode=incremental "$T/delta/export.ini" || fail "not incremental"

# Exported itself, it is its instant as long as nothing was written since: the guest stands still.
virsh_ suspend web1 >/dev/null
virsh_ checkpoint-create-as web1 still >/dev/null
wait_for 5 test -d "$points/still"
export_point "$points/still" "ExportDirectory=$T/still"
assert_shows exact yes "$points/still/job/status"
assert_same "$T/web1-vda.qcow2" "$T/still/vda.qcow2"
virsh_ resume web1 >/dev/null
guest_write web1 0xaa 32M 64k
export_point "$points/still" "ExportDirectory=$T/later"
assert_shows exact no "$points/still/job/status"
assert_says "has been written to since" error "$points/still/job/status"
settings "$points/still" "ExportDirectory=$T/no" RequireExact=yes
export_ends 32775 "$points/still"
virsh_ checkpoint-delete web1 still >/dev/null

virsh_ checkpoint-delete web1 theirs >/dev/null
wait_for 1 listed ours
assert_fails_with "No such file" cat "$points/theirs/info"
rmdir "$points/ours"
assert_equal "" "$(virsh_ checkpoint-list --name web1 | xargs)" "virsh's list after rmdir"
wait_for 1 listed ""
unmount_rp

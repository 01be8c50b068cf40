#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A backup job that another program runs on the VM makes mkdir answer EBUSY at once, and is not
# touched by us: not by the refusal, not by rmdir, not by unmounting.
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
echo 0 >"$points/mon/hold"

cat >"$T/backup.xml" <<END
<domainbackup mode='pull'>
  <server transport='unix' socket='$T/foreign.sock'/>
  <disks>
    <disk name='vda' type='file'><scratch file='$T/foreign.scratch'/></disk>
  </disks>
</domainbackup>
END
virsh_ backup-begin web1 "$T/backup.xml" >/dev/null

foreign_job_runs()
{
    virsh_ backup-dumpxml web1 2>/dev/null | grep -q "$T/foreign.sock" &&
        nbdinfo --size "nbd+unix:///vda?socket=$T/foreign.sock" >/dev/null
}
requires nbdinfo
foreign_job_runs || fail "there is no foreign job to begin with"

# libvirt itself would wait for 30 s before it refuses.
assert_fails_with "Device or resource busy" timeout 10 mkdir "$points/tue"
assert_says "32774 " last_refusal "$MNT/vms/web1/info"
[ ! -e "$points/tue" ] || fail "the refused mkdir made something"
foreign_job_runs || fail "the refused mkdir ended the foreign job"
echo 0 >"$points/mon/hold"
foreign_job_runs || fail "letting go of nothing ended the foreign job"
rmdir "$points/mon"
foreign_job_runs || fail "rmdir ended the foreign job"
unmount_rp
foreign_job_runs || fail "unmounting ended the foreign job"

# Nor does a mount that finds it there take it for a leftover of its own.
mount_rp "$LIBVIRTD_URI"
ready web1
assert_fails_with "Device or resource busy" timeout 10 mkdir "$points/tue"
foreign_job_runs || fail "a new mount ended the foreign job"
virsh_ domjobabort web1
can_mark()
{
    mkdir "$points/tue" 2>/dev/null
}
wait_for 10 can_mark
export_point "$points/tue" "ExportDirectory=$T/tue"
unmount_rp

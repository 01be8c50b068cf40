#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A job that kill -9 of the service interrupted shows afterwards as killed, with result 32771 and a
# sentence, in jobs/ and at its reference point; nothing of it is left, numbers go on, and the hold
# that it read gives the same export again.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/first" DisksToExport=vda KeepHold=yes
settings "$points/mon" "ExportDirectory=$T/mon" Bandwidth=1M
wait_for 10 shows state running "$points/mon/job/status"
kill_rp
guest_write web1 --disk 1 0xbb 8M 8M

mount_rp
ready web1
wait_for 5 test -d "$points/mon"
for job in "$MNT/jobs/2" "$points/mon/job"; do
    assert_shows id 2 "$job/status"
    assert_shows state killed "$job/status"
    assert_shows job_state 9 "$job/status"
    assert_shows result 32771 "$job/status"
    assert_shows result_name status-unknown "$job/status"
    assert_says "the service ended" error "$job/status"
    assert_shows vm web1 "$job/status"
    assert_shows reference_point mon "$job/status"
    assert_shows export_directory "$T/mon" "$job/status"
    assert_shows caller_uid "$(id -u)" "$job/status"
    grep -q "^Bandwidth=1048576" "$job/settings" || fail "settings: $(cat "$job/settings")"
    assert_equal 32771 "$(timeout 5 cat "$job/wait")" "wait of a job that is over"
done
says_that_nothing_is_left()
{
    grep -q "nothing of its export is left" "$points/mon/job/error"
}
wait_for 10 says_that_nothing_is_left
[ ! -e "$T/mon" ] || fail "left: $(ls -aR "$T/mon")"
# The one before it is as it was.
assert_shows state completed "$MNT/jobs/1/status"
assert_shows result 0 "$MNT/jobs/1/status"
assert_shows percent 100 "$MNT/jobs/1/status"

export_point "$points/mon" "ExportDirectory=$T/mon"
assert_shows id 3 "$points/mon/job/status"
assert_shows exact yes "$points/mon/job/status"
assert_reads 0xaa 8M 8M "$T/mon/vdb.qcow2"
unmount_rp

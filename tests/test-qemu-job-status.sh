#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# job/ tells how far an export is while it runs, and how it ended; jobs/<id>/ shows the same.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$mon"
assert_shows state none "$mon/job/status"
assert_equal none "$(cat "$mon/job/state")" state
assert_equal "" "$(cat "$mon/job/wait")" "wait before the first job"
assert_equal "" "$(ls "$MNT/jobs")" "jobs"

settings "$mon" "ExportDirectory=$T/mon" DisksToExport=vdb Bandwidth=4M

# All of the running state is taken from one read: two could be of different moments.
half_way()
{
    cat "$mon/job/status" >"$T/status"
    shows state running "$T/status" && ! shows percent 0 "$T/status"
}
wait_for 10 half_way
percent=$(status_value percent "$T/status")
[ "$percent" -gt 0 ] && [ "$percent" -lt 100 ] || fail "percent=$percent while it runs"
assert_shows job_state 4 "$T/status"
assert_shows result 4096 "$T/status"
assert_shows result_name job-started "$T/status"
assert_shows error "" "$T/status"
assert_shows vm web1 "$T/status"
assert_shows reference_point mon "$T/status"
assert_shows bytes_total $((8 * 1024 * 1024)) "$T/status"
assert_shows export_directory "$T/mon" "$T/status"
assert_shows caller_uid "$(id -u)" "$T/status"
assert_shows ended "" "$T/status"
progress=$(cat "$mon/job/progress")
[ "$progress" -ge "$percent" ] && [ "$progress" -le 100 ] || fail "progress is $progress"
[ ! -e "$T/mon/export.ini" ] || fail "a manifest beside incomplete data"

id=$(status_value id "$T/status")
assert_equal "$id" "$(ls "$MNT/jobs")" "jobs"
assert_shows reference_point mon "$MNT/jobs/$id/status"
assert_shows jobs_running 1 "$MNT/service/info"

export_ends 0 "$mon"
images_check "$T/mon"
assert_reads 0xaa 8M 8M "$T/mon/vdb.qcow2"
cmp "$mon/job/status" "$MNT/jobs/$id/status" || fail "jobs/$id shows another status"
assert_shows state completed "$mon/job/status"
assert_shows job_state 7 "$mon/job/status"
assert_shows result 0 "$mon/job/status"
assert_shows percent 100 "$mon/job/status"
assert_equal 100 "$(cat "$mon/job/progress")" progress
assert_equal 0 "$(cat "$mon/job/result")" result
assert_equal completed "$(cat "$MNT/jobs/$id/state")" "state in jobs/"
assert_equal 0 "$(cat "$MNT/jobs/$id/wait")" "wait of a job that has ended"
grep -qxi "ExportDirectory *= *$T/mon" "$mon/job/settings" ||
    fail "settings: $(cat "$mon/job/settings")"
grep -qxi "Format *= *qcow2" "$mon/job/settings" || fail "settings lack the defaults"
unmount_rp

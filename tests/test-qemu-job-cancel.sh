#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Writing to job/cancel stops the export: result 32768, nothing left behind, and the hold still
# there for the next one.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0xaa 8M 8M
mkdir "$mon" "$T/there"
echo keep >"$T/there/notes"

# cancel_early OWNER: at once after the text was closed it means the job that is about to begin, and
# while the text is open there is none to cancel.
cancel_early()
{
    local round
    for round in 1 2 3; do
        settings "$1" "ExportDirectory=$T/early" Bandwidth=1M
        echo 1 >"$1/job/cancel"
        export_ends 32768 "$1"
        assert_equal terminated "$(cat "$1/job/state")" "state in round $round"
    done
    exec 5>"$1/export"
    echo "ExportDirectory=$T/early" >&5
    assert_fails_with "Device or resource busy" tee "$1/job/cancel" <<<1
    assert_shows state receiving "$1/job/status"
    exec 5>&-
    cat "$1/job/wait" >/dev/null
}

for folder in made there; do
    settings "$mon" "ExportDirectory=$T/$folder" Bandwidth=1M
    wait_for 10 shows state running "$mon/job/status"
    assert_equal 0 "$(cat "$mon/job/cancel")" "cancel before it is asked for"
    echo 1 >"$mon/job/cancel"
    export_ends 32768 "$mon"
    assert_equal 1 "$(cat "$mon/job/cancel")" "cancel once asked for"
    assert_shows state terminated "$mon/job/status"
    assert_shows job_state 8 "$mon/job/status"
    assert_says cancel error "$mon/job/status"
    is_held "$mon" || fail "the cancelled export let go of the hold"
done
[ ! -e "$T/made" ] || fail "left: $(ls -aR "$T/made")"
assert_equal notes "$(ls -A "$T/there")" "files in the directory that was there before"

export_point "$mon" "ExportDirectory=$T/made"
assert_reads 0xaa 8M 8M "$T/made/vdb.qcow2"
# Nothing to cancel is no error, and changes nothing.
echo 1 >"$mon/job/cancel"
assert_shows state completed "$mon/job/status"

rm -r "$T/made"
cancel_early "$MNT/vms/web1"
mkdir "$MNT/vms/web1/refpoints/tue"
rm -r "$T/early"
cancel_early "$MNT/vms/web1/refpoints/tue"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A guest that writes as fast as it can outgrows a small scratch file system: before that is full
# the hold is let go of, an export that reads it fails with a sentence, and the guest is never paused.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/scratch.sh
. "$TESTS/scratch.sh"

filler_new web1 96M
mount_rp
ready web1
points=$MNT/vms/web1/refpoints

# Looks as often as it can whether the guest stands still, until the hold has ended.
hold_ends_unharmed()
{
    local point=$1 least=$((1 << 40)) free end=$((SECONDS + 60))
    until is_bare "$point"; do
        [ $SECONDS -lt $end ] || fail "the hold does not end: $(df "$T/scratch")"
        vm_is running || fail "the guest is paused: $(hmp web1 "info status")"
        free=$(scratch_free)
        [ "$free" -ge "$least" ] || least=$free
    done
    vm_is running || fail "the guest is paused: $(hmp web1 "info status")"
    echo "at least $((least >> 20)) MiB were free"
    [ "$least" -gt 0 ] || fail "the scratch space was full"
    wait_for 10 goes_on "$(writes_of)"
}

# Nobody uses it. That it was held is seen by what is said of its end, which may come at once.
mkdir "$points/mon"
hold_ends_unharmed "$points/mon"
assert_says "scratch space in '$T/scratch' ran short" last_refusal "$MNT/vms/web1/info"
assert_says "32768 " last_refusal "$MNT/vms/web1/info"
assert_equal "" "$(find "$T/scratch" -type f)" "scratch files"

# An export does.
mkdir "$points/tue"
settings "$points/tue" "ExportDirectory=$T/tue" Bandwidth=1M
wait_for 10 shows state running "$points/tue/job/status"
hold_ends_unharmed "$points/tue"
export_ends 32768 "$points/tue"
assert_says "scratch space in '$T/scratch' ran short" error "$points/tue/job/status"
assert_shows state exception "$points/tue/job/status"
[ ! -e "$T/tue" ] || fail "left: $(ls -aR "$T/tue")"
[ -d "$points/tue" ] || fail "the reference point is gone"

# With room enough all is well.
mount -o remount,size=400M "$T/scratch"
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed" BaseReferencePoint=tue
assert_shows exact yes "$points/wed/job/status"
unmount_rp

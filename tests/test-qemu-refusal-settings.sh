#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Settings that cannot be met are refused with the result that the documentation gives for them,
# and with the line that is wrong.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
dir=ExportDirectory=$T/mon

# refused RESULT ERROR WORD LINE...
refused()
{
    local result=$1 text=$2 word=$3
    shift 3
    assert_fails_with "$text" settings "$mon" "$@"
    assert_shows result "$result" "$mon/job/status"
    assert_says "$word" error "$mon/job/status"
    assert_equal "$result" "$(cat "$mon/job/result")" "job/result"
    assert_equal "$(status_value error "$mon/job/status")" "$(cat "$mon/job/error")" "job/error"
}
refused 32773 "Invalid argument" "line 2" $dir DisksToExport=vdz
refused 32773 "Invalid argument" vdz $dir DisksToExport=vda,vdz
refused 32773 "Invalid argument" "line 3" "[export]" $dir Format=vmdk
refused 32773 "Invalid argument" "line 2" $dir $dir
refused 32773 "Invalid argument" ExportDirectory KeepHold=yes
refused 32773 "Invalid argument" "line 1" "Bogus=1" $dir
refused 32776 "Bad message" "line 2" $dir Timeout=soon
refused 32776 "Bad message" "line 2" $dir Bandwidth=1X
refused 32776 "Bad message" "line 2" $dir KeepHold=perhaps
refused 32776 "Bad message" "line 1" "this is no INI text"
refused 32776 "Bad message" "line 1" "ExportDirectory=$T/"$'\xff'

# 64 KiB is enough for everybody who means it.
head -c 70000 /dev/zero | tr '\0' ';' >"$T/long"
assert_fails_with "File too large" cp "$T/long" "$mon/export"
assert_equal "" "$(ls "$MNT/jobs")" "jobs after refusals only"
[ ! -e "$T/mon" ] || fail "a refused export made its directory"

# A refused text does not stick to the next one.
export_point "$mon" "$dir"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file that bears the name of one to be written makes the export fail, and is not touched.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
for name in vda.qcow2 SHA256SUMS domain.xml checkpoint.xml; do
    mkdir "$T/$name.d"
    echo mine >"$T/$name.d/$name"
    # Refused at once or by the job; in both cases the result is there when wait returns.
    settings "$mon" "ExportDirectory=$T/$name.d" 2>"$T/refusal" || true
    result=$(cat "$mon/job/wait")
    [ "$result" = 32773 ] || [ "$result" = 32768 ] || fail "$name: result '$result'"
    assert_says "$name" error "$mon/job/status"
    assert_equal mine "$(cat "$T/$name.d/$name")" "$name of the user"
    assert_equal "$name" "$(ls -A "$T/$name.d")" "files beside $name"
done
is_held "$mon" || fail "the failed exports let go of the hold"
export_point "$mon" "ExportDirectory=$T/mon"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Whatever program writes settings that are refused, it sees an error, and job/status remembers
# result, line and sentence.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img dash busybox

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
export FILE="$mon/export" BAD="$T/bad.ini"
printf 'ExportDirectory=%s\nKeepHolt=yes\nFormat=qcow2\n' "$T/mon" >"$BAD"

# remembered LINE WORD RESULT
remembered()
{
    assert_shows state exception "$mon/job/status"
    assert_shows job_state 10 "$mon/job/status"
    assert_shows result "$3" "$mon/job/status"
    assert_says "line $1" error "$mon/job/status"
    assert_says "$2" error "$mon/job/status"
    assert_says "$3 " last_refusal "$mon/job/status"
    assert_says "$2" last_refusal "$mon/job/status"
}

# good: wipes the last refusal by an export, so that the next one cannot be mistaken for it.
number=0
good()
{
    number=$((number + 1))
    export_point "$mon" "ExportDirectory=$T/good$number" KeepHold=yes Checksum=none
    assert_shows state completed "$mon/job/status"
}

clients=(
    "bash -c 'printf \"%s\\n\" \"\$(cat \$BAD)\" >\$FILE'"
    "bash -c 'cat \$BAD >\$FILE'"
    "bash -c 'cat >\$FILE <<<\"\$(cat \$BAD)\"'"
    "dash -c 'cat \$BAD | while read -r line; do echo \"\$line\" || exit 1; done >\$FILE'"
    "dash -c 'printf \"%s\\n\" \"\$(cat \$BAD)\" >\$FILE'"
    "busybox sh -c 'echo \"\$(cat \$BAD)\" >\$FILE'"
    "busybox sh -c 'busybox cat \$BAD >\$FILE'"
    "cp \$BAD \$FILE"
    "busybox cp \$BAD \$FILE"
    "tee \$FILE <\$BAD"
    "dd if=\$BAD of=\$FILE status=none"
    "python3 -c 'import shutil, sys; shutil.copyfile(*sys.argv[1:])' \$BAD \$FILE"
)
for client in "${clients[@]}"; do
    good
    if (eval "$client") >"$T/output" 2>&1; then
        fail "no error: $client"
    fi
    [ -s "$T/output" ] || fail "no message: $client"
    remembered 2 KeepHolt 32773
done

# An unknown key as the only line.
good
for shell in bash dash "busybox sh"; do
    if $shell -c 'echo "Colour=red" >$FILE' 2>"$T/output"; then
        fail "no error: echo of $shell"
    fi
    [ -s "$T/output" ] || fail "no message: echo of $shell"
    remembered 1 Colour 32773
done
unmount_rp

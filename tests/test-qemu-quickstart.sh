#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The quick start runs to its end, shows what it promises, and leaves nothing behind.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img fusermount3

quickstart=$TESTS/../scripts/quickstart
BUILD_DIR=$BUILD_DIR "$quickstart" >"$T/shown" 2>&1 || fail "$(tail -n 20 "$T/shown")"
for words in "vda.qcow2: OK" "the guest's counter:" "backing file: ../mon/vda.qcow2" \
    "state=completed" "vms/web1/refpoints/tue/job/status"; do
    grep -qF "$words" "$T/shown" || fail "it does not show '$words'"
done

# Its folder is the first that it names.
folder=$(grep -o '/tmp/rp\.[^/]*' "$T/shown" | head -n 1)
[ ! -e "$folder" ] || fail "left: $folder"
! grep -qF "$folder" /proc/self/mountinfo || fail "left mounted: $folder"
! grep -qzF "$folder" /proc/[0-9]*/cmdline 2>/dev/null || fail "left running"

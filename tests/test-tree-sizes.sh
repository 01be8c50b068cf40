#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# stat tells the exact size of every file, and its blocks, whatever state its job is in.
. "$(dirname "$0")/tree.sh"
mount_fake vms=3

mkdir "$MNT/vms/vm3/refpoints/held"
echo ExportDirectory=/x/done >"$POINT/export"
cat "$POINT/job/wait" >/dev/null
echo ExportDirectory=/x/refuse-32769 2>/dev/null >"$MNT/vms/vm2/export" || true

seen=0
# %n last: it may hold anything.
while read -r size blocks file; do
    # Through a pipe, because wc believes the size that stat tells.
    # shellcheck disable=SC2002
    found=$(cat "$file" | wc -c)
    assert_equal "$found" "$size" "size of $file"
    # A disk has holes.
    [[ $file == *.img ]] || assert_equal $(((found + 511) / 512)) "$blocks" "blocks of $file"
    seen=$((seen + 1))
done < <(find "$MNT/vms" "$MNT/service" "$MNT/jobs" -type f -exec stat -c '%s %b %n' {} +)
[ $seen -gt 100 ] || fail "only $seen files"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Programs that save a file set its mode, owner and times: of a file that can be written that
# succeeds, and changes nothing.
. "$(dirname "$0")/tree.sh"
mount_fake
look()
{
    stat -c '%a %u %g %s %Y' "$1"
}
for file in "$POINT/export" "$POINT/hold" "$MNT/vms/vm1/create"; do
    before=$(look "$file")
    chmod 600 "$file"
    chmod +x "$file"
    chown 1:1 "$file"
    touch -d 2001-01-01 "$file"
    touch "$file"
    assert_equal "$before" "$(look "$file")" "attributes of $file"
done
unmount_rp

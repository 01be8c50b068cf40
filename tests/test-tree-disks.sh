#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# disks/ has an image and a map of each disk while the instant is held, and is empty otherwise; both
# have their true sizes, holes are holes, and nobody but the owner reads them.
. "$(dirname "$0")/tree.sh"
requires setpriv
mount_fake -- "$([ "$(id -u)" = 0 ] && echo -oallow_other || echo -d)"
held=$MNT/vms/vm1/refpoints/held
assert_equal "" "$(ls "$POINT/disks")" "disks of what is not held"
mkdir "$held"
assert_equal "vda.img vda.map" "$(cd "$held/disks" && echo *)"
assert_equal "400 4194816 4097" "$(stat -c '%a %s %b' "$held/disks/vda.img")"
assert_equal "$(wc -c <"$held/disks/vda.map") 1" "$(stat -c '%s %b' "$held/disks/vda.map")"
assert_equal "0 1048576 data 2097152 65536 zero 3145728 1049088 data" \
    "$(tr '\n' ' ' <"$held/disks/vda.map" | sed 's/ $//')"

python3 - "$T/expected" <<END
import struct, sys
words = [0 if 1 << 20 <= at < 3 << 20 else at for at in range(0, (4 << 20) + 512, 8)]
open(sys.argv[1], "wb").write(struct.pack(f"<{len(words)}Q", *words))
END
cmp "$T/expected" "$held/disks/vda.img" || fail "the image reads as something else"
for flag in direct nonblock noatime; do
    dd if="$held/disks/vda.img" iflag=$flag bs=256k status=none | cmp - "$T/expected" ||
        fail "the image reads as something else with $flag"
done
python3 "$TESTS/seek.py" "$held/disks/vda.img" >"$T/seek"
assert_equal "0 1048576 3145728 4194816" "$(xargs <"$T/seek")" "extents"
python3 "$TESTS/seek.py" "$held/info" >"$T/seek"
assert_equal "0 $(stat -c %s "$held/info")" "$(xargs <"$T/seek")" "extents of a text"
cp --sparse=auto "$held/disks/vda.img" "$T/copy"
cmp "$T/expected" "$T/copy"
[ "$(stat -c %b "$T/copy")" -lt 4500 ] || fail "the copy has no hole"

assert_fails_with "Permission denied" dd if=/dev/null of="$held/disks/vda.img" status=none
assert_fails_with "Permission denied" touch "$held/disks/vdb.img"
assert_fails_with "Permission denied" rm -f "$held/disks/vda.img"
assert_fails_with "Permission denied" truncate -s 0 "$held/disks/vda.img"
if [ "$(id -u)" = 0 ]; then
    chmod 711 "$T"
    for file in vda.img vda.map; do
        assert_fails_with "Permission denied" \
            setpriv --reuid=65534 --regid=65534 --clear-groups cat "$held/disks/$file"
    done
fi
unmount_rp

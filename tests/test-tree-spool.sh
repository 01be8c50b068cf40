#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Beside a file that can be written, programs make files of their own as on a disk, but nobody finds
# them in a listing.
. "$(dirname "$0")/tree.sh"
mount_fake
listing=$(ls -aR "$MNT/vms/vm1")
for folder in "$POINT" "$POINT/job" "$MNT/vms/vm1" "$MNT/vms/vm1/job"; do
    cd "$folder"
    umask 027
    echo one >new
    assert_equal "$(id -u) 640 4" "$(stat -c '%u %a %s' new)" "$folder/new"
    echo two >>new
    assert_equal "one two " "$(tr '\n' ' ' <new)" "$folder/new"
    chmod 600 new
    touch -d 2001-01-01T00:00:00Z new
    assert_equal "600 978307200" "$(stat -c '%a %Y' new)" "$folder/new"
    truncate -s 2 new
    assert_equal on "$(cat new)"
    cp new other
    mv new third
    assert_fails_with "cannot overwrite" bash -c 'set -C; echo >third'
    [ ! -e new ] || fail "new is still there"
    python3 - <<'END'
import mmap, os
with open("other", "r+b") as file:
    with mmap.mmap(file.fileno(), 0) as memory:
        memory[0:2] = b"OK"
with open("other") as file:
    assert file.read() == "OK"
    assert os.lseek(file.fileno(), 1, os.SEEK_DATA) == 1
    assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 2
for call in (lambda: os.link("other", "x"), lambda: os.symlink("other", "x"),
             lambda: os.mkdir("x"), lambda: os.mkfifo("x")):
    try:
        call()
    except PermissionError as e:
        assert e.errno == 1, e
    else:
        raise SystemExit("permitted")
END
    mv other third
    assert_equal OK "$(cat third)"
    assert_equal "$listing" "$(ls -aR "$MNT/vms/vm1")" "listing"
    rm third
    [ ! -e third ] || fail "third is still there"
done
# From one folder into another, mv copies.
echo three >"$POINT/a"
mv "$POINT/a" "$MNT/vms/vm1/a"
assert_equal three "$(cat "$MNT/vms/vm1/a")"
[ ! -e "$POINT/a" ] || fail "a is in both folders"
for folder in "$MNT" "$MNT/vms" "$MNT/service" "$MNT/vms/vm1/refpoints" "$MNT/jobs"; do
    assert_fails_with "Permission denied" touch "$folder/new"
done
jobs_are
cd /
unmount_rp

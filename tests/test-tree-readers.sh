#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Whatever reads a file of the tree, by whichever way, gets all of it; what follows a file ends when
# it is told to, and sees the change.
. "$(dirname "$0")/tree.sh"
requires python3
mount_fake
echo ExportDirectory=/x/read >"$POINT/export"
assert_equal 0 "$(cat "$POINT/job/wait")"

# reads PROGRAM SCRIPT: the script prints what it read of the file F; programs that are missing are
# left out.
reads()
{
    command -v "$1" >/dev/null || return 0
    for F in "$MNT/README" "$POINT/export" "$STATUS" "$POINT/hold" "$POINT/checkpoint.xml"; do
        export F T
        cat "$F" >"$T/expected"
        timeout 10 bash -c "$2" >"$T/found" 2>"$T/err" </dev/null ||
            fail "$2: status $?: $(cat "$T/err")"
        cmp "$T/expected" "$T/found" || fail "$2 of $F"
    done
}
reads dd 'dd if="$F" bs=7 status=none'
reads dd 'dd if="$F" iflag=direct status=none'
reads head 'head -c 100000 "$F"'
reads tail 'tail -n +1 "$F"'
reads tac 'tac "$F" | tac'
reads sed 'sed -n p "$F"'
reads awk 'awk 1 "$F"'
reads grep 'grep "" "$F"'
reads less 'less "$F"'
reads bash 'echo "$(<"$F")"'
reads busybox 'busybox cat "$F"'
reads busybox 'busybox cp "$F" "$T/copy" && cat "$T/copy"'
reads busybox 'busybox tar -C "${F%/*}" -c "${F##*/}" | tar -x -O'
reads tar 'tar -C "${F%/*}" -S -c "${F##*/}" | tar -x -O'
reads cp 'cp --sparse=always "$F" "$T/copy" && cat "$T/copy"'
reads install 'install "$F" "$T/copy" && cat "$T/copy"'
reads gio 'gio cat "$F"'
reads gio 'gio copy "$F" "$T/copy" && cat "$T/copy"'
reads curl 'curl -s "file://$F"'
reads vim 'vim -u NONE -es "$F" -c "silent w! $T/copy" -c q && cat "$T/copy"'
reads git 'git -C "$T" init -q && git -C "$T" cat-file -p "$(git -C "$T" hash-object -w "$F")"'
reads python3 'python3 -c "
import os, shutil
shutil.copyfile(os.environ[\"F\"], os.environ[\"T\"] + \"/copy\")" && cat "$T/copy"'
reads python3 'python3 -c "
import os
fd = os.open(os.environ[\"F\"], os.O_RDONLY)
size = os.fstat(fd).st_size
os.write(1, os.pread(fd, size, 0))
assert os.pread(fd, 1, size) == b\"\""'
reads zip 'cd "${F%/*}" && zip -q - "${F##*/}" | python3 -c "
import io, sys, zipfile
archive = zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read()))
sys.stdout.buffer.write(archive.read(archive.namelist()[0]))"'

# tail prints what is there, and goes on; watch ends when what it shows is another.
timeout 1 tail -f "$POINT/job/state" >"$T/found" || true
assert_equal completed "$(cat "$T/found")" "tail -f"
if command -v watch >/dev/null && command -v script >/dev/null; then
    : >"$T/screen"
    timeout 20 script -qec "TERM=xterm watch -g -n 0.1 cat $POINT/job/state" /dev/null \
        >"$T/screen" </dev/null &
    watch=$!
    wait_for 10 grep -q completed "$T/screen"
    echo Foo=1 2>/dev/null >"$POINT/export" || true
    wait "$watch" || fail "watch did not see the change"
fi
jobs_are /x/read
unmount_rp

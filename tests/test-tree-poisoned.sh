#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# After a refused line an open file takes no more, until it is truncated or opened again.
. "$(dirname "$0")/tree.sh"
mount_fake

exec 5>"$POINT/export"
assert_fails_with "Invalid argument" bash -c 'echo Nonsense=1 >&5'
assert_fails_with "Invalid argument" bash -c 'echo ExportDirectory=/x/bad >&5'
assert_fails_with "Invalid argument" python3 -c 'import os; os.fsync(5)'
exec 5>&-
state_is exception || fail "state $(cat "$POINT/job/state")"
assert_equal 32773 "$(cat "$POINT/job/result")"

python3 - "$POINT/export" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
try:
    os.write(fd, b"Nonsense=1\n")
    raise SystemExit("the line was taken")
except OSError:
    pass
os.ftruncate(fd, 0)
os.pwrite(fd, b"ExportDirectory=/x/truncated\n", 0)
os.close(fd)
END
assert_equal 0 "$(cat "$POINT/job/wait")"
echo ExportDirectory=/x/opened >"$POINT/export"
assert_equal 0 "$(cat "$POINT/job/wait")"
jobs_are /x/truncated /x/opened
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# 500 who wait at once cost the mount no threads, and all are answered.
. "$(dirname "$0")/tree.sh"
mount_fake -- -o max_threads=4
echo ExportDirectory=/x/ms-60000 >"$POINT/export"
cat "$STATUS" >/dev/null
python3 - "$POINT/job" "$mount_pid" <<'END'
import os, sys, threading
job, pid = sys.argv[1:]
threading.stack_size(65536)
tasks = lambda: len(os.listdir(f"/proc/{pid}/task"))
before = tasks()
results, about = [], threading.Semaphore(0)
def wait():
    with open(job + "/wait") as file:
        about.release()
        results.append(file.read())
waiters = [threading.Thread(target=wait) for i in range(500)]
for waiter in waiters:
    waiter.start()
for waiter in waiters:
    about.acquire()
for i in range(50): # round trips, in which the last ones arrive, too
    assert open(job + "/state").read() == "running\n"
most = tasks()
assert not results, results
with open(job + "/cancel", "w") as file:
    file.write("1\n")
for waiter in waiters:
    waiter.join()
assert results == ["32768\n"] * 500, results
# The loop may have grown to its 4 threads meanwhile, and the pool for texts have one more.
assert most <= before + 5, (before, most)
END
unmount_rp

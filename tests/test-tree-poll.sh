#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# poll(2) on status answers POLLIN always, and POLLPRI from a change until it is read from its start.
. "$(dirname "$0")/tree.sh"
mount_fake
python3 - "$POINT" <<'END'
import os, select, sys
point = sys.argv[1]
fd = os.open(point + "/job/status", os.O_RDONLY)
poll = select.poll()
poll.register(fd, select.POLLIN | select.POLLPRI)
assert poll.poll(0) == [(fd, select.POLLIN)]
assert b"state=none\n" in os.read(fd, 65536)

poll.modify(fd, select.POLLPRI)
assert poll.poll(0) == []
with open(point + "/export", "w") as file:
    file.write("ExportDirectory=/x/ms-200\n")
seen = []
while not seen or seen[-1] != b"completed":
    assert poll.poll(10000) == [(fd, select.POLLPRI)], seen
    assert poll.poll(0) == [(fd, select.POLLPRI)], "once told, it is forgotten"
    os.lseek(fd, 0, os.SEEK_SET)
    text = os.read(fd, 65536)
    seen.append(dict(line.split(b"=", 1) for line in text.split(b"\n")[:-1])[b"state"])
# Nothing is missed in between, and the order is that of a job.
order = [b"receiving", b"new", b"running", b"completed"]
assert [order.index(state) for state in seen] == sorted(map(order.index, seen)), seen

epoll = select.epoll()
wait = os.open(point + "/job/wait", os.O_RDONLY)
with open(point + "/export", "w") as file:
    file.write("ExportDirectory=/x/ms-300\n")
epoll.register(wait, select.EPOLLIN)
assert epoll.poll(0) == [], "wait can be read before the job has ended"
assert epoll.poll(10) == [(wait, select.EPOLLIN)]
assert os.read(wait, 100) == b"0\n"
END
unmount_rp

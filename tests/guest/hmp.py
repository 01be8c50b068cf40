# SPDX-License-Identifier: LGPL-2.1-or-later
"""hmp.py SOCKET COMMAND: sends one command to QEMU's human monitor and prints its answer."""

import re
import socket
import sys

PROMPT = b"(qemu) "


def read_to_prompt(monitor):
    """All bytes up to the next prompt. The monitor prints a prompt only when it waits for input."""
    data = b""
    while not data.endswith(PROMPT):
        more = monitor.recv(4096)
        if not more:
            sys.exit("hmp: QEMU closed the monitor")
        data += more
    return data[: -len(PROMPT)]


def main():
    path, command = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(60)
        monitor.connect(path)
        read_to_prompt(monitor)
        monitor.sendall(command.encode() + b"\n")
        # The command comes back as it would look while being typed; its line end ends the echo.
        _, _, answer = read_to_prompt(monitor).partition(b"\r\n")
    sys.stdout.write(re.sub(rb"\r|\x1b\[[A-Z]", b"", answer).decode())


main()

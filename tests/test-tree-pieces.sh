#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A text may be cut anywhere: no piece of a line is judged before the line is complete.
. "$(dirname "$0")/tree.sh"
mount_fake
python3 - "$POINT" <<'END'
import os, sys
point = sys.argv[1]
text = b"Bandwidth=1M\nTimeout=90\nExportDirectory=/x/%d\n"
for cut in range(1, len(text) + 1):
    fd = os.open(point + "/export", os.O_WRONLY | os.O_TRUNC)
    whole = text % cut
    for piece in (whole[:cut], whole[cut:]):
        if piece:
            assert os.write(fd, piece) == len(piece)
    os.close(fd)
    assert open(point + "/job/wait").read() == "0\n"
    settings = open(point + "/job/settings").read().split("\n")
    for line in whole.decode().replace("1M", "1048576").strip().split("\n"):
        assert line in settings, (cut, line, settings)
assert len(os.listdir(point + "/../../../../jobs")) == len(text)

# And out of order, as programs with several threads write it.
fd = os.open(point + "/export", os.O_WRONLY)
os.pwrite(fd, b"ory=/x/threads\n", 12)
os.pwrite(fd, b"ExportDirect", 0)
os.close(fd)
assert open(point + "/job/wait").read() == "0\n"
assert "ExportDirectory=/x/threads\n" in open(point + "/job/settings").read()
END
unmount_rp

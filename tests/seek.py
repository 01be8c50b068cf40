# SPDX-License-Identifier: LGPL-2.1-or-later
"""seek.py FILE: where the file has data, as lseek(2) tells: begin and end, a line each."""

import errno
import os
import sys

fd = os.open(sys.argv[1], os.O_RDONLY)
end = 0
while True:
    try:
        begin = os.lseek(fd, end, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        break
    end = os.lseek(fd, begin, os.SEEK_HOLE)
    print(begin, end)

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# However one looks (a new open, a file that stays open, a mapping, stat), nothing is ever older than
# what was done before the look, nor a mixture; files that do not change any more the kernel keeps.
. "$(dirname "$0")/tree.sh"
mount_fake vms=2
python3 - "$MNT" <<'END'
import errno, mmap, os, sys, threading, time

mnt = sys.argv[1]
vm = mnt + "/vms/vm1"
point = vm + "/refpoints/r1"


def read(path):
    with open(path, "rb", buffering=0) as file:
        return file.read(8192).decode()


def value(text, key):
    return dict(line.split("=", 1) for line in text.splitlines())[key]


class Look:
    """One file, looked at in every way that there is."""

    def __init__(self, path, is_kept=False):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        os.pread(self.fd, 1, 0)  # the first read is of what was opened, the next ones are afresh
        self.is_kept = is_kept
        self.first = 0

    def by_open(self):
        return read(self.path)

    def by_pread(self):
        return os.pread(self.fd, 8192, 0).decode()

    def by_stat(self):
        return os.pread(self.fd, os.stat(self.path).st_size, 0).decode()

    def by_fstat(self):
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0).decode()

    def by_mmap(self):
        size = os.stat(self.path).st_size
        try:
            with mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                return view[:size].decode()
        except OSError as error:
            # What the kernel keeps can be mapped; what may still change cannot.
            assert error.errno == errno.ENODEV and not self.is_kept, (self.path, error)
            return self.by_pread()

    def check(self, when, **wanted):
        # Each in turn comes first: the others profit from what it found out.
        ways = (self.by_pread, self.by_mmap, self.by_open, self.by_stat, self.by_open,
                self.by_fstat)
        self.first += 1
        for i in range(len(ways)):
            way = ways[(self.first + i) % len(ways)]
            text = way()
            for key, wish in wanted.items():
                found = value(text, key)
                assert found == str(wish), (when, self.path, way.__name__, key, found, wish)

    def close(self):
        os.close(self.fd)


def export(directory):
    with open(point + "/export", "w") as file:
        file.write("ExportDirectory=" + directory + "\n")


# Others who look all the time, but for every other round.
ending, looking = threading.Event(), threading.Event()


def look_on():
    while not ending.is_set():
        looking.wait()
        for path in (point + "/job/status", vm + "/info", point + "/info", vm + "/job/status"):
            read(path)
            os.stat(path)


others = [threading.Thread(target=look_on) for _ in range(2)]
for other in others:
    other.start()
try:
    status = Look(point + "/job/status")
    info = Look(point + "/info")
    own = Look(vm + "/info")
    status.check("before", state="none")
    for number in range(1, 101):
        looking.clear() if number % 2 else looking.set()
        # What was still for longer than anything is kept, and then changes, all see at once.
        if number % 50 > 47:
            time.sleep(1.2)
            for _ in range(3):
                status.check("still", state="exception", result=32769)
                info.check("still", last_export=f"/x/{number - 1}")
        before = os.stat(point + "/job").st_mtime_ns
        export(f"/x/{number}")
        # The text is being received, or a job already: never the job before.
        assert value(read(point + "/job/status"), "id") in ("", str(number))
        assert read(point + "/job/wait") == "0\n"
        assert os.stat(point + "/job").st_mtime_ns > before, "the time of a directory"
        status.check("ended", id=number, state="completed", export_directory=f"/x/{number}")
        info.check("ended", last_export=f"/x/{number}")
        job = Look(f"{mnt}/jobs/{number}/status")
        job.check("ended", id=number, state="completed")
        job.close()
        if number % 50 == 0:
            kept = Look(f"{mnt}/jobs/{number}/status", is_kept=True)
            kept.check("kept", id=number, state="completed")
            kept.close()
        try:
            export("/x/refuse-32769")
        except PermissionError:
            status.check("refused", state="exception", result=32769)
        else:
            raise AssertionError("not refused")
        try:
            os.mkdir(vm + f"/refpoints/result-{32769 + number % 5}")
        except OSError:
            own.check("mkdir refused", last_refusal=f"{32769 + number % 5} the name asks for a refusal")
        else:
            raise AssertionError("not refused")
    for number in range(50):
        looking.clear() if number % 2 else looking.set()
        os.mkdir(vm + "/refpoints/new")
        own.check("held", held="new")
        assert value(read(vm + "/refpoints/new/info"), "has_associated_data") == "yes"
        with open(vm + "/refpoints/new/hold", "w") as file:
            file.write("0\n")
        own.check("let go of", held="")
        look = Look(vm + "/refpoints/new/info")
        look.check("let go of", has_associated_data="no")
        inode = os.stat(vm + "/refpoints/new").st_ino
        os.rmdir(vm + "/refpoints/new")
        look.close()
        assert not os.path.exists(vm + "/refpoints/new/info")
        os.mkdir(vm + "/refpoints/new")
        assert os.stat(vm + "/refpoints/new").st_ino != inode
        assert value(read(vm + "/refpoints/new/info"), "has_associated_data") == "yes"
        with open(vm + "/refpoints/new/hold", "w") as file:
            file.write("0\n")
        os.rmdir(vm + "/refpoints/new")
finally:
    ending.set()
    looking.set()
    for other in others:
        other.join()
END
unmount_rp

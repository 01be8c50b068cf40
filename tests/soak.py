#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Uses a mount for long and prints what the service takes of memory and file descriptors.

    soak.py MOUNTPOINT PID FOLDER --seconds N --readers N

All VMs of the mount at a time: points come and go, are exported in full and as increments into
FOLDER, exports are cancelled, holds are let go. READERS read whatever the tree has meanwhile. At
first and at last nothing is held or open, nobody reads, and no point is left: those two lines are
to be compared.
"""

import argparse
import contextlib
import errno
import os
import random
import select
import shutil
import sys
import threading
import time

MIB = 1 << 20
POINTS_KEPT = 3
CHAIN_MOST = 8
WARM_SECONDS = 120


class Soak:
    def __init__(self, args):
        self.args = args
        self.end = threading.Event()
        self.lock = threading.Lock()  # of what follows
        self.counts = {"reads": 0, "exports": 0, "cancelled": 0, "points": 0}
        self.failures = []

    def count(self, what, number=1):
        with self.lock:
            self.counts[what] += number

    def fail(self, sentence):
        with self.lock:
            self.failures.append(sentence)
        self.end.set()

    # ---- what the service takes ----

    def open_files(self):
        names = []
        for number in os.listdir(f"/proc/{self.args.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                names.append(os.readlink(f"/proc/{self.args.pid}/fd/{number}"))
        return names

    def sample(self, label):
        """Prints it. Threads of FUSE come and go, and with them what each has of /dev/fuse."""
        with open(f"/proc/{self.args.pid}/status") as file:
            fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        names = self.open_files()
        if self.args.verbose:
            print(*sorted(names), sep="\n")
        numbers = {
            "rss_kib": int(fields["VmRSS"].split()[0]),
            "anon_kib": int(fields["RssAnon"].split()[0]),
            "fds": len(names),
            "files": count_files(names),
            "threads": int(fields["Threads"]),
        }
        with self.lock:
            numbers.update(self.counts)
        print(f"{label:>8} ", *(f"{what}={number}" for what, number in numbers.items()), flush=True)
        return numbers

    def use(self, users, seconds, every):
        """All at once for so long, then all at rest; a line each `every` seconds."""
        self.end.clear()
        threads = [threading.Thread(target=user.run) for user in users]
        threads += [threading.Thread(target=reader, args=(self, number))
                    for number in range(self.args.readers)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        while not self.failures and (left := begun + seconds - time.monotonic()) > 0:
            self.end.wait(min(every or left, left))
            if every:
                self.sample(f"{time.monotonic() - begun:.0f} s")
        self.end.set()
        for thread in threads:
            thread.join()


def count_files(names):
    return sum(name != "/dev/fuse" for name in names)


def read(path):
    with open(path) as file:
        return file.read()


# ---- those who read ----


def read_something(soak, mount, choice):
    """One walk down the tree to one file; what is gone meanwhile is gone."""
    path = mount
    try:
        while os.path.isdir(path):
            names = os.listdir(path)
            if not names:
                return
            path = f"{path}/{choice.choice(names)}"
        with open(path, "rb") as file:
            if choice.random() < 0.1:
                select.select([file], [], [file], choice.random())
                file.seek(0)
            while file.read(MIB):
                pass
        soak.count("reads")
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        # Of what goes while it is looked at; of a disk also while it is read.
        if error.errno != errno.ESTALE and not path.endswith((".img", ".map")):
            soak.fail(f"{path}: {error}")


def reader(soak, number):
    choice = random.Random(number)
    while not soak.end.wait(choice.random() * soak.args.pause):
        read_something(soak, soak.args.mountpoint, choice)


# ---- those who export ----


class User:
    """Of one VM: makes points, exports and removes them, in a random order of its own."""

    def __init__(self, soak, vm, number):
        self.soak, self.vm = soak, vm
        self.choice = random.Random(1000 + number)
        self.points = f"{soak.args.mountpoint}/vms/{vm}/refpoints"
        self.folder = f"{soak.args.folder}/{vm}"
        self.made = []  # names of points that are there, oldest first
        self.chain = []  # of these, those with an export, each on the one before
        self.number = 0
        os.mkdir(self.folder)

    def say(self, name, file, text):
        with open(f"{self.points}/{name}/{file}", "w") as out:
            out.write(text)

    def export(self, name, *lines):
        """The result it ended with, and whether it was cancelled."""
        text = "".join(f"{line}\n" for line in (f"ExportDirectory={self.folder}/{name}", *lines))
        cancel = self.choice.random() < 0.2
        if cancel:
            text += "Bandwidth=64K\n"
        self.say(name, "export", text)
        if cancel:
            # The job is made after close(2) has returned; before, there is nothing to cancel.
            while read(f"{self.points}/{name}/job/state") == "receiving\n":
                time.sleep(0.01)
            self.say(name, "job/cancel", "1")
        return int(read(f"{self.points}/{name}/job/wait")), cancel

    def export_point(self, name):
        # A hold has what changed since the point before it, and no more.
        if self.chain != [] and self.chain[-1:] == self.made[-2:-1]:
            base = [f"BaseReferencePoint={self.chain[-1]}"]
        else:
            base = []
            self.clear()
        result, cancelled = self.export(name, *base)
        if result == 0:
            self.chain.append(name)
            self.soak.count("exports")
        elif result == 32768 and cancelled:
            self.soak.count("cancelled")
        else:
            error = read(f"{self.points}/{name}/job/error")
            raise AssertionError(f"{self.vm}: result {result} of {name}: {error}")

    def let_go(self, name):
        if read(f"{self.points}/{name}/hold") == "1\n":
            self.say(name, "hold", "0")

    def clear(self):
        """The chain of exports ends; the next one is in full."""
        self.chain = []
        for name in os.listdir(self.folder):
            shutil.rmtree(f"{self.folder}/{name}")

    def forget(self, keep):
        while len(self.made) > keep:
            os.rmdir(f"{self.points}/{self.made.pop(0)}")
        if len(self.chain) > CHAIN_MOST or keep == 0:
            self.clear()

    def cycle(self):
        self.number += 1
        name = f"p{self.number}"
        os.mkdir(f"{self.points}/{name}")
        self.made.append(name)
        self.soak.count("points")
        if self.choice.random() < 0.9:
            self.export_point(name)
        self.let_go(name)
        self.forget(POINTS_KEPT)

    def run(self):
        try:
            while not self.soak.end.is_set():
                self.cycle()
            self.forget(0)
        except (OSError, AssertionError) as error:
            self.soak.fail(f"{self.vm}, p{self.number}: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mountpoint")
    parser.add_argument("pid", type=int)
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--pause", type=float, default=1.0,
                        help="seconds at most between two reads of one reader")
    parser.add_argument("--verbose", action="store_true", help="name the open files, too")
    args = parser.parse_args()
    soak = Soak(args)
    vms = sorted(os.listdir(f"{args.mountpoint}/vms"))
    users = [User(soak, vm, number) for number, vm in enumerate(vms)]

    # What is made once and stays: caches, arenas, threads, the jobs that are remembered.
    soak.use(users, min(WARM_SECONDS, args.seconds / 3), None)
    first = soak.sample("first")
    soak.use(users, args.seconds, 60)
    # libvirt writes down what it did after it has said so.
    patience = time.monotonic() + 10
    while count_files(soak.open_files()) > first["files"] and time.monotonic() < patience:
        time.sleep(0.1)
    last = soak.sample("last")
    print(f"grown by {last['anon_kib'] - first['anon_kib']} KiB and "
          f"{last['files'] - first['files']} files")
    if soak.failures:
        print(*soak.failures[:10], sep="\n")
    return 1 if soak.failures or last["files"] > first["files"] else 0


sys.exit(main())

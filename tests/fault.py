#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes each call of the service that can fail, fail once, and looks at what becomes of it.

    fault.py [--every N] [--first N] [--places] [--scenario NAME] [--verbose]

Plays a scenario on a real QEMU with refpointfs-fault (fault.c), again and again, with one call later
failing each time, until a whole scenario has gone by without a failure. --every plays only every
N-th. --places makes each place in the product that calls fail once, however often it is passed.
Whatever fails: the service lives and answers, what failed says a documented result and a
sentence, what succeeded is right, nothing is left behind, and the same works again at once.

REFPOINTFS names the binary, BUILD_DIR the folder with the cache of libvirt's probes.
"""

import argparse
import errno
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from model import VM, Disk, Failure, Machine, State, end_in_order, records, run, wait_for

RESULTS = [0, *range(32768, 32779)]
SCENARIOS = ["main", "vm", "off"]
LAYOUT = struct.Struct("<qqq64sQ")
SIZE = 65536
NEW_PLACE = -1
MIB = 1 << 20


class Fault:
    """The file shared with refpointfs-fault: struct fault there."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as file:
            file.truncate(SIZE)
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), SIZE)

    def read(self):
        return LAYOUT.unpack_from(self.map)

    def arm(self, countdown):
        struct.pack_into("<q", self.map, 0, countdown)

    def struck(self):
        return self.read()[2]

    def where(self, binary):
        what, at = self.read()[3].split(b"\0")[0].decode(), self.read()[4]
        line = run("addr2line", "-f", "-e", binary, hex(at - 1)).split()
        return f"{what} in {line[0]} ({os.path.basename(line[1])})"


class Play:
    """One VM under one mount, and the scenarios that are played on it."""

    def __init__(self, binary, verbose):
        self.folder = tempfile.mkdtemp(prefix="rpf.", dir="/tmp")
        self.binary, self.verbose = binary, verbose
        self.fault = Fault(f"{self.folder}/fault")
        self.disks = []
        for target in ("vda", "vdb"):
            path = f"{self.folder}/{VM}-{target}.qcow2"
            run("qemu-img", "create", "-q", "-f", "qcow2", path, "8M")
            self.disks.append(Disk(target, path, "qcow2", 65536, State(8 * MIB)))
        self.machine = Machine(self.disks, self.folder)
        self.vm = self.machine.vm
        self.is_off = False
        self.number = 0
        self.messages = []
        self.findings = 0

    def begin(self, with_vm):
        os.environ["FAULT_FILE"] = self.fault.path
        self.is_off = not with_vm
        self.machine.define()
        for disk in self.disks:
            self.machine.qemu_io(disk, "write -P 0xaa 1M 1M")
        self.machine.begin(with_vm)
        if with_vm:
            # What the images show is then what every export must.
            self.machine.monitor.ask("stop")
            wait_for("the VM is paused", lambda: records(f"{self.vm}/info")["state"] == "paused")
        os.mkdir(f"{self.folder}/out")

    # -- what users do; True when it succeeded --

    def mkdir(self, name):
        try:
            os.mkdir(f"{self.vm}/refpoints/{name}")
            return True
        except OSError as error:
            self.said(f"mkdir: {error.strerror}", error.errno)
            return False

    def rmdir(self, name):
        try:
            os.rmdir(f"{self.vm}/refpoints/{name}")
            return True
        except OSError as error:
            self.said(f"rmdir: {error.strerror}", error.errno)
            if error.errno == errno.ENOENT and name in os.listdir(f"{self.vm}/refpoints"):
                raise Failure(f"rmdir: {error.strerror}, but '{name}' is there") from error
            return False

    def release(self, name):
        return self.store(f"refpoints/{name}/hold", "0\n")

    def said(self, text, number):
        self.messages.append(text)
        if not 0 < number < 134:
            raise Failure(f"{text}: errno {number}")

    def store(self, path, text):
        try:
            file = os.open(f"{self.vm}/{path}", os.O_WRONLY | os.O_TRUNC)
        except OSError as error:
            self.said(f"{path}: open: {error.strerror}", error.errno)
            return False
        good = True
        for verb in (lambda: os.write(file, text.encode()), lambda: os.close(file)):
            try:
                verb()
            except OSError as error:
                self.said(f"{path}: {error.strerror}", error.errno)
                good = False
        return good

    def export(self, owner, *lines):
        """Exports to a folder of its own, and checks what there is to be said and seen of it."""
        self.number += 1
        folder = f"{self.folder}/out/{self.number}"
        text = "\n".join([f"ExportDirectory={folder}", *lines, ""])
        last = self.last_job()
        if not self.store(f"{owner}export", text):
            # What close(2) says is not the end of it: the text may be taken all the same.
            wait_for("the text has become a job or not", lambda: self.has_settled(owner))
            if self.last_job() == last:
                self.must_not_exist(folder)
                return None
        try:
            with open(f"{self.vm}/{owner}job/wait", encoding="ascii") as file:
                result = file.read().strip()
            job = records(f"{self.vm}/{owner}job/status")
        except OSError as error:
            # The call that failed was of the look itself.
            self.said(f"job: {error.strerror}", error.errno)
            wait_for("the job has ended", lambda: self.has_settled(owner))
            job = records(f"{self.vm}/{owner}job/status")
            result = job["result"]
        if result != job["result"] and result != "":
            raise Failure(f"wait says {result}, status {job}")
        if int(job["result"] or 0) not in RESULTS:
            raise Failure(f"result {job['result']} is none of the documented: {job}")
        if job["result"] == "0" and int(job["id"]) != last:
            self.must_be_right(folder)
            return folder
        if not job["error"]:
            raise Failure(f"result {job['result']}, and no sentence: {job}")
        self.messages.append(f"export: {job['result']} {job['error']}")
        self.must_not_exist(folder)
        return None

    def last_job(self):
        try:
            names = os.listdir(f"{self.machine.mount}/jobs")
        except OSError as error:
            self.said(f"jobs: {error.strerror}", error.errno)
            names = os.listdir(f"{self.machine.mount}/jobs")
        return max([int(name) for name in names] or [0])

    def has_settled(self, owner):
        return records(f"{self.vm}/{owner}job/status")["state"] in (
            "none", "completed", "terminated", "exception", "killed")

    @staticmethod
    def must_not_exist(folder):
        if os.path.exists(folder):
            raise Failure(f"an export that failed left {os.listdir(folder)}")

    def must_be_right(self, folder):
        if not os.path.exists(f"{folder}/export.ini"):
            raise Failure(f"an export without export.ini: {os.listdir(folder)}")
        with open(f"{folder}/export.ini", encoding="utf-8") as file:
            stands = "no backing file" not in file.read()
        for disk in self.disks:
            run("qemu-img", "check", "-q", f"{folder}/{disk.target}.qcow2")
            if not stands:
                continue
            said = run("qemu-img", "compare", "-U", f"{folder}/{disk.target}.qcow2", disk.path)
            if "identical" not in said:
                raise Failure(f"{folder}/{disk.target}.qcow2: {said}")

    # -- scenarios --

    def play_main(self):
        """Mark, full export, mark, delta, delete both."""
        if self.mkdir("mon"):
            self.export("refpoints/mon/")
            self.release("mon")
            if self.mkdir("tue"):
                self.export("refpoints/tue/", "BaseReferencePoint=mon", "IfBaseLost=full")
                self.rmdir("tue")
            self.rmdir("mon")

    def play_vm(self):
        """The VM as it is, with a point of that instant, compressed; then as a bare point."""
        if self.export("", "ReferencePoint=wed", "Compression=zstd"):
            self.export("refpoints/wed/")
            self.rmdir("wed")

    def play_off(self):
        """A VM that is off: mark, full export, mark, delta, delete both."""
        self.play_main()

    # -- after each strike --

    def recover(self):
        """Without faults again, everything is as if nothing had been."""
        self.fault.arm(0)
        if self.machine.service.poll() is not None:
            raise Failure(f"the service ended with {self.machine.service.returncode}: "
                          f"{self.machine.messages()}")
        self.clear_points()
        if self.is_off and self.bitmaps():
            raise Failure(f"bitmaps without a point: {self.bitmaps()}")
        wait_for("the VM is free to be marked", self.can_mark, 10)
        if not self.export("refpoints/again/"):
            raise Failure(f"no export afterwards: {self.messages}")
        if not self.rmdir("again"):
            raise Failure(f"no rmdir afterwards: {self.messages}")
        wait_for("nothing is left of holds", lambda: not self.leftovers(), 5)
        shutil.rmtree(f"{self.folder}/out")
        os.mkdir(f"{self.folder}/out")

    def clear_points(self):
        for name in os.listdir(f"{self.vm}/refpoints"):
            if not self.rmdir(name) and os.path.exists(f"{self.vm}/refpoints/{name}"):
                raise Failure(f"{name} cannot be removed: {self.messages} "
                              f"{records(f'{self.vm}/info')['last_refusal']}")

    def can_mark(self):
        try:
            os.mkdir(f"{self.vm}/refpoints/again")
            return True
        except OSError:
            return False

    def bitmaps(self):
        """Of a VM that is off: those in its images."""
        found = []
        for disk in self.disks:
            info = json.loads(run("qemu-img", "info", "-U", "--output=json", disk.path))
            found += info["format-specific"]["data"].get("bitmaps", [])
        return found

    def leftovers(self):
        return [f"{path}/{name}" for where in ("run", "scratch")
                for path, _, names in os.walk(f"{self.folder}/{where}") for name in names]

    def strike(self, play, countdown):
        """Plays once with one call failing; false when the scenario has fewer calls."""
        before = self.fault.struck()
        self.messages = []
        self.fault.arm(countdown)
        what, began = "", time.monotonic()
        try:
            play()
            self.fault.arm(0)
            if self.fault.struck() == before:
                self.recover()
                return False
            what = self.fault.where(self.binary)
            self.recover()
            outcome = "; ".join(self.messages) or "nothing was seen of it"
            if self.verbose:
                print(f"{countdown:5} {time.monotonic() - began:.1f} s {what}: {outcome}", flush=True)
        except (Failure, OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
            self.findings += 1
            what = what or self.fault.where(self.binary)
            print(f"{countdown:5} FINDING {what}: {type(error).__name__}: {error}".rstrip(), flush=True)
            print("      " + "; ".join(self.messages), flush=True)
            if self.machine.service.poll() is not None:
                raise
            self.fault.arm(0)
            self.clear_points()
        return True

    def end(self):
        self.fault.arm(0)
        self.machine.end()
        left = self.leftovers()
        if left:
            raise Failure(f"left behind: {left}")

    def clear(self):
        self.machine.clear()
        shutil.rmtree(self.folder)


def main():
    end_in_order()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--places", action="store_true")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    strikes = findings = 0
    for name in arguments.scenario or SCENARIOS:
        play = Play(os.environ["REFPOINTFS"], arguments.verbose)
        countdown, every = arguments.first, arguments.every
        if arguments.places:
            countdown, every = NEW_PLACE, 0
        played = strikes
        try:
            play.begin(name != "off")
            while play.strike(getattr(play, f"play_{name}"), countdown):
                countdown += every
                strikes += 1
            play.end()
        except (Failure, OSError) as error:
            print(f"FAILED: {error}\n{play.machine.messages()}")
            findings += 1
        finally:
            play.clear()
        findings += play.findings
        what = "each place" if arguments.places else f"every {every}th of {countdown} calls"
        print(f"{name}: {what} made to fail, {strikes - played} strikes", flush=True)
    print(f"{strikes} strikes, {findings} findings")
    sys.exit(1 if findings or strikes == 0 else 0)


main()

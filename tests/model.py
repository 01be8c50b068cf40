#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays random histories on a real QEMU against a model of the bytes that every export must have.

    model.py [--seed N | --seeds A-B] [--steps K] [--keep] [--verbose]

One line a history; of one that fails the whole history so far, and what differed. Every choice
comes from the seed and from the model, so that a seed plays the same history again.

REFPOINTFS names the binary to test, BUILD_DIR the folder with the cache of libvirt's probes.
"""

import argparse
import configparser
import errno
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

TESTS = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("BUILD_DIR", f"{TESTS}/../build")
BINARY = os.environ.get("REFPOINTFS", f"{BUILD}/fs/refpointfs")
PAGE = 65536
ZERO = bytes(PAGE)
VM = "web1"
OK, NOT_SUPPORTED, INVALID, IN_USE, INVALID_STATE = 0, 32770, 32773, 32774, 32775
ERRNOS = {
    32768: errno.EIO, 32769: errno.EACCES, 32770: errno.EOPNOTSUPP, 32771: errno.EREMOTEIO,
    32772: errno.ETIMEDOUT, 32773: errno.EINVAL, 32774: errno.EBUSY, 32775: errno.ENOTRECOVERABLE,
    32776: errno.EBADMSG, 32777: errno.EHOSTDOWN, 32778: errno.ENOMEM,
}
PROMPT = b"(qemu) "


class Failure(Exception):
    """What was found is not what the model expects."""


def wait_for(what, condition, seconds=20):
    """The first true value of condition(), polled."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"after {seconds} s still not: {what}")
        time.sleep(0.01)


def run(*command):
    """Output of a program that must succeed, and is not let hang."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          check=False)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: status {done.returncode}: {text}")
    return text


def records(path):
    """A file of key=value lines."""
    with open(path, encoding="utf-8") as file:
        return dict(line.rstrip("\n").split("=", 1) for line in file)


# ---- the model ----


class State:
    """The bytes of a disk at one instant: pages that are not all zero, shared between copies."""

    def __init__(self, size, pages=None):
        self.size = size
        self.pages = pages or {}

    def copy(self):
        return State(self.size, dict(self.pages))

    def put(self, offset, data):
        at = 0
        while at < len(data):
            number, inside = divmod(offset + at, PAGE)
            part = data[at:at + PAGE - inside]
            page = self.pages.get(number, ZERO)
            page = page[:inside] + part + page[inside + len(part):]
            if page == ZERO:
                self.pages.pop(number, None)
            else:
                self.pages[number] = page
            at += len(part)

    def difference(self, path):
        """The first byte in which a raw image differs, as a sentence; None when it is the same."""
        found = os.path.getsize(path)
        if found != self.size:
            return f"size: expected {self.size}, found {found}"
        with open(path, "rb") as file:
            for number in range((self.size + PAGE - 1) // PAGE):
                wanted = self.pages.get(number, ZERO)[:self.size - number * PAGE]
                found = file.read(PAGE)
                if wanted != found:
                    return self.explain(number, wanted, found)
        return None

    @staticmethod
    def explain(number, wanted, found):
        first = next(i for i in range(len(wanted)) if wanted[i] != found[i])
        count = sum(a != b for a, b in zip(wanted, found))
        return (f"offset {number * PAGE + first} (cluster {number} + {first}): "
                f"expected 0x{wanted[first]:02x}, found 0x{found[first]:02x}; {count} bytes of the "
                f"cluster differ")

    def write_raw(self, path):
        with open(path, "wb") as file:
            file.truncate(self.size)
            for number, page in self.pages.items():
                file.seek(number * PAGE)
                file.write(page[:self.size - number * PAGE])


class Disk:
    """A disk of the VM as it is now."""

    def __init__(self, target, path, form, cluster, state):
        self.target, self.path, self.form, self.cluster = target, path, form, cluster
        self.state = state
        self.changed = 0  # the clock's time of the last write
        self.is_layered = False  # has external snapshots

    @property
    def tracked(self):
        return self.form == "qcow2"


class Point:
    """A reference point: what every disk was, and which of them it covers."""

    def __init__(self, name, clock, disks, covers):
        self.name, self.clock = name, clock
        self.states = {disk.target: disk.state.copy() for disk in disks}
        self.covers = covers
        self.broken = set()
        self.created = None
        self.last_export = None  # where this mount exported it last


class Export:
    """What an export that succeeded claims, and the point it is of (None: of the VM)."""

    def __init__(self, path, point, states, exact):
        self.path, self.point, self.states, self.exact = path, point, states, exact
        self.bases = {}   # target: the state that its delta starts from
        self.rooted = {}  # target: True when its chain of backing files ends in a full export


# ---- the machine ----


class Monitor:
    """QEMU's human monitor."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.read()

    def read(self):
        data = b""
        while not data.endswith(PROMPT):
            more = self.socket.recv(65536)
            if not more:
                raise Failure("QEMU closed the monitor")
            data += more
        return data[:-len(PROMPT)]

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\n")
        answer = self.read().partition(b"\r\n")[2]
        return re.sub(rb"\r|\x1b\[[A-Z]", b"", answer).decode().strip()

    def tell(self, command):
        """A command after which nothing answers."""
        self.socket.sendall(command.encode() + b"\n")

    def close(self):
        self.socket.close()


class Machine:
    """The VM, its images and the service: everything that is real."""

    def __init__(self, disks, folder):
        self.folder = folder
        self.disks = disks
        self.mount = f"{folder}/mnt"
        self.vm = f"{self.mount}/vms/{VM}"
        self.root = f"{folder}/root"
        self.service = None
        self.monitor = None
        self.pid = None
        self.is_mounted = False
        self.log = None

    def define(self):
        os.makedirs(f"{self.root}/etc/qemu/autostart")
        os.mkdir(self.mount)
        cache = os.path.abspath(f"{BUILD}/embed-cache")
        os.makedirs(cache, exist_ok=True)
        os.symlink(cache, f"{self.root}/cache")
        self.fill("qemu.conf.in", f"{self.root}/etc/qemu.conf", USER=run("id", "-un").strip(),
                  GROUP=run("id", "-gn").strip())
        text = "".join(
            f"<disk type='file' device='disk'>"
            f"<driver name='qemu' type='{disk.form}' discard='unmap'/>"
            f"<source file='{disk.path}'/><target dev='{disk.target}' bus='virtio'/></disk>\n"
            for disk in self.disks)
        self.fill("domain.xml.in", f"{self.root}/etc/qemu/{VM}.xml", NAME=VM, UUID=uuid.uuid4(),
                  TYPE="qemu", FOLDER=self.folder, DISKS=text)

    def replace(self, path, by):
        """Another image for a disk, in the definition; while no service has it."""
        definition = f"{self.root}/etc/qemu/{VM}.xml"
        with open(definition, encoding="utf-8") as file:
            text = file.read()
        if path not in text:
            raise Failure(f"{path} is not in the definition: {text}")
        with open(definition, "w", encoding="utf-8") as file:
            file.write(text.replace(path, by))

    @staticmethod
    def fill(template, path, **values):
        with open(f"{TESTS}/guest/{template}", encoding="utf-8") as file:
            text = file.read()
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    # -- the service --

    def begin(self, with_vm):
        link = f"{self.root}/etc/qemu/autostart/{VM}.xml"
        if with_vm and not os.path.lexists(link):
            os.symlink(f"{self.root}/etc/qemu/{VM}.xml", link)
        if not with_vm and os.path.lexists(link):
            os.unlink(link)
        # libvirt starts VMs by itself once after a boot, and remembers it here.
        if os.path.exists(f"{self.root}/run/qemu/autostarted"):
            os.unlink(f"{self.root}/run/qemu/autostarted")
        self.log = open(f"{self.folder}/refpointfs.log", "ab")
        where = ",".join(f"{key}={self.folder}/{key}" for key in ("state", "scratch", "run"))
        self.service = subprocess.Popen(
            [BINARY, f"qemu:///embed?root={self.root}", self.mount, "-f", "-o",
             where], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        wait_for("the mount answers", self.answers)
        self.is_mounted = True
        wait_for("the VM is known", lambda: os.path.isdir(self.vm))
        self.wait_state("running" if with_vm else "shut off")
        if with_vm and self.monitor is None:
            self.find_qemu()

    def answers(self):
        if self.service.poll() is not None:
            raise Failure(f"refpointfs ended with {self.service.returncode}: {self.messages()}")
        return os.path.ismount(self.mount) and os.path.exists(f"{self.mount}/service/info")

    def messages(self):
        with open(f"{self.folder}/refpointfs.log", encoding="utf-8", errors="replace") as file:
            # libvirt greets, and warns of what is the same for every VM of the embedded driver.
            lines = [line for line in file if not re.search(": (info|warning) :", line)]
        return "".join(lines[-60:])

    def wait_state(self, state):
        wait_for(f"the VM is {state}",
                 lambda: records(f"{self.vm}/info")["state"] == state)

    def end(self, by_signal=False):
        if by_signal:
            self.service.terminate()
        else:
            run("fusermount3", "-u", self.mount)
        wait_for("refpointfs ended", self.has_ended, 30)
        status = self.service.returncode
        self.is_mounted = False
        self.service = None
        self.log.close()
        if status != 0 and not self.leak_check_fell():
            raise Failure(f"refpointfs ended with {status}: {self.messages()}")

    def leak_check_fell(self):
        """See functions.sh."""
        messages = self.messages()
        return ("LeakSanitizer has encountered a fatal error" in messages
                and not re.search("ERROR: [A-Za-z]+Sanitizer|runtime error:", messages))

    def has_ended(self):
        if self.service.poll() is not None:
            return True
        # The kernel ends a mount when no namespace has it any more: other programs' do not count.
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/mountinfo", encoding="utf-8") as file:
                    if name.isdigit() and f" {self.mount} " in file.read():
                        self.service.terminate()
                        break
            except OSError:
                continue
        return False

    # -- QEMU --

    def find_qemu(self):
        with open(f"{self.root}/run/qemu/{VM}.pid", encoding="ascii") as file:
            self.pid = int(file.read())
        self.monitor = Monitor(f"{self.folder}/{VM}.hmp")

    def is_gone(self):
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def quit(self):
        self.monitor.tell("quit")
        self.gone()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.gone()

    def gone(self):
        wait_for("QEMU is gone", self.is_gone)
        self.monitor.close()
        self.monitor = self.pid = None

    def qemu_io(self, disk, *commands):
        """Commands of qemu-io on a disk, in QEMU or, without one, in its image."""
        if self.monitor:
            device = f"/machine/peripheral/virtio-disk{self.disks.index(disk)}/virtio-backend"
            for command in commands:
                answer = self.monitor.ask(f'qemu-io -d {device} "{command}"')
                if answer:
                    raise Failure(f"qemu-io {command}: {answer}")
            return
        arguments = ["qemu-io", "-d", "unmap", "-f", disk.form]
        for command in commands:
            arguments += ["-c", command]
        answer = run(*arguments, disk.path)
        if re.search("fail|error|denied", answer, re.IGNORECASE):
            raise Failure(f"qemu-io {commands}: {answer}")

    def flush(self):
        for disk in self.disks:
            self.qemu_io(disk, "flush")

    def clear(self):
        """Ends what a failure left, the hard way."""
        if self.is_mounted or os.path.ismount(self.mount):
            subprocess.run(["fusermount3", "-u", "-z", self.mount], check=False,
                           stderr=subprocess.DEVNULL)
        if self.service and self.service.poll() is None:
            self.service.kill()
            self.service.wait()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def processes(self):
        """QEMUs and storage daemons of this history."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    command = file.read()
            except OSError:
                continue
            if f"{self.folder}/".encode() in command:
                found.append(int(name))
        return found


# ---- a history ----


class History:
    """One seed: the model, the machine, and the steps."""

    def __init__(self, seed, steps, verbose):
        self.seed, self.steps, self.verbose = seed, steps, verbose
        self.random = random.Random(seed)
        self.folder = tempfile.mkdtemp(prefix=f"rpm{seed}.", dir="/tmp")
        self.lines = []
        self.step = 0
        self.clock = 0       # counts writes
        self.disks = []
        self.points = []
        self.dead_names = []
        self.held = None     # the point whose data is held
        self.hold = {}       # target: name of the point that its held bitmap starts at, or None
        self.running = False
        self.exports = []
        self.byte = 0
        self.names = 0
        self.counts = {}
        self.hot = {}
        self.make_disks()
        self.machine = Machine(self.disks, self.folder)

    def say(self, text):
        line = f"{self.step:3} {text}"
        self.lines.append(line)
        if self.verbose:
            print(line, flush=True)

    # -- disks --

    def make_disks(self):
        rnd = self.random
        count = rnd.choice([1, 2, 2, 2, 3])
        has_raw = count > 1 and rnd.random() < 0.3
        for i in range(count):
            size = rnd.randrange(8, 24) << 20
            size += rnd.choice([0, 0, 512 * rnd.randrange(1, 128), 4096 * rnd.randrange(16, 32)])
            form = "raw" if has_raw and i == count - 1 else "qcow2"
            cluster = rnd.choice([65536] * 4 + [4096, 16384, 131072, 1 << 20])
            target = f"vd{'abc'[i]}"
            path = f"{self.folder}/{VM}-{target}.{form}"
            disk = Disk(target, path, form, cluster, State(size))
            self.disks.append(disk)
            self.hot[target] = []
            if form == "raw":
                run("qemu-img", "create", "-q", "-f", "raw", path, str(size))
            else:
                self.make_qcow2(disk)

    def make_qcow2(self, disk):
        options = f"cluster_size={disk.cluster}"
        backing = []
        if disk.cluster >= 16384 and self.random.random() < 0.2:
            options += ",extended_l2=on"
        if self.random.random() < 0.2:
            # A template below the disk: what it shows belongs to the disk.
            path = f"{self.folder}/{disk.target}-template.raw"
            state = State(min(disk.state.size, 512 * self.random.randrange(8192, 24576)))
            for _ in range(3):
                offset = 512 * self.random.randrange(state.size // 512 - 1024)
                state.put(offset, self.pattern() * (512 * self.random.randrange(1, 1024)))
            state.write_raw(path)
            disk.state = State(disk.state.size, state.pages)
            backing = ["-b", path, "-F", "raw"]
        self.say(f"disk {disk.target}: qcow2, {disk.state.size} bytes, {options} {backing[1:2]}")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *backing, disk.path,
            str(disk.state.size))

    def pattern(self):
        self.byte = self.byte % 255 + 1
        return bytes([self.byte])

    def place(self, disk):
        """Offset and length of a write: anywhere, or near what was written before, or the end."""
        rnd, size = self.random, disk.state.size
        unit = rnd.choice([512, 512, 4096, 65536, 65536])
        length = unit * rnd.choice([1, 1, 2, 3, 7, rnd.randrange(1, 16), rnd.randrange(1, 16)])
        if rnd.random() < 0.1:
            length = 512 * rnd.randrange(2048, 6144)
        kind = rnd.random()
        if kind < 0.35 and self.hot[disk.target]:
            offset = rnd.choice(self.hot[disk.target]) + 512 * rnd.randrange(-64, 64)
        elif kind < 0.45:
            offset = size - length
        else:
            offset = rnd.randrange(size // unit) * unit
        offset = max(0, min(offset, size - 512))
        length = min(length, size - offset)
        self.hot[disk.target].append(offset)
        return offset, length

    # -- the model's answers --

    def find(self, name):
        return next((point for point in self.points if point.name == name), None)

    def order(self, name):
        return [point.name for point in self.points].index(name)

    def is_unchanged(self, point, targets):
        return all(target in point.covers and target not in point.broken and
                   self.disk(target).changed <= point.clock for target in targets)

    def disk(self, target):
        return next(disk for disk in self.disks if disk.target == target)

    def break_bitmaps(self):
        for point in self.points:
            point.broken |= point.covers

    def new_hold(self, covers, only=None):
        """The points that the bitmaps of a new hold start at."""
        self.hold = {}
        for target in covers:
            self.hold[target] = None
            if not self.disk(target).tracked:
                continue
            for point in reversed(self.points):
                if only and point.name != only:
                    continue
                if target in point.covers and target not in point.broken:
                    self.hold[target] = point.name
                    break

    def subject_disks(self, point):
        if point and point is self.held:
            return list(self.hold)
        if point:
            return sorted(point.covers)
        return [disk.target for disk in self.disks]

    def fault_of_disk(self, point, base, target, if_lost):
        """The result that this disk has to refuse with, 0, or "full"."""
        disk = self.disk(target)
        if point and point is self.held:
            start = self.hold[target]
            if start == base.name:
                return OK
            if start and self.find(start) and self.order(start) <= self.order(base.name):
                return OK
            if start:
                return INVALID_STATE
        elif disk.tracked and target in base.covers and target not in base.broken:
            return OK
        if if_lost:
            return "full"
        return INVALID_STATE if disk.tracked else NOT_SUPPORTED

    def judge(self, point, ask):
        """All results with which these settings may be refused, and the disks' modes."""
        faults, modes = set(), {}
        subject = self.subject_disks(point)
        wanted = ask["disks"] or subject
        base = self.find(ask["base"]) if ask["base"] else None
        if any(target not in subject for target in wanted):
            faults.add(INVALID)
        if ask["base"] and (not base or base is point):
            faults.add(INVALID)
        elif base and point and self.order(base.name) > self.order(point.name):
            faults.add(INVALID_STATE)
        if ask["base"] and ask["format"] == "raw":
            faults.add(NOT_SUPPORTED)
        if ask["exists"] or (ask["base_dir"] and not self.fits(ask["base_dir"], base)):
            faults.add(INVALID)
        if ask["base_dir"] and self.is_too_late(ask["base_dir"], point, wanted):
            faults.add(INVALID)
        if ask["name"] and self.find(ask["name"]):
            faults.add(INVALID)
        if self.held and point is not self.held:
            faults.add(IN_USE)
        for target in wanted:
            modes[target] = "full"
            if base and not faults - {IN_USE, NOT_SUPPORTED, INVALID}:
                fault = self.fault_of_disk(point, base, target, ask["if_lost"]) \
                    if target in subject else OK
                modes[target] = "full" if fault == "full" else "incremental"
                if fault not in (OK, "full"):
                    faults.add(fault)
        if ask["exact"] and point and point is not self.held and \
                not self.is_unchanged(point, wanted):
            faults.add(INVALID_STATE)
        return faults, modes

    def is_too_late(self, export, point, wanted):
        """It was exported inexactly, after the instant of the point that is now exported exactly."""
        exact = point and (point is self.held or self.is_unchanged(point, wanted))
        return exact and self.manifest(export.path)["export"]["moment"] > point.created

    @staticmethod
    def fits(export, base):
        return base is not None and export.point is base

    # -- what users do --

    def read(self, path):
        with open(f"{self.machine.vm}/{path}", encoding="utf-8") as file:
            return file.read()

    def path_of(self, point):
        return f"{self.machine.vm}/refpoints/{point.name}" if point else self.machine.vm

    def write_settings(self, path, text):
        """0, or the errno that open, write or close refused with."""
        try:
            file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        except OSError as error:
            return error.errno
        status = 0
        # bash gives each line to a write of its own, and goes on after one that failed.
        for piece in text.splitlines(True) if self.random.random() < 0.4 else [text]:
            try:
                os.write(file, piece.encode())
            except OSError as error:
                status = status or error.errno
        try:
            os.close(file)
        except OSError as error:
            status = status or error.errno
        return status

    def settings_text(self, ask):
        lines = [f"ExportDirectory={ask['dir']}"]
        if ask["base"]:
            style = self.random.choice(["{}", "../{}", self.machine.vm + "/refpoints/{}"])
            lines.append("BaseReferencePoint=" + style.format(ask["base"]))
        if ask["disks"]:
            lines.append("DisksToExport=" + self.random.choice([",", " ", ", "]).join(ask["disks"]))
        if ask["base_dir"]:
            lines.append(f"BaseExportDirectory={ask['base_dir'].path}")
        for key, setting, text in (("format", "Format", None), ("checksum", "Checksum", None),
                                   ("if_lost", "IfBaseLost", "full"),
                                   ("exact", "RequireExact", "yes"), ("keep", "KeepHold", "yes"),
                                   ("name", "ReferencePoint", None),
                                   ("compression", "Compression", None),
                                   ("bandwidth", "Bandwidth", None)):
            if ask[key]:
                lines.append(f"{setting}={text or ask[key]}")
        self.random.shuffle(lines)
        return "\n".join(lines) + "\n"

    # -- steps: writes --

    def may_write(self):
        # A hold of a VM that is off has its images open.
        return self.running or not self.held

    def do_write(self, meanwhile=False):
        disk = self.random.choice(self.disks)
        offset, length = self.place(disk)
        kind = self.random.choices(["write", "file", "zero", "unmap", "discard"],
                                   [8, 3, 2, 1, 2])[0]
        if kind == "discard" and (not disk.tracked or meanwhile):
            kind = "zero"
        self.say(f"{kind} {disk.target} {offset} {length} ({'on' if self.running else 'off'})")
        if kind == "write":
            byte = self.pattern()
            disk.state.put(offset, byte * length)
            command = f"write -P {byte[0]}"
        elif kind == "file" and offset > 0:
            # Not at 0: chance must not make a boot sector.
            data = self.random.randbytes(512 * self.random.randrange(1, 17))
            path = f"{self.folder}/pattern"
            with open(path, "wb") as file:
                file.write(data)
            disk.state.put(offset, (data * (length // len(data) + 1))[:length])
            command = f"write -s {path}"
        elif kind == "discard":
            start, end = offset, offset + length
            start += -start % disk.cluster
            if end != disk.state.size:
                end -= end % disk.cluster
            # QEMU ignores discards of a disk whose old data a backup job saves.
            if disk.target in self.hold:
                self.machine.qemu_io(disk, f"discard {offset} {length}")
                return
            if start < end:
                disk.state.put(start, bytes(end - start))
            command = "discard"
        else:
            disk.state.put(offset, bytes(length))
            command = "write -z -u" if kind == "unmap" else "write -z"
        self.touch(disk)
        self.machine.qemu_io(disk, f"{command} {offset} {length}")

    def touch(self, disk):
        self.clock += 1
        disk.changed = self.clock

    def do_writes(self):
        for _ in range(self.random.randrange(1, 4)):
            self.do_write()

    def do_resize(self):
        # QEMU does not add up bitmaps of different sizes: see test-libvirtd-snapshots.sh.
        disks = [disk for disk in self.disks if not disk.is_layered]
        if not disks:
            return
        disk = self.random.choice(disks)
        size = disk.state.size + 512 * self.random.choice([1, 127, 128, 2048, 4097])
        self.say(f"resize {disk.target} {disk.state.size} to {size} "
                 f"({'on' if self.running else 'off'})")
        try:
            if self.running:
                self.machine.qemu_io(disk, f"truncate {size}")
            else:
                run("qemu-img", "resize", "-q", "-f", disk.form, disk.path, str(size))
        except Failure as error:
            # QEMU resizes no image with bitmaps that a crash broke.
            if not any(disk.target in point.broken for point in self.points):
                raise
            self.say(f"    refused: {error}")
            return
        disk.state.size = size
        self.touch(disk)

    # -- steps: reference points --

    def new_name(self):
        if self.dead_names and self.random.random() < 0.3:
            return self.dead_names.pop()
        self.names += 1
        return f"p{self.names}"

    def tracked_targets(self):
        return [disk.target for disk in self.disks if disk.tracked]

    def add_point(self, name, covers, base=None, hold=None, keep=True):
        if self.running and keep:
            self.new_hold(hold or covers, base)
        point = Point(name, self.clock, self.disks, set(covers))
        self.points.append(point)
        if self.running and keep:
            self.held = point
        return point

    def check_made(self, point):
        info = records(f"{self.path_of(point)}/info")
        point.created = info["created"]
        self.check_hold(point)
        for target, base in self.hold.items() if self.held is point else ():
            found = info.get(f"disk.{target}.base", "")
            if target in point.covers and found != (base or ""):
                raise Failure(f"the hold of {target} begins at '{found}', expected '{base}'")

    def do_mkdir(self):
        name = self.new_name()
        self.say(f"mkdir {name}")
        try:
            os.mkdir(f"{self.machine.vm}/refpoints/{name}")
            status = 0
        except OSError as error:
            status = error.errno
        if self.held:
            self.dead_names.append(name)
            if status != errno.EBUSY:
                raise Failure(f"mkdir while {self.held.name} is held: errno {status}")
            return
        if status:
            raise Failure(f"mkdir {name}: {os.strerror(status)}: {self.refusal()}")
        self.check_made(self.add_point(name, self.tracked_targets()))

    def refusal(self):
        return records(f"{self.machine.vm}/info")["last_refusal"]

    def do_create(self):
        rnd, name = self.random, self.new_name()
        lines, base, covers = [f"Name={name}"], None, self.tracked_targets()
        if self.points and rnd.random() < 0.5:
            base = rnd.choice(self.points).name
            lines.append(f"BaseReferencePoint={base}")
        if rnd.random() < 0.5:
            covers = rnd.sample(covers, rnd.randrange(1, len(covers) + 1))
            lines.append("DisksToExport=" + ",".join(covers))
        if rnd.random() < 0.3:
            lines.append("Hold=300")
        self.say("create " + " ".join(lines[0:]))
        before = "" if self.held else self.refusal()
        status = self.write_settings(f"{self.machine.vm}/create", "\n".join(lines) + "\n")
        made = self.was_made(name, before)
        if self.held:
            self.dead_names.append(name)
            if made or not self.refusal().startswith(str(IN_USE)):
                raise Failure(f"create while {self.held.name} is held: made={made}, "
                              f"errno {status}, '{self.refusal()}'")
            return
        if status or not made:
            raise Failure(f"create: errno {status}, '{self.refusal()}'")
        self.check_made(self.add_point(name, covers, base))

    def was_made(self, name, before):
        """The point is made when the file is released, which may come after close."""
        def ended():
            if name in os.listdir(f"{self.machine.vm}/refpoints"):
                return "made"
            return "refused" if self.refusal() != before else None
        return wait_for("create ended", ended) == "made"

    def do_release(self):
        point = self.held or self.random.choice(self.points)
        self.say(f"echo 0 > hold of {point.name}")
        with open(f"{self.path_of(point)}/hold", "w", encoding="ascii") as file:
            file.write("0\n")
        self.drop_hold()
        self.check_hold(point)

    def drop_hold(self):
        self.held, self.hold = None, {}

    def check_hold(self, point):
        wanted = "1" if point is self.held else "0"
        wait_for(f"hold of {point.name} is {wanted}",
                 lambda: self.read(f"refpoints/{point.name}/hold").strip() == wanted, 10)

    def do_rmdir(self):
        point = self.random.choice(self.points)
        self.say(f"rmdir {point.name}{' (held)' if point is self.held else ''}")
        try:
            os.rmdir(self.path_of(point))
        except OSError as error:
            raise Failure(f"rmdir {point.name}: {error.strerror}: {self.refusal()}") from None
        self.forget(point)

    def forget(self, point):
        self.points.remove(point)
        self.dead_names.append(point.name)
        if point is self.held:
            self.drop_hold()
        if point.name in os.listdir(f"{self.machine.vm}/refpoints"):
            raise Failure(f"{point.name} is still listed")

    def check_points(self):
        """Names and healths as the model has them."""
        found = sorted(os.listdir(f"{self.machine.vm}/refpoints"))
        wanted = sorted(point.name for point in self.points)
        if found != wanted:
            wait_for(f"refpoints are {wanted}, not {found}", lambda: sorted(
                os.listdir(f"{self.machine.vm}/refpoints")) == wanted, 5)
        for point in self.points:
            for target in sorted(point.covers):
                health = "broken" if target in point.broken else "ok"
                wait_for(f"health of {target} in {point.name} is {health}",
                         lambda p=point, t=target, h=health:
                         records(f"{self.path_of(p)}/info")[f"disk.{t}.health"] == h, 10)
            self.check_hold(point)

    # -- steps: the VM and the service --

    def vm_ended(self):
        self.running = False
        self.drop_hold()
        self.machine.wait_state("shut off")

    def do_stop(self):
        self.say("stop the VM")
        self.machine.quit()
        self.vm_ended()
        self.check_images()

    def do_kill(self):
        self.say("kill the VM")
        self.machine.flush()
        self.machine.kill()
        self.break_bitmaps()
        self.vm_ended()
        self.check_images()

    def do_restart(self):
        self.say(f"restart the service ({'on' if self.running else 'off'})")
        self.restart(self.running)

    def do_start(self):
        self.say("start the VM")
        self.restart(True)

    def do_snapshot(self):
        """An external snapshot, with the bitmaps that libvirt begins anew in the new image."""
        rnd = self.random
        disk = rnd.choice([disk for disk in self.disks if disk.tracked])
        path = f"{self.folder}/{disk.target}-snapshot{self.step}.qcow2"
        disk.cluster = rnd.choice([65536, 65536, 4096, 1 << 20])
        self.say(f"snapshot of {disk.target}, cluster_size={disk.cluster}")
        disk.is_layered = True

        def take():
            run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={disk.cluster}",
                "-b", disk.path, "-F", "qcow2", path)
            for point in self.points:
                if disk.target in point.covers - point.broken:
                    run("qemu-img", "bitmap", "--add", "-f", "qcow2", path, point.name)
            self.machine.replace(disk.path, path)
            disk.path = path
        self.restart(False, take)

    def restart(self, with_vm, between=None):
        """A hold is found again, or its job has ended: which of them is the service's choice."""
        self.machine.end(self.random.random() < 0.3)
        if between:
            between()
        self.machine.begin(with_vm)
        self.running = with_vm
        for point in self.points:
            point.last_export = None
            wait_for(f"{point.name} is listed", lambda p=point: os.path.isdir(self.path_of(p)), 10)
        if self.held and (not with_vm or not self.is_held_again()):
            self.drop_hold()

    def is_held_again(self):
        def settled():
            if self.read(f"refpoints/{self.held.name}/hold").strip() == "1":
                return "held"
            jobs = self.machine.monitor.ask("info block-jobs")
            return "ended" if "No active jobs" in jobs else None
        return wait_for("the hold is found again or its job ended", settled) == "held"

    def check_images(self):
        """That the model knows what the disks are: else nothing that it says can be trusted."""
        for disk in self.disks:
            self.compare(disk.path, disk.form, disk.state, f"THE MODEL of disk {disk.target}")

    # -- steps: exports --

    def new_ask(self, point, base=None):
        rnd = self.random
        subject = self.subject_disks(point)
        ask = dict.fromkeys(("base", "disks", "base_dir", "name", "bandwidth", "exists", "exact",
                             "keep", "if_lost", "format", "checksum", "compression"))
        ask["dir"] = f"{self.folder}/exports/{len(self.exports)}-{self.step}"
        ask["base"] = base
        if rnd.random() < 0.3:
            ask["disks"] = rnd.sample(subject, rnd.randrange(1, len(subject) + 1))
        ask["if_lost"] = rnd.random() < 0.4
        ask["exact"] = rnd.random() < 0.1
        ask["keep"] = rnd.random() < 0.3
        if rnd.random() < 0.3:
            ask["checksum"] = rnd.choice(["none", "sha256"])
        if rnd.random() < 0.1 if base else rnd.random() < 0.25:
            ask["format"] = rnd.choice(["raw", "raw", "qcow2"]) if not base else "qcow2"
        if ask["format"] != "raw" and rnd.random() < 0.2:
            ask["compression"] = rnd.choice(["zstd", "zstd:1", "zstd:9"])
        return ask

    def pick_base(self, point):
        """Mostly one that can be a base; at times any."""
        rnd = self.random
        older = self.points[:self.order(point.name)] if point else self.points
        if older and rnd.random() < 0.75:
            healthy = [p for p in older if not p.broken]
            return rnd.choice(healthy if healthy and rnd.random() < 0.8 else older).name
        if rnd.random() < 0.1:
            return rnd.choice([p.name for p in self.points] + ["unknown"])
        return None

    def do_export(self, point, bandwidth=False):
        rnd = self.random
        ask = self.new_ask(point, self.pick_base(point))
        base = self.find(ask["base"]) if ask["base"] else None
        if base and self.exports and rnd.random() < 0.25:
            fitting = [e for e in self.exports if self.fits(e, base)]
            ask["base_dir"] = rnd.choice(fitting) if fitting and rnd.random() < 0.8 \
                else rnd.choice(self.exports)
        if not point and rnd.random() < 0.5:
            ask["name"] = self.new_name()
        if self.exports and rnd.random() < 0.05:
            ask["dir"], ask["exists"] = rnd.choice(self.exports).path, True
        if rnd.random() < 0.04:
            ask["disks"] = (ask["disks"] or []) + ["vdx"]
        if rnd.random() < 0.03 and ask["base"]:
            ask["format"] = "raw"
        if bandwidth:
            ask["bandwidth"] = rnd.choice(["8M", "16M"])
        self.export(point, ask)

    def do_export_point(self):
        if self.held and self.random.random() < 0.8:
            self.do_export(self.held)
        else:
            self.do_export(self.random.choice(self.points))

    def do_export_vm(self):
        self.do_export(None)

    def do_export_slowly(self):
        self.do_export(self.held, bandwidth=True)

    def export(self, point, ask):
        faults, modes = self.judge(point, ask)
        states, exact = self.claim(point, list(modes))
        text = self.settings_text(ask)
        kind = "VM" if not point else f"{'held' if point is self.held else 'bare'} {point.name}"
        self.say(f"export {kind}: " + "; ".join(sorted(text.split("\n"))[1:])
                 + f" -> {sorted(faults) or (modes, 'exact' if exact else 'not exact')}")
        was_held, clock = self.held, self.clock
        # Of a point that is made too, all disks that it covers, exported or not.
        before = {disk.target: disk.state.copy() for disk in self.disks}
        status = self.write_settings(f"{self.path_of(point)}/export", text)
        if ask["bandwidth"] and not faults and not status:
            self.write_meanwhile(point)
        job = self.job_of(point)
        result = int(job["result"] or -1)
        self.check_result(ask, faults, status, result, job)
        if result != OK:
            if not ask["exists"] and os.path.exists(ask["dir"]) and os.listdir(ask["dir"]):
                raise Failure(f"an export that failed left {os.listdir(ask['dir'])}")
            if ask["name"] and not self.find(ask["name"]):
                self.dead_names.append(ask["name"])
            return
        self.succeeded(point, ask, states, exact, modes, job, was_held, clock, before)

    def claim(self, point, targets):
        """The states that an export of these disks has to show, and whether it is the point's."""
        exact = not point or point is self.held or self.is_unchanged(point, targets)
        if point and exact:
            return {t: point.states[t] for t in targets if t in point.states}, True
        return {d.target: d.state.copy() for d in self.disks if d.target in targets}, exact

    def write_meanwhile(self, point):
        path = f"{self.path_of(point)}/job/state"

        def began():
            with open(path, encoding="ascii") as file:
                word = file.read().split()[0]
            return word if word not in ("receiving", "new", "starting") else None
        if wait_for("the job runs", began) != "running" or not self.running:
            return
        status = 0
        try:
            os.close(os.open(f"{self.path_of(point)}/export", os.O_WRONLY))
        except OSError as error:
            status = error.errno
        if status != errno.EBUSY and began() == "running":
            raise Failure(f"opening export while its job runs: errno {status}")
        for _ in range(6):
            self.do_write(meanwhile=True)
        self.say(f"    the job is {began()}")

    def job_of(self, point):
        with open(f"{self.path_of(point)}/job/wait", encoding="ascii") as file:
            file.read()
        return records(f"{self.path_of(point)}/job/status")

    def check_result(self, ask, faults, status, result, job):
        said = f"errno {status}, result {result}: {job['error']}"
        if result in faults and (not status or status in (ERRNOS[result], errno.EEXIST)):
            self.counts[result] = self.counts.get(result, 0) + 1
            self.say(f"    refused with {result}: {job['error']}")
            return
        if faults or status or result != OK:
            raise Failure(f"export: expected {sorted(faults) or OK}, found {said}")
        if job["export_directory"] != ask["dir"] or job["state"] != "completed":
            raise Failure(f"export: the job is not ours, or not completed: {job}")

    def succeeded(self, point, ask, states, exact, modes, job, was_held, clock, before):
        wanted = "yes" if exact else "no"
        manifest = self.manifest(ask["dir"])
        for found in (job["exact"], manifest["export"]["exact"]):
            if found != wanted:
                raise Failure(f"exact: expected {wanted}, found {found}")
        self.counts[OK] = self.counts.get(OK, 0) + 1
        made = None
        if ask["name"]:
            keep = ask["keep"]
            made = self.make_named(ask, before, clock)
            if not keep:
                self.drop_hold()
            self.check_made(made)
        elif point and point is was_held and not ask["keep"]:
            self.drop_hold()
        subject = made or point
        if subject and exact and manifest["export"]["moment"] != subject.created:
            raise Failure(f"moment: expected {subject.created}, "
                          f"found {manifest['export']['moment']}")
        export = Export(ask["dir"], subject, states, exact)
        base = self.find(ask["base"]) if ask["base"] else None
        self.check_manifest(ask, manifest, modes, base)
        for target, mode in modes.items():
            export.rooted[target] = mode == "full" or self.is_rooted(
                target, export.path, manifest[f"disk {target}"]["backing"])
            if mode == "incremental":
                export.bases[target] = base.states[target]
        self.exports.append(export)
        self.check_export(export, True)
        if subject:
            # One that does not stand takes no other's place, and who knows what a former mount had.
            if all(mode == "full" or manifest[f"disk {target}"]["backing"]
                   for target, mode in modes.items()):
                subject.last_export = export
            self.check_hold(subject)

    def is_rooted(self, target, folder, backing):
        where = os.path.dirname(os.path.normpath(f"{folder}/{backing}")) if backing else None
        return any(e.path == where and e.rooted[target] for e in self.exports)

    def make_named(self, ask, states, clock):
        """The point that vms/VM/export made, as it was when the job began."""
        point = Point(ask["name"], clock, self.disks, set(self.tracked_targets()))
        point.states.update(states)
        if ask["keep"]:
            self.new_hold([disk.target for disk in self.disks], ask["base"])
            self.held = point
        self.points.append(point)
        return point

    @staticmethod
    def manifest(folder):
        parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
        with open(f"{folder}/export.ini", encoding="utf-8") as file:
            parser.read_file(file)
        return parser

    def check_manifest(self, ask, manifest, modes, base):
        found = {name[5:]: manifest[name]["mode"] for name in manifest.sections()
                 if name.startswith("disk ")}
        if found != modes:
            raise Failure(f"modes: expected {modes}, found {found}")
        for target, mode in modes.items():
            disk = manifest[f"disk {target}"]
            if int(disk["size"]) < 0 or (mode == "full" and disk["backing"]):
                raise Failure(f"disk {target} in export.ini: {dict(disk)}")
            source = ask["base_dir"] or (base.last_export if base else None)
            if mode == "incremental" and source and source.exact and target in source.states:
                backing = os.path.normpath(f"{ask['dir']}/{disk['backing']}")
                if os.path.dirname(backing) != source.path:
                    raise Failure(f"disk {target}: its backing file '{disk['backing']}' is not in "
                                  f"{source.path}")

    # -- checking exports --

    def compare(self, path, form, state, what):
        raw = f"{self.folder}/compare.raw"
        run("qemu-img", "convert", "-U", "-f", form, "-O", "raw", path, raw)
        difference = state.difference(raw)
        if difference:
            raise Failure(f"{what}: {difference}")

    def check_export(self, export, first):
        manifest = self.manifest(export.path)
        if os.path.exists(f"{export.path}/SHA256SUMS") and first:
            run("sh", "-c", f"cd '{export.path}' && sha256sum --status -c SHA256SUMS")
        for target, state in export.states.items():
            disk = manifest[f"disk {target}"]
            path = f"{export.path}/{disk['file']}"
            what = f"{path} ({disk['why']}; backing '{disk['backing']}')"
            if disk["format"] == "qcow2" and first:
                run("qemu-img", "check", "-q", "-f", "qcow2", path)
            if not export.rooted[target] or (target in export.bases and first):
                self.compare_on_flat(path, export.bases[target], state, what)
            if export.rooted[target]:
                self.compare(path, disk["format"], state, what)

    def check_restored(self, export):
        """What refpoint-restore makes of it."""
        flat = f"{self.folder}/restored.raw"
        for target, state in export.states.items():
            if not export.rooted[target]:
                continue
            run(f"{TESTS}/../scripts/refpoint-restore", export.path, "--disk", target, "--verify",
                "--quiet", "--force", flat)
            difference = state.difference(flat)
            if difference:
                raise Failure(f"restored {export.path}, {target}: {difference}")

    def compare_on_flat(self, path, base, state, what):
        flat, delta = f"{self.folder}/flat.raw", f"{self.folder}/delta.qcow2"
        base.write_raw(flat)
        shutil.copyfile(path, delta)
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", flat, delta)
        self.compare(delta, "qcow2", state, f"{what}, on the base's own bytes")

    # -- playing --

    def choices(self):
        points, held, on = bool(self.points), self.held is not None, self.running
        return [
            (self.do_writes, 9 if self.may_write() else 0),
            (self.do_mkdir, 1 if held else 5),
            (self.do_create, 1 if held else 3),
            (self.do_release, 3 if held else 0.2 if points else 0),
            (self.do_rmdir, 1.5 if points else 0),
            (self.do_export_point, 7 if points else 0),
            (self.do_export_vm, 0.5 if held else 3.5),
            (self.do_export_slowly, 1.2),
            (self.do_resize, 0.7 if not held else 0),
            (self.do_stop, 1.2 if on else 0),
            (self.do_kill, 0.7 if on else 0),
            (self.do_restart, 0.8 if on else 0.3),
            (self.do_start, 0 if on else 3),
            (self.do_snapshot, 0 if on or held else 0.8),
        ]

    def play(self):
        os.mkdir(f"{self.folder}/exports")
        self.machine.define()
        self.running = self.random.random() < 0.8
        self.say(f"begin, {'on' if self.running else 'off'}")
        self.machine.begin(self.running)
        while self.step < self.steps:
            self.step += 1
            choices = self.choices()
            self.random.choices([c[0] for c in choices], [c[1] for c in choices])[0]()
            self.check_points()
        self.step += 1
        self.finish()

    def finish(self):
        self.say("end")
        if self.held and not self.running:
            self.do_release()
        if self.running:
            self.do_stop()
        else:
            self.check_images()
        self.check_points()
        for export in self.exports:
            self.check_export(export, False)
        for export in self.random.sample(self.exports, min(2, len(self.exports))):
            self.check_restored(export)
        self.machine.end()
        left = self.machine.processes()
        for name in ("run", "scratch"):
            for path, _, files in os.walk(f"{self.folder}/{name}"):
                left += [f"{path}/{file}" for file in files]
        for export in self.exports:
            left += [f"{export.path}/{name}" for name in os.listdir(export.path)
                     if name not in ("export.ini", "SHA256SUMS", "domain.xml", "checkpoint.xml")
                     and not re.fullmatch(r"vd[abc]\.(qcow2|raw)", name)]
        if left or os.path.ismount(self.machine.mount):
            raise Failure(f"left behind: {left}")


def play(seed, arguments):
    """True when the history was as the model expects."""
    began = time.monotonic()
    history = History(seed, arguments.steps, arguments.verbose)
    status = "passed"

    def too_long(*_):
        raise Failure("a step takes longer than 90 s")
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(90)
    try:
        history.play()
    except (Failure, OSError, subprocess.SubprocessError, KeyError) as error:
        status = f"FAILED at step {history.step}: {type(error).__name__}: {error}"
        if not arguments.verbose:
            print("\n".join(history.lines))
        if history.machine.log:
            print(history.machine.messages())
    finally:
        signal.alarm(0)
        history.machine.clear()
        if arguments.keep:
            print(f"kept: {history.folder}")
        else:
            shutil.rmtree(history.folder)
    results = " ".join(f"{key}:{count}" for key, count in sorted(history.counts.items()))
    took = time.monotonic() - began
    print(f"seed {seed}: {status} ({took:.1f} s, exports {results})", flush=True)
    return status == "passed"


def end_in_order():
    """Whoever ends us by a signal: what is running then is cleared away all the same."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))


def main():
    end_in_order()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="1-1", help="a range, A-B")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--keep", action="store_true", help="do not remove the folder")
    parser.add_argument("--verbose", action="store_true", help="print steps as they are taken")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if arguments.seed is not None:
        seeds = [arguments.seed]
    # All histories are played, so that one line each tells how many fail.
    sys.exit(0 if all([play(seed, arguments) for seed in seeds]) else 1)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads of a held disk's image: refpointfs and nbdfuse.

Sets up a VM with a qcow2 disk of 20 GiB on a libvirtd and has refpointfs hold it. Both contenders
then serve the same NBD export of the same instant: refpointfs as disks/vda.img, nbdfuse as a file
of its own. Several rounds, interleaved; before each run what the kernel has cached of the file is
dropped (what QEMU reads stays in the page cache). Only parts of the disk with data are read: holes
cost refpointfs nothing.

Workloads:
  s   sequential: read(2) of 1 MiB, front to back, 1 GiB
  r   random: pread(2) of 4 KiB, 16 readers with the file open once each, 48,000 in all
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import export
import measure
from host import GIB, MIB, Failure, Guest, Mount, at_end, require_programs, wait_until

READERS = 16
PIECE_BYTES = 4096


@dataclass(frozen=True)
class Contender:
    title: str
    durable: str = ""


OURS = Contender("refpointfs")
NBDFUSE = Contender("nbdfuse")
CONTENDERS = (OURS, NBDFUSE)


# ---- workloads ----

def drop_cache(path):
    with open(path, "rb", buffering=0) as image:
        os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def stretches(data_bytes):
    """Where export.make_image() put the data: (offset, length)."""
    return [(export.DISK_BYTES // export.STRETCHES * i, data_bytes // export.STRETCHES)
            for i in range(export.STRETCHES)]


def read_sequential(path, bench, _number):
    buffer = bytearray(MIB)
    left = bench.sequential_bytes
    began = time.monotonic()
    with open(path, "rb", buffering=0) as image:
        for offset, length in bench.stretches:
            image.seek(offset)
            end = min(length, left)
            left -= end
            for _ in range(end // MIB):
                if image.readinto(buffer) != MIB:
                    raise Failure(f"{path}: a short read")
    return time.monotonic() - began


def read_pieces(path, offsets, gate):
    """One reader, in a process of its own."""
    with open(path, "rb", buffering=0) as image:
        os.read(gate, 1)
        for offset in offsets:
            if len(os.pread(image.fileno(), PIECE_BYTES, offset)) != PIECE_BYTES:
                raise Failure(f"{path}: a short read")


def read_random(path, bench, number):
    # The same places for all contenders, others in each round.
    chance = random.Random(number)
    places = [[at + PIECE_BYTES * chance.randrange(length // PIECE_BYTES)
               for at, length in chance.choices(bench.stretches, k=bench.pieces // READERS)]
              for _ in range(READERS)]
    gate_out, gate_in = os.pipe()
    readers = []
    for offsets in places:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(gate_in)
                read_pieces(path, offsets, gate_out)
                status = 0
            finally:
                os._exit(status)
        readers.append(pid)
    os.close(gate_out)
    time.sleep(0.3)  # until all have the file open and wait
    began = time.monotonic()
    os.close(gate_in)
    failed = [pid for pid in readers if os.waitpid(pid, 0)[1] != 0]
    if failed:
        raise Failure(f"{path}: a reader failed")
    return time.monotonic() - began


WORKLOADS = {
    "s": ("sequential, 1 MiB", read_sequential),
    "r": (f"random, 4 KiB, {READERS} readers", read_random),
}


# ---- the contenders ----

def end_nbdfuse(process, folder):
    subprocess.run(["fusermount3", "-u", folder], stderr=subprocess.DEVNULL)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        subprocess.run(["fusermount3", "-u", "-z", folder], stderr=subprocess.DEVNULL)


def begin_nbdfuse(folder, socket, stack):
    """Its file and its process."""
    folder.mkdir()
    process = subprocess.Popen(["nbdfuse", "-r", folder / "vda.img",
                                f"nbd+unix:///vda?socket={socket}"], stdin=subprocess.DEVNULL)
    at_end(stack, "nbdfuse", end_nbdfuse, process, folder)
    wait_until(30, "nbdfuse serves", lambda: process.poll() is not None or
               (folder / "vda.img").exists())
    if process.poll() is not None:
        raise Failure("nbdfuse ended instead of serving")
    return folder / "vda.img", process


class Bench:
    def __init__(self, options, stack):
        self.options = options
        self.stretches = stretches(options.data_bytes)
        self.sequential_bytes = options.data_bytes // 2
        self.pieces = 12000 if options.quick else 48000
        self.samples = {}
        folder = Path(tempfile.mkdtemp(prefix="disks.", dir=options.folder))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        image = folder / "vda.qcow2"
        export.make_image(image, options.data_bytes, False, folder)
        print("starting the VM: a minute where libvirt may not open /dev/kvm", file=sys.stderr)
        self.guest = Guest(options.virsh, image, stack)
        mount = Mount(options.binary, options.uri, folder, self.guest, stack)
        point = mount.vm / "refpoints" / "held"
        point.mkdir()
        self.files = {OURS: point / "disks" / "vda.img"}
        self.pids = {OURS: mount.process.pid}
        sockets = list((folder / "run").glob("*/hold.sock"))
        self.files[NBDFUSE], process = begin_nbdfuse(folder / "nbdfuse", sockets[0], stack)
        self.pids[NBDFUSE] = process.pid
        self.check()

    def check(self):
        """What reads fast must also read right."""
        for contender in CONTENDERS:
            for offset, length in self.stretches:
                pieces = []
                for path in (self.files[NBDFUSE], self.files[contender]):
                    with open(path, "rb") as image:
                        image.seek(offset + length // 2)
                        pieces.append(image.read(MIB))
                if pieces[0] != pieces[1] or not any(pieces[0]):
                    raise Failure(f"{contender.title} reads other bytes")

    def run_one(self, letter, contender, number):
        path, pid = self.files[contender], self.pids[contender]
        drop_cache(path)
        measure.reset_peak(pid)
        cpu_s, qemu_cpu_s = measure.cpu_seconds(pid), measure.cpu_seconds(self.guest.pid)
        wall_s = WORKLOADS[letter][1](path, self, number)
        self.samples.setdefault((letter, contender), []).append(measure.Sample(
            letter, contender.title, number, wall_s, measure.cpu_seconds(pid) - cpu_s,
            measure.cpu_seconds(self.guest.pid) - qemu_cpu_s, measure.memory_kib(pid, "VmHWM")))

    def run(self):
        for number in range(1, self.options.rounds + 1):
            print(f"round {number} of {self.options.rounds}", file=sys.stderr)
            # Nobody always comes after the same neighbour's leavings.
            for letter in WORKLOADS:
                for contender in CONTENDERS if number % 2 else reversed(CONTENDERS):
                    self.run_one(letter, contender, number)

    def report(self):
        for letter in WORKLOADS:
            print(f"\n({letter}) {WORKLOADS[letter][0]}; {self.options.rounds} rounds, "
                  "interleaved\n")
            measure.print_head()
            reference = self.samples[letter, OURS]
            for contender in CONTENDERS:
                measure.print_row(contender, self.samples[letter, contender], reference)
            seconds = measure.median_of(reference, "wall_s")
            print(f"\nrefpointfs: {self.sequential_bytes / MIB / seconds:,.0f} MiB/s"
                  if letter == "s" else
                  f"\nrefpointfs: {self.pieces / seconds:,.0f} reads a second")


# ---- the command ----

def add_arguments(parser):
    default_uri = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
    parser.add_argument("--quick", action="store_true", help="3 rounds of 512 MiB: a first look")
    parser.add_argument("--rounds", type=export.count, metavar="N", help="default: 7")
    parser.add_argument("--csv", metavar="FILE", help="write each single run there as well")
    parser.add_argument("--dir", metavar="FOLDER", type=Path, default=Path("/var/tmp"),
                        help="where the image goes for the time being (%(default)s)")
    parser.add_argument("--connect", metavar="URI", default=default_uri,
                        help="the libvirt to use (%(default)s)")
    parser.add_argument("--refpointfs", metavar="PROGRAM", type=Path,
                        default=export.TOP / "build" / "fs" / "refpointfs",
                        help="default: build/fs/refpointfs")


def run(args, stack):
    require_programs("nbdfuse")
    export.prepare(args, stack)
    bench = Bench(args, stack)
    bench.run()
    bench.report()
    if args.csv:
        measure.write_csv(args.csv, [one for samples in bench.samples.values() for one in samples])
    return 0

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads of a held disk's image: refpointfs and nbdfuse.

Sets up a VM with a qcow2 disk of 20 GiB on a libvirtd and has refpointfs hold it. Both contenders
then serve the same NBD export of the same instant: refpointfs as disks/vda.img, nbdfuse as a file
of its own. Several rounds, interleaved; before each run what the kernel has cached of the file is
dropped (what QEMU reads stays in the page cache). Only parts of the disk with data are read: holes
cost refpointfs nothing. A third row reads the NBD export with no file between: what a file that
costs nothing would take.

Workloads:
  s   sequential: read(2) of 1 MiB, front to back, 1 GiB
  r   random: pread(2) of 4 KiB, 16 readers with the file open once each, 48,000 in all
  h   the same in holes, of which refpointfs asks the server nothing: what FUSE takes by itself
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import export
import measure
from host import (MIB, Failure, Guest, Mount, add_place, at_end, call, require_programs,
                  wait_until)
from workloads import STRETCHES, WORKLOADS, make_images

READERS = 16
PIECE_BYTES = 4096
IMAGE = WORKLOADS["a"]


@dataclass(frozen=True)
class Contender:
    title: str
    durable: str = ""


OURS = Contender("refpointfs")
NBDFUSE = Contender("nbdfuse")
BARE = Contender("fio's NBD client, no file")
CONTENDERS = (OURS, NBDFUSE, BARE)

# Requests that the bare client has under way where one reader reads ahead.
BARE_DEPTH = 4


# ---- workloads ----

def is_bare(path):
    return str(path).startswith("nbd")


def drop_cache(path):
    if is_bare(path):
        return
    with open(path, "rb", buffering=0) as image:
        os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_fio(path, number, settings, jobs):
    """Seconds of each job, as each ran. `settings` are for all, `jobs` a dictionary each."""
    command = ["fio", "--output-format=json", "--readonly", f"--randseed={number}", *settings]
    if is_bare(path):
        command += ["--ioengine=nbd", f"--uri={path}"]
    else:
        command += ["--ioengine=psync", f"--filename={path}"]
    for i, job in enumerate(jobs):
        command += [f"--name=job{i}", *(f"--{key}={value}" for key, value in job.items())]
    said = call(*command)
    answer = json.loads(said[said.index("{"):])  # its NBD client has a word to say first
    if any(job["error"] for job in answer["jobs"]):
        raise Failure(f"fio cannot read {path}")
    return [job["read"]["runtime"] / 1000 for job in answer["jobs"]]


def read_sequential(path, bench, number):
    jobs = [{"offset": offset, "size": bench.sequential_bytes // STRETCHES, "stonewall": 1,
             "iodepth": BARE_DEPTH if is_bare(path) else 1} for offset, _ in bench.stretches]
    return sum(run_fio(path, number, ["--rw=read", "--bs=1M"], jobs))


def read_random(path, bench, number, shift=0):
    # The same places for all contenders, others in each round.
    jobs = [{"offset": offset + shift, "size": length,
             "io_size": bench.pieces // READERS * PIECE_BYTES}
            for offset, length in bench.stretches * (READERS // STRETCHES)]
    return max(run_fio(path, number, ["--rw=randread", f"--bs={PIECE_BYTES}", "--norandommap"],
                       jobs))


def read_holes(path, bench, number):
    # Behind each stretch of data is a hole as long.
    return read_random(path, bench, number, bench.stretches[0][1])


LETTERS = {
    "s": ("sequential, 1 MiB", read_sequential),
    "r": (f"random, 4 KiB, {READERS} readers", read_random),
    "h": ("the same in holes", read_holes),
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
        self.stretches = [(IMAGE.disk_bytes // STRETCHES * i, options.data_bytes // STRETCHES)
                          for i in range(STRETCHES)]
        self.sequential_bytes = options.data_bytes // 2
        self.pieces = 12000 if options.quick else 48000
        self.samples = {}
        folder = Path(tempfile.mkdtemp(prefix="disks.", dir=options.folder))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        images = make_images(IMAGE, options.data_bytes, folder)
        print("starting the VM: a minute where libvirt may not open /dev/kvm", file=sys.stderr)
        self.guest = Guest(options.virsh, images, IMAGE.writes, stack)
        mount = Mount(options.binary, options.uri, folder, self.guest, stack)
        point = mount.vm / "refpoints" / "held"
        point.mkdir()
        self.files = {OURS: point / "disks" / "vda.img"}
        self.pids = {OURS: mount.process.pid}
        sockets = list((folder / "run").glob("*/hold.sock"))
        self.files[NBDFUSE], process = begin_nbdfuse(folder / "nbdfuse", sockets[0], stack)
        self.pids[NBDFUSE] = process.pid
        self.files[BARE] = f"nbd+unix:///vda?socket={sockets[0]}"
        self.check()

    def check(self):
        """What reads fast must also read right."""
        for contender in (OURS, NBDFUSE):
            for offset, length in self.stretches:
                pieces = []
                for path in (self.files[NBDFUSE], self.files[contender]):
                    with open(path, "rb") as image:
                        image.seek(offset + length // 2)
                        pieces.append(image.read(MIB))
                if pieces[0] != pieces[1] or not any(pieces[0]):
                    raise Failure(f"{contender.title} reads other bytes")

    def run_one(self, letter, contender, number):
        path, pid = self.files[contender], self.pids.get(contender)
        drop_cache(path)
        if pid:
            measure.reset_peak(pid)
        cpu_s = measure.cpu_seconds(pid) if pid else None
        qemu_cpu_s = measure.cpu_seconds(self.guest.pid)
        wall_s = LETTERS[letter][1](path, self, number)
        self.samples.setdefault((letter, contender), []).append(measure.Sample(
            letter, contender.title, number, wall_s,
            measure.cpu_seconds(pid) - cpu_s if pid else None,
            measure.cpu_seconds(self.guest.pid) - qemu_cpu_s,
            measure.memory_kib(pid, "VmHWM") if pid else None))

    def run(self):
        for number in range(1, self.options.rounds + 1):
            print(f"round {number} of {self.options.rounds}", file=sys.stderr)
            # Nobody always comes after the same neighbour's leavings.
            for letter in LETTERS:
                for contender in CONTENDERS if number % 2 else reversed(CONTENDERS):
                    self.run_one(letter, contender, number)

    def report(self):
        for letter in LETTERS:
            print(f"\n({letter}) {LETTERS[letter][0]}; {self.options.rounds} rounds, "
                  "interleaved\n")
            measure.print_head(IMAGE.writes)
            reference = self.samples[letter, OURS]
            for contender in CONTENDERS:
                measure.print_row(contender, self.samples[letter, contender], reference,
                                  IMAGE.writes)
            seconds = measure.median_of(reference, "wall_s")
            print(f"\nrefpointfs: {self.sequential_bytes / MIB / seconds:,.0f} MiB/s"
                  if letter == "s" else
                  f"\nrefpointfs: {self.pieces / seconds:,.0f} reads a second")


# ---- the command ----

def add_arguments(parser):
    parser.add_argument("--quick", action="store_true", help="3 rounds of 512 MiB: a first look")
    parser.add_argument("--rounds", type=export.count, metavar="N", help="default: 7")
    parser.add_argument("--csv", metavar="FILE", help="write each single run there as well")
    add_place(parser)


def run(args, stack):
    require_programs("nbdfuse", "fio")
    args.picture = None
    export.prepare(args, stack)
    bench = Bench(args, stack)
    bench.run()
    bench.report()
    if args.csv:
        measure.write_csv(args.csv, [one for samples in bench.samples.values() for one in samples])
    return 0

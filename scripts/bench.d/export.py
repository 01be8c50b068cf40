# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exports of a virtual machine's disks: refpointfs and its peers.

Sets up a VM with qcow2 disks on a libvirtd, exports them by refpointfs and by each peer in turn,
several rounds, and prints seconds, ratios, CPU and memory. Our time goes from the write of the
settings until job/wait has returned: checksum, sync and manifest included. What is read is in the
page cache; before each run everything is synced, and after it its output removed. The first export
of each workload is compared with the disk.

Workloads:
  a   full export, 2 GiB of random data in a disk of 20 GiB
  b   full export, the same, but half of the data was zeroed, which QEMU knows
  c   what changed since a reference point: 100 MiB in one run, in a disk of 1 TiB
  d   the same, scattered: 1,600 pieces of 64 KiB
  e   full export, 2 GiB of data that zstd makes 70 % of, compressed
  f   full export of four disks of 512 MiB together, and of one of 2 GiB
  g   full export, 2 GiB of random data, while the guest writes: how fast can it go on?
  h   as b, but the zeros were written as data are, and only who reads them can tell
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import measure
import picture
from contenders import BASE, CONTENDERS, export_point, make_point, wait_for_end_of_hold
from host import (GIB, MIB, Failure, Guest, Mount, add_place, call, connect, require_place,
                  require_programs, require_space)
from workloads import DELTA_BYTES, WORKLOADS, delta_pieces, make_images


class Bench:
    """One workload under way: its VM, its mount, its samples."""

    def __init__(self, letter, options, stack):
        self.letter = letter
        self.workload = WORKLOADS[letter]
        self.folder = Path(tempfile.mkdtemp(prefix=f"{letter}.", dir=options.folder))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.out = self.folder / "out"
        self.options = options
        self.samples = {}
        self.checked = False
        self.images = make_images(self.workload, options.data_bytes, self.folder)
        print(f"({letter}) starting the VM: a minute where libvirt may not open /dev/kvm",
              file=sys.stderr)
        self.guest = Guest(options.virsh, self.images, self.workload.writes, stack)
        self.mount = Mount(options.binary, options.uri, self.folder, self.guest, stack)
        taking_part = [contender for contender in CONTENDERS if letter in contender.workloads]
        self.reference = taking_part[0]
        self.contenders = [contender for contender in taking_part if self.is_wanted(contender)]
        self.rss_mounted_kib = measure.memory_kib(self.mount.process.pid, "VmRSS")
        if self.workload.delta:
            self.make_base()

    def is_wanted(self, contender):
        if not contender.is_installed():
            print(f"left out, as it is not installed: {contender.program}", file=sys.stderr)
            return False
        return (contender is self.reference or not self.options.only or
                any(part in contender.title for part in self.options.only))

    def make_base(self):
        """The reference point that deltas begin at, its export, and then the change."""
        base, _ = make_point(self, BASE)
        export_point(base, {"ExportDirectory": self.folder / "base"})
        wait_for_end_of_hold(base)
        length_bytes, offsets = delta_pieces(self.workload)
        source = self.folder / "delta.bin"
        source.write_bytes(os.urandom(length_bytes))
        self.guest.write(source, offsets, length_bytes)

    def check_once(self, disks):
        """A fast export of the wrong bytes is not worth a row. A guest that writes has gone on: its
        disk would differ."""
        for target in disks if not self.checked else ():
            image = self.out / f"{target}.qcow2"
            call("qemu-img", "check", "-q", image)
            if not self.workload.writes:
                call("qemu-img", "compare", "-q", "-U", "-f", "qcow2", "-F", "qcow2",
                     self.images[target], image)
        self.checked = True

    def run_one(self, contender, number):
        try:
            measured = contender.run(self, number, contender.title)
        except (Failure, OSError) as failure:
            if contender.is_ours() or not self.guest.is_alive():
                raise
            print(f"left out, as it failed: {contender.title}: {failure}", file=sys.stderr)
            self.contenders.remove(contender)
            return
        finally:
            shutil.rmtree(self.out, ignore_errors=True)
        self.samples.setdefault(contender, []).append(measured)

    def run(self):
        for number in range(1, self.options.rounds + 1):
            print(f"({self.letter}) round {number} of {self.options.rounds}", file=sys.stderr)
            # Nobody always comes after the same neighbour's leavings.
            first = (number - 1) % len(self.contenders)
            for contender in self.contenders[first:] + self.contenders[:first]:
                self.run_one(contender, number)

    def report(self):
        print(f"\n({self.letter}) {self.title()}; {self.options.rounds} rounds, interleaved\n")
        measure.print_head(self.workload.writes)
        for contender in CONTENDERS:
            if contender in self.samples:
                measure.print_row(contender, self.samples[contender],
                                  self.samples[self.reference], self.workload.writes)
        ours = [one for contender, samples in self.samples.items()
                if contender.is_ours() for one in samples]
        mounted, peak, after = (kib / 1024 for kib in (
            self.rss_mounted_kib, max(one.peak_rss_kib for one in ours),
            measure.memory_kib(self.mount.process.pid, "VmRSS")))
        print(f"\nrefpointfs: {mounted:.1f} MiB resident after mounting, mostly libvirt's; at the "
              f"highest peak {peak:.1f} MiB,\n{peak - mounted:.1f} MiB more; {after:.1f} MiB after "
              "the last export.")
        self.report_first_bytes(ours)

    def title(self):
        return self.workload.title.format(data=f"{self.options.data_bytes / GIB:g} GiB")

    def chart(self):
        """For the picture: a title, and a row for each contender."""
        walls = {contender: [one.wall_s for one in self.samples[contender]]
                 for contender in CONTENDERS if contender in self.samples}
        return f"({self.letter}) {self.title()}", [
            picture.Row(contender.title, contender.is_ours(), seconds)
            for contender, seconds in walls.items()]

    def report_first_bytes(self, ours):
        first = {name: measure.median_of(ours, name) for name in ("first_read_s", "first_write_s")}
        if None not in first.values():
            print("From the close of the settings to the first MiB (medians): read by QEMU "
                  f"{first['first_read_s'] * 1000:.0f} ms, written to the\nexport "
                  f"{first['first_write_s'] * 1000:.0f} ms.")


# ---- the command ----

def workload_list(text):
    letters = list(dict.fromkeys(text.replace(",", "")))
    unknown = [letter for letter in letters if letter not in WORKLOADS]
    if unknown or not letters:
        raise argparse.ArgumentTypeError(f"'{text}': letters of {' '.join(WORKLOADS)} are known")
    return letters


def count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of rounds")
    return int(text)


def add_arguments(parser):
    parser.add_argument("--quick", action="store_true",
                        help="3 rounds of 512 MiB: a first look")
    parser.add_argument("--rounds", type=count, metavar="N", help="default: 7")
    parser.add_argument("--workload", type=workload_list, default=list(WORKLOADS),
                        metavar="LIST", help="letters, e.g. a,c (default: all, half an hour)")
    parser.add_argument("--csv", metavar="FILE", help="write each single run there as well")
    parser.add_argument("--picture", metavar="FILE", type=Path,
                        help="draw the medians there, as SVG")
    parser.add_argument("--only", metavar="TEXT", action="append",
                        help="besides the first only those with TEXT in their name; may be repeated")
    add_place(parser)


def prepare(args, stack):
    """Adds to args what the workloads need."""
    require_programs("virsh", "qemu-img", "qemu-io", "fusermount3")
    require_place(args)
    args.data_bytes = (512 * MIB) if args.quick else 2 * GIB
    args.rounds = args.rounds or (3 if args.quick else 7)
    # The disks, an export of them, the base's export or cp's copy, and some of deltas.
    require_space(args.dir, int(3.1 * args.data_bytes) + 4 * DELTA_BYTES)
    for path in (args.csv, args.picture):
        if path:
            open(path, "a", encoding="utf-8").close()  # rather now than after an hour
    args.binary = args.refpointfs.resolve()
    args.uri = args.connect
    args.folder = Path(tempfile.mkdtemp(prefix="refpointfs-bench.", dir=args.dir.resolve()))
    stack.callback(shutil.rmtree, args.folder, ignore_errors=True)
    args.virsh = connect(args.uri, args.folder, stack)


NOTES = """\
ratio: a peer's seconds by ours, median over the rounds. begin: seconds to begin the job that is
read from, by mkdir or virsh; not part of wall. durable: on disk when the time ends. cp copies
the file beneath a running VM: a yardstick, no backup. guest: what it wrote meanwhile."""


def describe(args):
    file_system = subprocess.run(["stat", "-f", "-c", "%T", args.folder], stdout=subprocess.PIPE,
                                 text=True).stdout.strip()
    versions = [line.split(":", 1)[1].strip() for line in args.virsh("version").splitlines()
                if line.startswith(("Using library", "Running hypervisor"))]
    print(f"{', '.join(versions)}; Linux {os.uname().release}, {os.cpu_count()} CPUs; "
          f"{args.dir}: {file_system}")
    print(NOTES)


def run(args, stack):
    prepare(args, stack)
    describe(args)
    samples, charts = [], []
    for letter in args.workload:
        with ExitStack() as own:
            bench = Bench(letter, args, own)
            bench.run()
            bench.report()
        charts.append(bench.chart())
        samples += [one for of_contender in bench.samples.values() for one in of_contender]
        if args.csv:
            measure.write_csv(args.csv, samples)
        if args.picture:
            picture.draw(args.picture, charts)
    return 0

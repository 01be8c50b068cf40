# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exports of a virtual machine's disk: refpointfs and its peers.

Sets up a VM with a qcow2 disk of 20 GiB on a libvirtd, exports the disk by refpointfs and by each
peer in turn, several rounds, and prints seconds, ratios, CPU and memory. Our time goes from the
write of the settings until job/wait has returned: checksum, sync and manifest included. The VM
writes nothing meanwhile; what is read is in the page cache; before each run everything is synced,
and after it its output removed. The first export of each workload is compared with the disk.

Workloads:
  a   full export, 2 GiB of random data
  b   full export, the same, but half of the data are zeros that were written
  c   what changed since a reference point: 100 MiB in one run
  d   the same, scattered: 1,600 pieces of 64 KiB
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import measure
from host import (GIB, IDLE_BOOT_SECTOR, MIB, Failure, Guest, Mount, call, connect,
                  require_programs, require_space, wait_until)

TOP = Path(__file__).resolve().parent.parent.parent

DISK_BYTES = 20 * GIB
# Real disks are not filled from the front.
STRETCHES = 8
DELTA_BYTES = 100 * MIB
PIECE_BYTES = 64 << 10
PIECES = DELTA_BYTES // PIECE_BYTES
BASE = "base"

# How often virsh is asked whether a push job has ended: each look costs it and libvirtd 1 ms.
JOB_POLL_S = 0.01


@dataclass(frozen=True)
class Workload:
    title: str
    zeros: bool = False  # half of each stretch
    delta: str = None  # None: full export


WORKLOADS = {
    "a": Workload("full export of {data} of random data in a disk of 20 GiB"),
    "b": Workload("full export of {data} of data, half of it zeros, in a disk of 20 GiB",
                  zeros=True),
    "c": Workload("100 MiB changed, in one run; {data} in a disk of 20 GiB", delta="one run"),
    "d": Workload("100 MiB changed, as 1,600 pieces; {data} in a disk of 20 GiB",
                  delta="scattered"),
}


@dataclass(frozen=True)
class Contender:
    title: str
    run: object  # function(bench, round, title): a Sample
    delta: bool  # can export what changed
    durable: str = "no"

    def is_ours(self):
        return self.title.startswith("refpointfs")


def sample(bench, contender, number, wall_s, client, qemu_cpu_s, **more):
    client_cpu_s, peak_rss_kib = client
    return measure.Sample(bench.letter, contender, number, wall_s, client_cpu_s,
                          measure.cpu_seconds(bench.guest.pid) - qemu_cpu_s, peak_rss_kib, **more)


# ---- us ----

def wait_for_end_of_hold(point):
    wait_until(30, f"{point.name} is let go of",
               lambda: (point / "hold").read_text().strip() == "0")


def export_point(point, settings):
    """As a user does it: write the settings, wait. Returns the time of the settings' close."""
    with open(point / "export", "w", encoding="utf-8") as out:
        out.write("".join(f"{key}={value}\n" for key, value in settings.items()))
        out.flush()
        # Before, not after: the job may run before we do again.
        closed_at = time.monotonic()
    result = (point / "job" / "wait").read_text().strip()
    if result != "0":
        raise Failure(f"our export ended with {result}:\n{(point / 'job' / 'status').read_text()}")
    return closed_at


def make_point(bench, name):
    """Marks and holds; seconds it took."""
    point = bench.mount.vm / "refpoints" / name
    began = time.monotonic()
    point.mkdir()
    return point, time.monotonic() - began


def run_ours(bench, number, contender, checksum):
    point, begin_s = make_point(bench, f"r{number}-{checksum}")
    settings = {"ExportDirectory": bench.out, "Checksum": checksum}
    if bench.workload.delta:
        settings["BaseReferencePoint"] = BASE
    ours, qemu = bench.mount.process.pid, bench.guest.pid
    os.sync()
    measure.reset_peak(ours)
    qemu_cpu_s, our_cpu_s = measure.cpu_seconds(qemu), measure.cpu_seconds(ours)
    first = measure.FirstBytes(qemu, ours)
    began = time.monotonic()
    try:
        closed_at = export_point(point, settings)
        ended = time.monotonic()
    finally:
        first.stop()
    first_read_s, first_write_s = first.seconds_since(closed_at)
    used = (measure.cpu_seconds(ours) - our_cpu_s, measure.memory_kib(ours, "VmHWM"))
    result = sample(bench, contender, number, ended - began, used, qemu_cpu_s, begin_s=begin_s,
                    first_read_s=first_read_s, first_write_s=first_write_s)
    wait_for_end_of_hold(point)
    point.rmdir()
    bench.check_once(bench.out / "vda.qcow2")
    return result


# ---- libvirt's own push job ----

PUSH_XML = """<domainbackup mode='push'>{incremental}<disks>
  <disk name='vda' type='file'><target file='{target}'/><driver type='qcow2'/></disk>
</disks></domainbackup>
"""


def run_push(bench, number, contender):
    incremental = f"<incremental>{BASE}</incremental>" if bench.workload.delta else ""
    definition = bench.folder / "push.xml"
    bench.out.mkdir()
    definition.write_text(PUSH_XML.format(incremental=incremental, target=bench.out / "vda.qcow2"))
    virsh, client = bench.guest.virsh, bench.guest.virsh.process.pid
    os.sync()
    measure.reset_peak(client)
    qemu_cpu_s = measure.cpu_seconds(bench.guest.pid)
    client_cpu_s = measure.cpu_seconds(client)
    began = time.monotonic()
    virsh(f"backup-begin {bench.guest.name} '{definition}'")
    try:
        while bench.guest.has_job():
            time.sleep(JOB_POLL_S)
    except BaseException:
        virsh(f"domjobabort {bench.guest.name}")
        raise
    wall_s = time.monotonic() - began
    used = (measure.cpu_seconds(client) - client_cpu_s, measure.memory_kib(client, "VmHWM"))
    result = sample(bench, contender, number, wall_s, used, qemu_cpu_s)
    if "Completed" not in virsh(f"domjobinfo {bench.guest.name} --completed"):
        raise Failure("the push job did not complete")
    return result


# ---- programs that read a pull job's NBD export ----

PULL_XML = """<domainbackup mode='pull'>
  <server transport='unix' socket='{socket}'/>
  <disks><disk name='vda' type='file'><scratch file='{scratch}'/></disk></disks>
</domainbackup>
"""


def end_pull(bench, scratch):
    if bench.guest.has_job():
        bench.guest.virsh(f"domjobabort {bench.guest.name}")
    wait_until(30, "the pull job is gone", lambda: not bench.guest.has_job())
    scratch.unlink(missing_ok=True)


def begin_pull(bench, socket, stack):
    """Begins a job of virsh's own; seconds it took."""
    scratch = bench.folder / "pull.scratch"
    definition = bench.folder / "pull.xml"
    definition.write_text(PULL_XML.format(socket=socket, scratch=scratch))
    stack.callback(end_pull, bench, scratch)
    began = time.monotonic()
    bench.guest.virsh(f"backup-begin {bench.guest.name} '{definition}'")
    return time.monotonic() - began


def run_nbd(bench, number, contender, words, prepare=()):
    """`words` and `prepare` are commands with {uri} and {file} in them."""
    socket = bench.folder / "pull.sock"
    names = {"uri": f"nbd+unix:///vda?socket={socket}", "file": bench.out / "vda"}
    bench.out.mkdir()
    if prepare:
        call(*(word.format(**names) for word in prepare))
    with ExitStack() as stack:
        begin_s = begin_pull(bench, socket, stack)
        os.sync()
        qemu_cpu_s = measure.cpu_seconds(bench.guest.pid)
        wall_s, *client = measure.run_client([word.format(**names) for word in words])
        return sample(bench, contender, number, wall_s, client, qemu_cpu_s, begin_s=begin_s)


def run_cp(bench, number, contender):
    bench.out.mkdir()
    os.sync()
    qemu_cpu_s = measure.cpu_seconds(bench.guest.pid)
    # A reflink copies nothing.
    wall_s, *client = measure.run_client(["cp", "--reflink=never", bench.guest.image,
                                          bench.out / "vda.qcow2"])
    return sample(bench, contender, number, wall_s, client, qemu_cpu_s)


def nbd(*words, prepare=()):
    return partial(run_nbd, words=words, prepare=prepare)


CONTENDERS = (
    Contender("refpointfs", partial(run_ours, checksum="sha256"), True, "yes"),
    Contender("refpointfs, Checksum=none", partial(run_ours, checksum="none"), True, "yes"),
    Contender("virsh backup-begin, push, qcow2", run_push, True),
    Contender("nbdcopy to null:", nbd("nbdcopy", "{uri}", "null:"), False, "-"),
    Contender("nbdcopy to raw",
              nbd("nbdcopy", "--destination-is-zero", "{uri}", "{file}"), False),
    Contender("nbdcopy into [ qemu-nbd -f qcow2 ]",
              nbd("nbdcopy", "--destination-is-zero", "--", "{uri}", "[", "qemu-nbd", "-f", "qcow2",
                  "{file}", "]",
                  prepare=("qemu-img", "create", "-q", "-f", "qcow2", "{file}", str(DISK_BYTES))),
              False),
    Contender("qemu-img convert",
              nbd("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "{uri}", "{file}"), False),
    Contender("qemu-img convert -m 16 -W -t none",
              nbd("qemu-img", "convert", "-m", "16", "-W", "-t", "none", "-f", "raw", "-O", "qcow2",
                  "{uri}", "{file}"), False),
    Contender("cp of the qcow2 file", run_cp, False),
)
REFERENCE = CONTENDERS[0]


# ---- one workload ----

def make_image(image, data_bytes, zeros, folder):
    """Random data in stretches over the disk, different in each; half of each zeros if asked."""
    stretch_bytes = data_bytes // STRETCHES
    random_bytes = stretch_bytes // 2 if zeros else stretch_bytes
    boot, source = folder / "boot.bin", folder / "random.bin"
    boot.write_bytes(IDLE_BOOT_SECTOR)
    call("qemu-img", "create", "-q", "-f", "qcow2", image, str(DISK_BYTES))
    for i in range(STRETCHES):
        offset = DISK_BYTES // STRETCHES * i
        with open(source, "wb") as out:
            for _ in range(random_bytes // MIB):
                out.write(os.urandom(MIB))
        commands = [f"write -s {source} {offset} {random_bytes}"]
        if zeros:
            commands.append(f"write -P 0 {offset + random_bytes} {random_bytes}")
        if i == 0:
            commands.append(f"write -s {boot} 0 512")
        call("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)),
             image)
    source.unlink()


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
        image = self.folder / "vda.qcow2"
        make_image(image, options.data_bytes, self.workload.zeros, self.folder)
        print(f"({letter}) starting the VM: a minute where libvirt may not open /dev/kvm",
              file=sys.stderr)
        self.guest = Guest(options.virsh, image, stack)
        self.mount = Mount(options.binary, options.uri, self.folder, self.guest, stack)
        self.contenders = [contender for contender in CONTENDERS if self.takes_part(contender)]
        self.rss_mounted_kib = measure.memory_kib(self.mount.process.pid, "VmRSS")
        if self.workload.delta:
            self.make_base()

    def takes_part(self, contender):
        asked = contender is REFERENCE or self.options.only in contender.title
        return asked and (contender.delta or not self.workload.delta)

    def make_base(self):
        """The reference point that deltas begin at, its export, and then the change."""
        base, _ = make_point(self, BASE)
        export_point(base, {"ExportDirectory": self.folder / "base"})
        wait_for_end_of_hold(base)
        one_run = self.workload.delta == "one run"
        length_bytes = DELTA_BYTES if one_run else PIECE_BYTES
        step_bytes = DISK_BYTES // PIECES // PIECE_BYTES * PIECE_BYTES
        offsets = ([DISK_BYTES // STRETCHES] if one_run else
                   [step_bytes * i for i in range(PIECES)])
        source = self.folder / "delta.bin"
        source.write_bytes(os.urandom(length_bytes))
        self.guest.write(source, offsets, length_bytes)

    def check_once(self, image):
        """A fast export of the wrong bytes is not worth a row."""
        if not self.checked:
            call("qemu-img", "check", "-q", image)
            call("qemu-img", "compare", "-q", "-U", "-f", "qcow2", "-F", "qcow2", self.guest.image,
                 image)
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
        title = self.workload.title.format(data=f"{self.options.data_bytes / GIB:g} GiB")
        print(f"\n({self.letter}) {title}; {self.options.rounds} rounds, interleaved\n")
        measure.print_head()
        reference = self.samples[REFERENCE]
        for contender in self.samples:
            measure.print_row(contender, self.samples[contender], reference)
        ours = [one for contender, samples in self.samples.items()
                if contender.is_ours() for one in samples]
        mounted, peak, after = (kib / 1024 for kib in (
            self.rss_mounted_kib, max(one.peak_rss_kib for one in ours),
            measure.memory_kib(self.mount.process.pid, "VmRSS")))
        print(f"\nrefpointfs: {mounted:.1f} MiB resident after mounting, mostly libvirt's; at the "
              f"highest peak {peak:.1f} MiB,\n{peak - mounted:.1f} MiB more; {after:.1f} MiB after "
              "the last export.")
        self.report_first_bytes(ours)

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
    default_uri = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
    parser.add_argument("--quick", action="store_true",
                        help="3 rounds of 512 MiB: a first look")
    parser.add_argument("--rounds", type=count, metavar="N", help="default: 7")
    parser.add_argument("--workload", type=workload_list, default=["a", "c"], metavar="LIST",
                        help="letters, e.g. a,c (the default)")
    parser.add_argument("--csv", metavar="FILE", help="write each single run there as well")
    parser.add_argument("--only", metavar="TEXT", default="",
                        help="besides refpointfs only those with TEXT in their name")
    parser.add_argument("--dir", metavar="FOLDER", type=Path, default=Path("/var/tmp"),
                        help="where images and exports go for the time being (%(default)s)")
    parser.add_argument("--connect", metavar="URI", default=default_uri,
                        help="the libvirt to use (%(default)s)")
    parser.add_argument("--refpointfs", metavar="PROGRAM", type=Path,
                        default=TOP / "build" / "fs" / "refpointfs",
                        help="default: build/fs/refpointfs")


def prepare(args, stack):
    """Adds to args what the workloads need."""
    require_programs("virsh", "qemu-img", "qemu-io", "fusermount3")
    if not os.access(args.refpointfs, os.X_OK):
        raise Failure(f"{args.refpointfs} is not there: build it, or name it with --refpointfs")
    if not args.dir.is_dir():
        raise Failure(f"{args.dir} is no folder")
    args.data_bytes = (512 * MIB) if args.quick else 2 * GIB
    args.rounds = args.rounds or (3 if args.quick else 7)
    # The disk, an export of it, the base's export or cp's copy, and some of deltas.
    require_space(args.dir, int(3.1 * args.data_bytes) + 4 * DELTA_BYTES)
    if args.csv:
        open(args.csv, "a", encoding="utf-8").close()  # rather now than after an hour
    args.binary = args.refpointfs.resolve()
    args.uri = args.connect
    args.folder = Path(tempfile.mkdtemp(prefix="refpointfs-bench.", dir=args.dir.resolve()))
    stack.callback(shutil.rmtree, args.folder, ignore_errors=True)
    args.virsh = connect(args.uri, args.folder, stack)


NOTES = """\
ratio: a peer's seconds by ours, median over the rounds. begin: seconds to begin the job that is
read from, by mkdir or virsh; not part of wall. durable: on disk when the time ends. cp copies
the file beneath a running VM: a yardstick, no backup."""


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
    samples = []
    for letter in args.workload:
        with ExitStack() as own:
            bench = Bench(letter, args, own)
            bench.run()
            bench.report()
        samples += [one for of_contender in bench.samples.values() for one in of_contender]
        if args.csv:
            measure.write_csv(args.csv, samples)
    return 0

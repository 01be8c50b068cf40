# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who exports: refpointfs, libvirt by itself, and programs that read a pull job's NBD export.

A contender is a function(bench, round, title) that returns a Sample; it is measured from outside.
"""

import hashlib
import mmap
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import measure
from host import MIB, Failure, call, wait_until
from workloads import DELTA_BYTES, TextAndNoise, random_data, write_file

BASE = "base"

# How often virsh is asked whether a push job has ended: each look costs it and libvirtd 1 ms.
JOB_POLL_S = 0.01

# As large as what our writer writes at once.
PIECE_ALONE_BYTES = 2 * MIB

# How long the guest's writing is watched when nobody exports.
ALONE_S = 2


@dataclass(frozen=True)
class Contender:
    title: str
    run: object
    workloads: str  # letters of those it takes part in
    durable: str = "no"
    program: str = None  # left out where it is not installed

    def is_ours(self):
        return self.title.startswith("refpointfs")

    def is_installed(self):
        return self.program is None or shutil.which(self.program) is not None


class GuestWrites:
    """What the guest writes meanwhile, as QEMU counts it; nothing where it does not write."""

    def __init__(self, bench):
        self.guest = bench.guest if bench.workload.writes else None
        self.began, self.bytes = time.monotonic(), self._count()

    def _count(self):
        return self.guest.written_bytes() if self.guest else 0

    def rate(self):
        written, ended = self._count() - self.bytes, time.monotonic()
        return written / (ended - self.began) if self.guest else None


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


def measure_ours(bench, number, contender, point, settings, begin_s):
    ours, qemu = bench.mount.process.pid, bench.guest.pid
    os.sync()
    measure.reset_peak(ours)
    qemu_cpu_s, our_cpu_s = measure.cpu_seconds(qemu), measure.cpu_seconds(ours)
    writes, first = GuestWrites(bench), measure.FirstBytes(qemu, ours)
    began = time.monotonic()
    try:
        closed_at = export_point(point, settings)
        ended = time.monotonic()
    finally:
        first.stop()
    rate = writes.rate()
    first_read_s, first_write_s = first.seconds_since(closed_at)
    used = (measure.cpu_seconds(ours) - our_cpu_s, measure.memory_kib(ours, "VmHWM"))
    return sample(bench, contender, number, ended - began, used, qemu_cpu_s, begin_s=begin_s,
                  first_read_s=first_read_s, first_write_s=first_write_s, guest_rate=rate)


def run_ours(bench, number, contender, checksum="sha256", disks=(), **more):
    name = "".join(word for word in contender if word.isalnum())
    point, begin_s = make_point(bench, f"{name}-{number}")
    settings = {"ExportDirectory": bench.out, "Checksum": checksum, **more}
    if bench.workload.delta:
        settings["BaseReferencePoint"] = BASE
    if disks:
        settings["DisksToExport"] = " ".join(disks)
    result = measure_ours(bench, number, contender, point, settings, begin_s)
    wait_for_end_of_hold(point)
    point.rmdir()
    bench.check_once(disks or ("vda",))
    return result


# ---- libvirt's own push job ----

DISK_XML = "<disk name='{target}' type='file'><{what} file='{file}'/>{driver}</disk>"
LEFT_OUT_XML = "<disk name='{target}' backup='no'/>"


def disks_xml(bench, wanted, what, driver, files):
    return "".join(
        DISK_XML.format(target=target, what=what, driver=driver, file=files / f"{target}.qcow2")
        if target in wanted else LEFT_OUT_XML.format(target=target)
        for target in bench.workload.disks())


def run_push(bench, number, contender, disks=("vda",)):
    incremental = f"<incremental>{BASE}</incremental>" if bench.workload.delta else ""
    definition = bench.folder / "push.xml"
    bench.out.mkdir()
    definition.write_text(
        f"<domainbackup mode='push'>{incremental}<disks>"
        + disks_xml(bench, disks, "target", "<driver type='qcow2'/>", bench.out)
        + "</disks></domainbackup>\n")
    virsh, client = bench.guest.virsh, bench.guest.virsh.process.pid
    os.sync()
    measure.reset_peak(client)
    qemu_cpu_s = measure.cpu_seconds(bench.guest.pid)
    client_cpu_s = measure.cpu_seconds(client)
    writes = GuestWrites(bench)
    began = time.monotonic()
    virsh(f"backup-begin {bench.guest.name} '{definition}'")
    try:
        while bench.guest.has_job():
            time.sleep(JOB_POLL_S)
    except BaseException:
        virsh(f"domjobabort {bench.guest.name}")
        raise
    wall_s, rate = time.monotonic() - began, writes.rate()
    used = (measure.cpu_seconds(client) - client_cpu_s, measure.memory_kib(client, "VmHWM"))
    result = sample(bench, contender, number, wall_s, used, qemu_cpu_s, guest_rate=rate)
    if "Completed" not in virsh(f"domjobinfo {bench.guest.name} --completed"):
        raise Failure("the push job did not complete")
    return result


# ---- programs that read a pull job's NBD export ----

def end_pull(bench, scratch):
    if bench.guest.has_job():
        bench.guest.virsh(f"domjobabort {bench.guest.name}")
    wait_until(30, "the pull job is gone", lambda: not bench.guest.has_job())
    shutil.rmtree(scratch, ignore_errors=True)


def begin_pull(bench, socket, stack):
    """Begins a job of virsh's own; seconds it took."""
    scratch = bench.folder / "pull.scratch"
    scratch.mkdir()
    definition = bench.folder / "pull.xml"
    definition.write_text(
        f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks>"
        + disks_xml(bench, ("vda",), "scratch", "", scratch) + "</disks></domainbackup>\n")
    stack.callback(end_pull, bench, scratch)
    began = time.monotonic()
    bench.guest.virsh(f"backup-begin {bench.guest.name} '{definition}'")
    return time.monotonic() - began


def run_nbd(bench, number, contender, words, prepare=()):
    """`words` and `prepare` are commands with {uri}, {file} and {size} in them."""
    socket = bench.folder / "pull.sock"
    names = {"uri": f"nbd+unix:///vda?socket={socket}", "file": bench.out / "vda",
             "size": bench.workload.disk_bytes}
    bench.out.mkdir()
    if prepare:
        call(*(word.format(**names) for word in prepare))
    with ExitStack() as stack:
        begin_s = begin_pull(bench, socket, stack)
        os.sync()
        qemu_cpu_s = measure.cpu_seconds(bench.guest.pid)
        writes = GuestWrites(bench)
        wall_s, *client = measure.run_client([word.format(**names) for word in words])
        rate = writes.rate()
        return sample(bench, contender, number, wall_s, client, qemu_cpu_s, begin_s=begin_s,
                      guest_rate=rate)


# ---- others ----

def run_program(bench, number, contender, words):
    """A program that needs no job of ours."""
    bench.out.mkdir()
    os.sync()
    qemu_cpu_s = measure.cpu_seconds(bench.guest.pid)
    names = {"image": bench.images["vda"], "out": bench.out, "domain": bench.guest.name,
             "scratch": bench.folder, "uri": bench.options.uri, "raw": bench.folder / "vda.raw"}
    wall_s, *client = measure.run_client([word.format(**names) for word in words])
    return sample(bench, contender, number, wall_s, client, qemu_cpu_s)


def run_delta_alone(bench, number, contender):
    """As much data as a delta has, in a disk that has nothing else, from a server of its own."""
    data, image = bench.folder / "alone.data", bench.folder / "alone.qcow2"
    socket = bench.folder / "alone.sock"
    if not image.exists():
        write_file(data, DELTA_BYTES, random_data)
        call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", data, image)
    bench.out.mkdir()
    server = subprocess.Popen(["qemu-nbd", "-t", "-r", "-e", "4", "-f", "qcow2", "-k", socket,
                               image], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(10, "qemu-nbd listens", socket.exists)
        os.sync()
        wall_s, *client = measure.run_client(["nbdcopy", "--destination-is-zero",
                                              f"nbd+unix:///?socket={socket}", bench.out / "raw"])
        server_cpu_s = measure.cpu_seconds(server.pid)
    finally:
        server.terminate()
        server.wait()
    result = sample(bench, contender, number, wall_s, client, 0)
    result.qemu_cpu_s = server_cpu_s
    return result


def run_zstd(bench, number, contender):
    """The machine's speed: the disk's data through zstd with all cores, and nothing else."""
    raw = bench.folder / "vda.raw"
    if not raw.exists():
        write_file(raw, bench.options.data_bytes, TextAndNoise())
    return run_program(bench, number, contender,
                       ("zstd", "-q", "-1", "-T0", "-f", "-o", "/dev/null", "{raw}"))


def repeat_alone(bench, number, contender, step, finish):
    """What nobody gets below: one step of an export, on data that is there already."""
    piece = mmap.mmap(-1, PIECE_ALONE_BYTES)  # aligned as direct writes want it
    piece.write(os.urandom(PIECE_ALONE_BYTES))
    os.sync()
    qemu_cpu_s, cpu_s = measure.cpu_seconds(bench.guest.pid), time.process_time()
    began = time.monotonic()
    for offset in range(0, bench.options.data_bytes, PIECE_ALONE_BYTES):
        step(piece, offset)
    finish()
    wall_s, used = time.monotonic() - began, (time.process_time() - cpu_s, None)
    return sample(bench, contender, number, wall_s, used, qemu_cpu_s)


def run_disk_alone(bench, number, contender):
    bench.out.mkdir()
    fd = os.open(bench.out / "vda", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    try:
        return repeat_alone(bench, number, contender, lambda piece, at: os.pwrite(fd, piece, at),
                            lambda: os.fsync(fd))
    finally:
        os.close(fd)


def run_sha256_alone(bench, number, contender):
    digest = hashlib.sha256()
    return repeat_alone(bench, number, contender, lambda piece, _: digest.update(piece),
                        digest.digest)


def run_alone(bench, number, contender):
    """Nobody exports."""
    qemu_cpu_s, writes = measure.cpu_seconds(bench.guest.pid), GuestWrites(bench)
    time.sleep(ALONE_S)
    return sample(bench, contender, number, ALONE_S, (0, None), qemu_cpu_s,
                  guest_rate=writes.rate())


def nbd(*words, prepare=()):
    return partial(run_nbd, words=words, prepare=prepare)


def program(*words):
    return partial(run_program, words=words)


PARTS = ("vdb", "vdc", "vdd", "vde")

CONTENDERS = (
    Contender("refpointfs", run_ours, "abcdgh", "yes"),
    Contender("refpointfs, Checksum=none", partial(run_ours, checksum="none"), "abcdgh", "yes"),
    Contender("refpointfs, zstd:1", partial(run_ours, Compression="zstd:1"), "e", "yes"),
    Contender("refpointfs, zstd:1, Checksum=none",
              partial(run_ours, checksum="none", Compression="zstd:1"), "e", "yes"),
    Contender("refpointfs, one disk", partial(run_ours, disks=("vda",)), "f", "yes"),
    Contender("refpointfs, 4 disks", partial(run_ours, disks=PARTS), "f", "yes"),
    Contender("refpointfs, one disk, Checksum=none",
              partial(run_ours, checksum="none", disks=("vda",)), "f", "yes"),
    Contender("refpointfs, 4 disks, Checksum=none",
              partial(run_ours, checksum="none", disks=PARTS), "f", "yes"),
    Contender("virsh backup-begin, push, qcow2", run_push, "abcdgh"),
    Contender("push, one disk", run_push, "f"),
    Contender("push, 4 disks", partial(run_push, disks=PARTS), "f"),
    Contender("nbdcopy to null:", nbd("nbdcopy", "{uri}", "null:"), "abgh", "-", "nbdcopy"),
    Contender("nbdcopy to raw",
              nbd("nbdcopy", "--destination-is-zero", "{uri}", "{file}"), "abh", "no", "nbdcopy"),
    Contender("nbdcopy --flush to raw",
              nbd("nbdcopy", "--flush", "--destination-is-zero", "{uri}", "{file}"), "abh", "yes",
              "nbdcopy"),
    Contender("nbdcopy into [ qemu-nbd -f qcow2 ]",
              nbd("nbdcopy", "--destination-is-zero", "--", "{uri}", "[", "qemu-nbd", "-f", "qcow2",
                  "{file}", "]",
                  prepare=("qemu-img", "create", "-q", "-f", "qcow2", "{file}", "{size}")),
              "abh", "no", "nbdcopy"),
    Contender("nbdcopy of 100 MiB alone, to raw", run_delta_alone, "cd", "no", "nbdcopy"),
    Contender("qemu-img convert",
              nbd("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "{uri}", "{file}"), "abh"),
    Contender("qemu-img convert, then sync",
              nbd("sh", "-c", "qemu-img convert -f raw -O qcow2 '{uri}' '{file}' && "
                  "sync '{file}'"), "abh", "yes"),
    Contender("qemu-img convert -m 16 -W -t none",
              nbd("qemu-img", "convert", "-m", "16", "-W", "-t", "none", "-f", "raw", "-O", "qcow2",
                  "{uri}", "{file}"), "abh"),
    Contender("qemu-img convert -c, zstd, -m 16 -W",
              nbd("qemu-img", "convert", "-c", "-o", "compression_type=zstd", "-m", "16", "-W",
                  "-f", "raw", "-O", "qcow2", "{uri}", "{file}"), "e"),
    Contender("zstd -1 -T0 of the data to nothing", run_zstd, "e", "-", "zstd"),
    Contender("virtnbdbackup",
              program("virtnbdbackup", "-U", "{uri}", "-d", "{domain}", "-l", "copy", "-n",
                      "-S", "{scratch}", "-o", "{out}/backup"), "abh", "no", "virtnbdbackup"),
    # A reflink copies nothing.
    Contender("cp of the qcow2 file",
              program("cp", "--reflink=never", "{image}", "{out}/vda.qcow2"), "abh"),
    Contender("the disk alone: as much written to it", run_disk_alone, "a", "yes"),
    Contender("SHA-256 alone, of as much", run_sha256_alone, "a", "-"),
    Contender("the guest alone", run_alone, "g", "-"),
)

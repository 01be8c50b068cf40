# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many virtual machines exported at once, through the queue.

Starts that many VMs with random data of their own, and a larger one; marks them all, writes the
settings of all exports one after another, and waits for the last. Interleaved with that, the larger
VM is exported alone. Prints the bytes a second of both and their ratio, in which order and how long
the jobs ran, and the peak of the service's memory. In the first round each export is checked and
compared with its VM's disk, and its checksums are verified.
"""

import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import measure
from contenders import export_point, wait_for_end_of_hold
from host import (GIB, MIB, Failure, Guest, Mount, add_ask, add_place, ask, call, connect,
                  require_place, require_programs, require_space)
from workloads import Workload, boot_sector_of, make_image

DISK_BYTES = 4 * GIB
WORKLOAD = Workload("")
POINT = "many"
# What the settings say besides the directory.
KINDS = {"SHA-256": {}, "Checksum=none": {"Checksum": "none"}}


def add_arguments(parser):
    parser.add_argument("--vms", type=int, default=32)
    parser.add_argument("--jobs", type=int, default=4, help="that run at once (%(default)s)")
    parser.add_argument("--data", type=int, default=256, metavar="MIB",
                        help="of each VM (%(default)s)")
    parser.add_argument("--alone", type=int, default=2048, metavar="MIB",
                        help="of the VM that is exported alone (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    add_place(parser)
    add_ask(parser)


class Machine:
    """A VM with data, and its directory in the mount."""

    def __init__(self, bench, name, data_bytes):
        self.name = name
        self.data_bytes = data_bytes
        self.image = bench.folder / f"{name}.qcow2"
        make_image(self.image, DISK_BYTES, data_bytes, WORKLOAD,
                   boot_sector_of(WORKLOAD, bench.folder))
        self.guest = Guest(bench.virsh, {"vda": self.image}, False, bench.stack, name)
        self.point = None

    def attach(self, mount):
        self.point = mount.path / "vms" / self.guest.name / "refpoints" / POINT

    def check(self, out):
        export = out / self.name
        if "result=0" not in (export / "export.ini").read_text().split():
            raise Failure(f"the manifest of {self.name} does not say that it is complete")
        call("qemu-img", "check", "-q", export / "vda.qcow2")
        call("qemu-img", "compare", "-q", "-U", self.image, export / "vda.qcow2")
        if (export / "SHA256SUMS").exists():
            call("sh", "-c", f"cd '{export}' && sha256sum --quiet -c SHA256SUMS")


class Times:
    """When each export's job began to run and when it ended: as its folder was made, and its
    manifest last. Nothing is asked while the jobs run."""

    def __init__(self, out, machines):
        folders = [out / machine.name for machine in machines]
        births = call("stat", "-c", "%.9W", *folders).split()
        self.began = dict(zip(machines, map(float, births)))
        self.ended = {machine: (folder / "export.ini").stat().st_mtime
                      for machine, folder in zip(machines, folders)}


class Bench:
    def __init__(self, args, folder, stack):
        self.args = args
        self.folder = folder
        self.stack = stack
        self.out = folder / "out"
        self.virsh = connect(args.connect, folder, stack)
        self.alone = Machine(self, "alone", args.alone * MIB)
        self.many = [Machine(self, f"vm{number:02}", args.data * MIB)
                     for number in range(args.vms)]
        self.mount = Mount(args.refpointfs.resolve(), args.connect, folder, self.many[-1].guest,
                           stack, f"jobs={args.jobs}")
        for machine in (self.alone, *self.many):
            machine.attach(self.mount)
        self.pid = self.mount.process.pid
        self.mounted_kib = measure.memory_kib(self.pid, "VmRSS")
        self.samples = {kind: [] for kind in KINDS}
        self.times = []

    def settings(self, machine, kind):
        return {"ExportDirectory": self.out / machine.name, **KINDS[kind]}

    def prepare(self, machines):
        self.out.mkdir()
        for machine in machines:
            machine.point.mkdir()
        os.sync()
        measure.reset_peak(self.pid)

    def finish(self, machines, is_checked):
        for machine in machines:
            result = (machine.point / "job" / "result").read_text().strip()
            if result != "0":
                raise Failure(f"the export of {machine.name} ended with {result}")
            if is_checked:
                machine.check(self.out)
            wait_for_end_of_hold(machine.point)
            machine.point.rmdir()
        shutil.rmtree(self.out)

    def run_alone(self, kind, is_checked):
        """Bytes a second."""
        self.prepare([self.alone])
        began = time.monotonic()
        export_point(self.alone.point, self.settings(self.alone, kind))
        seconds = time.monotonic() - began
        self.finish([self.alone], is_checked)
        return self.alone.data_bytes / seconds

    def run_many(self, kind, is_checked):
        """Bytes a second of all together, the peak of memory, and the jobs' times."""
        self.prepare(self.many)
        began = time.monotonic()
        for machine in self.many:
            settings = self.settings(machine, kind)
            (machine.point / "export").write_text(
                "".join(f"{key}={value}\n" for key, value in settings.items()))
        for machine in self.many:
            (machine.point / "job" / "wait").read_text()
        seconds = time.monotonic() - began
        self.times.append(Times(self.out, self.many))
        peak_kib = measure.memory_kib(self.pid, "VmHWM")
        self.finish(self.many, is_checked)
        return sum(machine.data_bytes for machine in self.many) / seconds, peak_kib

    def run(self):
        for number in range(self.args.rounds):
            for kind in KINDS:
                alone = self.run_alone(kind, number == 0)
                many, peak_kib = self.run_many(kind, number == 0)
                self.samples[kind].append((alone, many, peak_kib))

    def report(self):
        print(f"{self.args.vms} VMs of {self.args.data} MiB, {self.args.jobs} jobs at once, against "
              f"one of {self.args.alone} MiB alone; {self.args.rounds} rounds, interleaved; all "
              "exports of the first were compared with the disks")
        for kind, samples in self.samples.items():
            alone, many = (statistics.median(column) / MIB for column in list(zip(*samples))[:2])
            ratios = [many / alone for alone, many, _ in samples]
            print(f"  {kind:14} together {many:6.0f} MiB/s, alone {alone:6.0f} MiB/s, ratio "
                  f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        self.report_order()
        peak_kib = max(peak for samples in self.samples.values() for _, _, peak in samples)
        print(f"memory: {self.mounted_kib / 1024:.1f} MiB after mounting, at most "
              f"{peak_kib / 1024:.1f} MiB while exporting, "
              f"{measure.memory_kib(self.pid, 'VmRSS') / 1024:.1f} MiB in the end")

    def report_order(self):
        moved, at_once, longest = [], [], []
        for times in self.times:
            order = sorted(self.many, key=lambda machine: times.began[machine])
            moved.append(max(abs(order.index(machine) - place)
                             for place, machine in enumerate(self.many)))
            at_once.append(max(sum(times.began[other] <= times.began[machine] < times.ended[other]
                                   for other in self.many) for machine in self.many))
            lasted = [times.ended[machine] - times.began[machine] for machine in self.many]
            longest.append(max(lasted) / statistics.median(lasted))
        print(f"fair: jobs began at most {max(moved)} places from where they were asked for, at "
              f"most {max(at_once)} ran at once, the longest took {max(longest):.1f} times as long "
              "as the median of its round")


def run(args, stack):
    require_programs("virsh", "qemu-img", "qemu-io", "fusermount3", "sha256sum")
    require_place(args)
    require_space(args.dir, int(2.2 * (args.vms * args.data + args.alone) * MIB))
    folder = Path(tempfile.mkdtemp(prefix="refpointfs-bench.", dir=args.dir.resolve()))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    with ExitStack() as own:
        bench = Bench(args, folder, own)
        ask(args)
        bench.run()
        bench.report()
    return 0

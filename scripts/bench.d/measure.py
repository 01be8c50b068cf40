# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measuring processes from outside, and telling the results. Reads /proc and nothing else, so that
what is measured is not slowed by being measured."""

import contextlib
import csv
import os
import signal
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path

from host import MIB, Failure

TICKS = os.sysconf("SC_CLK_TCK")

# Less than this is talk and metadata, not a copy that has begun.
BEGUN_BYTES = MIB


def cpu_seconds(pid):
    """Of all the process's threads, those that ended included."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(values[11]) + int(values[12])) / TICKS


def memory_kib(pid, key):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def reset_peak(pid):
    """VmHWM begins anew at what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def io_bytes(pid, key):
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


@dataclass
class Sample:
    """One run of one contender. What does not apply is None."""

    workload: str
    contender: str
    round: int
    wall_s: float
    client_cpu_s: float
    qemu_cpu_s: float
    peak_rss_kib: int
    begin_s: float = None  # beginning the job that the run reads from: not in wall_s
    first_read_s: float = None  # from the close of the settings to QEMU's first reads
    first_write_s: float = None  # ... to the first block in the export
    guest_rate: float = None  # bytes a second that the guest wrote meanwhile


class PeakMemory(threading.Thread):
    """Watches a process and its children, as wait4's figure begins at this interpreter's size.
    A peak never falls, so the last look before the end has it."""

    INTERVAL_S = 0.05

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.peaks_kib = {}
        self.ended = threading.Event()
        self.start()

    def _look(self):
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            for pid in (self.pid, *children):
                peak = memory_kib(pid, "VmHWM")
                self.peaks_kib[pid] = max(peak, self.peaks_kib.get(pid, 0))

    def run(self):
        while not self.ended.wait(self.INTERVAL_S):
            self._look()

    def stop(self):
        self.ended.set()
        self.join()
        return sum(self.peaks_kib.values()) or None


class FirstBytes(threading.Thread):
    """Notes when QEMU's reads and the exporter's writes begin, to a millisecond. Ends with the
    later of the two: during the copy itself nothing polls."""

    INTERVAL_S = 0.001

    def __init__(self, qemu_pid, exporter_pid):
        super().__init__(daemon=True)
        self.counters = {"read": (qemu_pid, "rchar"), "write": (exporter_pid, "wchar")}
        self.from_bytes = {what: io_bytes(*counter) for what, counter in self.counters.items()}
        self.seen_at = {}
        self.ended = threading.Event()
        self.start()

    def run(self):
        while len(self.seen_at) < len(self.counters) and not self.ended.wait(self.INTERVAL_S):
            for what in self.counters.keys() - self.seen_at.keys():
                if io_bytes(*self.counters[what]) - self.from_bytes[what] >= BEGUN_BYTES:
                    self.seen_at[what] = time.monotonic()

    def stop(self):
        self.ended.set()
        self.join()

    def seconds_since(self, moment):
        """Until the first read and the first write; None for what was not seen."""
        return tuple(self.seen_at[what] - moment if what in self.seen_at else None
                     for what in self.counters)


def run_client(command):
    """Runs a program to its end: (wall seconds, CPU seconds, peak KiB), children included."""
    began = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               start_new_session=True)
    memory = PeakMemory(process.pid)
    try:
        # Programs that print so much to fill a pipe would be at fault themselves.
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        peak_kib = memory.stop()
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    with process.stderr:
        message = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise Failure(f"{command[0]} ended with {process.returncode}: {message}")
    return wall_s, usage.ru_utime + usage.ru_stime, peak_kib


def write_csv(path, samples):
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        names = [field.name for field in fields(Sample)]
        writer.writerow(names)
        writer.writerows([getattr(sample, name) for name in names] for sample in samples)


def median_of(samples, name):
    values = [value for sample in samples if (value := getattr(sample, name)) is not None]
    return statistics.median(values) if values else None


def ratio(samples, reference):
    """Median of the ratios of runs of the same round: what disturbed one disturbed its neighbour
    as well."""
    ours = {sample.round: sample.wall_s for sample in reference}
    ratios = [sample.wall_s / ours[sample.round] for sample in samples if sample.round in ours]
    return statistics.median(ratios) if ratios else None


def number(value, width, digits):
    return f"{value:{width}.{digits}f}" if value is not None else f"{'-':>{width}}"


# Name, width, digits.
COLUMNS = (("median", 8, 3), ("min", 8, 3), ("max", 8, 3), ("to us", 7, 2), ("client", 8, 2),
           ("QEMU", 8, 2), ("MiB", 7, 1), ("s", 7, 2))
GUEST_COLUMN = ("MiB/s", 8, 1)


def print_head(guest_writes):
    columns = COLUMNS + (GUEST_COLUMN,) * guest_writes
    print(f"{'':38}{'wall s':^24}{'ratio':>7}{'CPU s':^16}{'peak':>7}{'begin':>7}"
          + "   guest" * guest_writes)
    print(f"{'':38}" + "".join(f"{name:>{width}}" for name, width, _ in columns) + "  durable")


def print_row(contender, samples, reference, guest_writes):
    walls = [sample.wall_s for sample in samples]
    peak_kib = median_of(samples, "peak_rss_kib")
    values = [statistics.median(walls), min(walls), max(walls), ratio(samples, reference),
              median_of(samples, "client_cpu_s"), median_of(samples, "qemu_cpu_s"),
              peak_kib / 1024 if peak_kib else None, median_of(samples, "begin_s")]
    columns = COLUMNS
    if guest_writes:
        values.append(median_of(samples, "guest_rate") / MIB)
        columns += (GUEST_COLUMN,)
    print(f"{contender.title:38}"
          + "".join(number(value, *form) for value, (_, *form) in zip(values, columns))
          + f"  {contender.durable}")

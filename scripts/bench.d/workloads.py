# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is exported: the workloads, and the images they begin with."""

import os
import random
import string
from dataclasses import dataclass
from pathlib import Path

from host import GIB, IDLE_BOOT_SECTOR, MIB, call

# Real disks are not filled from the front.
STRETCHES = 8
DELTA_BYTES = 100 * MIB
PIECE_BYTES = 64 << 10
PIECES = DELTA_BYTES // PIECE_BYTES
# The data of the disks that (f) exports together is that of its first.
PARTS = 4


@dataclass(frozen=True)
class Workload:
    title: str
    disk_bytes: int = 20 * GIB
    zeros: str = None  # how qemu-io writes half of each stretch: as zeros, or as data
    text: bool = False  # data that can be compressed, instead of random
    delta: str = None  # None: full export
    parts: bool = False  # besides vda as many disks as PARTS, with its data shared among them
    writes: bool = False  # the guest writes all the time

    def disks(self):
        return [f"vd{letter}" for letter in string.ascii_lowercase[:1 + PARTS * self.parts]]


WORKLOADS = {
    "a": Workload("full export of {data} of random data in a disk of 20 GiB"),
    "b": Workload("full export of {data}, half of it zeroed, in a disk of 20 GiB",
                  zeros="write -z"),
    "c": Workload("100 MiB changed, in one run; {data} in a disk of 1 TiB", disk_bytes=1024 * GIB,
                  delta="one run"),
    "d": Workload("100 MiB changed, as 1,600 pieces; {data} in a disk of 1 TiB",
                  disk_bytes=1024 * GIB, delta="scattered"),
    "e": Workload("full export of {data}, compressed, in a disk of 20 GiB", text=True),
    "f": Workload("full export of {data} on 4 disks together, or on one", parts=True),
    "g": Workload("full export of {data} while the guest writes", writes=True),
    "h": Workload("full export of {data}, half of it zeros written as data, in a disk of 20 GiB",
                  zeros="write -P 0"),
}


def random_data(length):
    return os.urandom(length)


class TextAndNoise:
    """Two thirds words, one third noise, in pieces of 4 to 64 KiB: zstd makes 70 % of it."""

    def __init__(self):
        chance = random.Random(1)  # the same words on each machine
        words = [bytes(chance.choices(b"etaoinshrdlucmfwypvbgkjqxz", k=chance.randint(2, 9)))
                 for _ in range(8000)]
        self.pool = b" ".join(chance.choices(words, k=3_000_000))
        self.chance = chance

    def __call__(self, length):
        pieces, made = [], 0
        while made < length:
            piece = self.chance.randrange(4 << 10, 64 << 10)
            start = self.chance.randrange(len(self.pool) - piece)
            noise = self.chance.random() < 0.3
            pieces.append(os.urandom(piece) if noise else self.pool[start:start + piece])
            made += piece
        return b"".join(pieces)[:length]


def write_file(path, length, data):
    with open(path, "wb") as out:
        for _ in range(length // MIB):
            out.write(data(MIB))


def make_image(image, disk_bytes, data_bytes, workload, boot_sector=None):
    """Data in stretches over the disk, different in each; half of each zeros if so asked."""
    stretch_bytes = data_bytes // STRETCHES
    filled_bytes = stretch_bytes // 2 if workload.zeros else stretch_bytes
    data = TextAndNoise() if workload.text else random_data
    source, boot = image.with_suffix(".data"), image.with_suffix(".boot")
    call("qemu-img", "create", "-q", "-f", "qcow2", image, str(disk_bytes))
    for i in range(STRETCHES):
        offset = disk_bytes // STRETCHES * i
        write_file(source, filled_bytes, data)
        commands = [f"write -s {source} {offset} {filled_bytes}"]
        if workload.zeros:
            commands.append(f"{workload.zeros} {offset + filled_bytes} {filled_bytes}")
        if i == 0 and boot_sector:
            boot.write_bytes(boot_sector)
            commands.append(f"write -s {boot} 0 512")
        call("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)),
             image)
    source.unlink()


def boot_sector_of(workload, folder):
    if not workload.writes:
        return IDLE_BOOT_SECTOR
    source, made, linked = (folder / f"writer.{end}" for end in ("S", "o", "bin"))
    source.write_bytes((Path(__file__).parent / "writer.S").read_bytes())
    call("as", "--32", "-o", made, source)
    call("ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00", "-e", "start", "-o",
         linked, made)
    return linked.read_bytes()


def make_images(workload, data_bytes, folder):
    """By target, in the order of the disks."""
    images = {}
    for target in workload.disks():
        image = images[target] = folder / f"{target}.qcow2"
        boot = boot_sector_of(workload, folder) if target == "vda" else None
        share = data_bytes if target == "vda" else data_bytes // PARTS
        make_image(image, workload.disk_bytes, share, workload, boot)
    return images


def delta_pieces(workload):
    """What changes: (bytes of a piece, their offsets)."""
    if workload.delta == "one run":
        return DELTA_BYTES, [workload.disk_bytes // STRETCHES]
    step = workload.disk_bytes // PIECES // PIECE_BYTES * PIECE_BYTES
    return PIECE_BYTES, [step * i for i in range(PIECES)]

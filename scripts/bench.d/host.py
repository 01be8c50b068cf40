# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a benchmark stands on: a libvirtd, a VM of its own, a mount of refpointfs.

Everything begun here registers its end with the ExitStack it was given, at once, so that whatever
fails later, nothing is left behind.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ElementTree
from pathlib import Path

GIB = 1 << 30
MIB = 1 << 20


class Failure(Exception):
    """Ends the benchmark with a sentence instead of a traceback."""


def run_with_cleanup(function, args):
    """Calls function(args, stack) and undoes what it registered, also when a signal ends it."""

    def stop(number, _frame):
        raise SystemExit(128 + number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        signal.signal(number, stop)
    stack = contextlib.ExitStack()
    try:
        return function(args, stack)
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        stack.close()


def at_end(stack, what, function, *args):
    """Registers an end that, when it fails, says so and lets the others go on."""

    def end():
        try:
            function(*args)
        except Exception as error:
            print(f"bench: cleaning up, {what}: {error}", file=sys.stderr)

    stack.callback(end)


def wait_until(seconds, what, condition):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"after {seconds} s still not: {what}")
        time.sleep(0.01)


TOP = Path(__file__).resolve().parent.parent.parent


def add_program(parser):
    parser.add_argument("--refpointfs", metavar="PROGRAM", type=Path,
                        default=TOP / "build" / "fs" / "refpointfs",
                        help="default: build/fs/refpointfs")


def require_program(args):
    """A file to run, not a folder, which access(2) would let pass."""
    if not args.refpointfs.is_file() or not os.access(args.refpointfs, os.X_OK):
        raise Failure(f"{args.refpointfs} is no program: build it, or name it with --refpointfs")


def add_place(parser):
    """Where to measure, and what."""
    default_uri = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
    parser.add_argument("--dir", metavar="FOLDER", type=Path, default=Path("/var/tmp"),
                        help="where images and exports go for the time being (%(default)s)")
    parser.add_argument("--connect", metavar="URI", default=default_uri,
                        help="the libvirt to use (%(default)s)")
    add_program(parser)


def require_place(args):
    require_program(args)
    if not args.dir.is_dir():
        raise Failure(f"{args.dir} is no folder")


def add_ask(parser):
    parser.add_argument("--ask", action="store_true",
                        help="wait for a line at standard input before each measurement: to set up "
                        "takes long, and others may have to be made quiet after it")


def ask(args):
    if args.ask:
        print("(waiting for a line)", flush=True)
        sys.stdin.readline()


def require_programs(*names):
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        raise Failure(f"not installed: {' '.join(missing)}")


def require_space(folder, needed_bytes):
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise Failure(f"{folder} has {free_bytes / GIB:.1f} GiB free; {needed_bytes / GIB:.1f} GiB "
                      "are needed. Give another folder with --dir, or try --quick")


def call(*command):
    """Runs a helper program to its end; what it printed, if it succeeded."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: {done.stdout.strip()}")
    return done.stdout


def end_process(pid):
    """Ends a process that is not a child of ours, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    wait_until(30, f"process {pid} ended", lambda: not Path(f"/proc/{pid}").exists())


class Virsh:
    """One virsh that takes commands one after another, because starting it takes it 20 ms, which
    would weigh on every look at a job. Also used to begin the jobs that are measured."""

    def __init__(self, uri, stack):
        self.process = subprocess.Popen(
            ["virsh", "-q", "-c", uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, bufsize=1, start_new_session=True,
            env={**os.environ, "LC_ALL": "C"})
        at_end(stack, "virsh", self._close)
        self.uri = uri
        self.serial = 0

    def _close(self):
        self.process.stdin.close()
        self.process.wait()

    def __call__(self, command):
        """What the command printed. virsh repeats what it is told, so the mark that ends the
        answer is told in two halves and looked for in one."""
        self.serial += 1
        mark = f"the end of answer {self.serial}"
        self.process.stdin.write(f"{command}\necho 'the end of'' answer {self.serial}'\necho\n")
        lines = []
        for line in self.process.stdout:
            if mark in line:
                break
            lines.append(line)
        else:
            raise Failure(f"virsh ended: {''.join(lines).strip()}")
        answer = "".join(line for line in lines if not line.startswith("virsh # "))
        if "error: " in answer:
            raise Failure(f"virsh {command}: {answer.strip()}")
        return answer


# Where QEMU's user may not open /dev/kvm, libvirt probes QEMU anew whenever it meets a VM, half a
# minute each time; so the daemons get one of their own that everybody may open.
OPEN_KVM = """
    [ ! -c /dev/kvm ] || [ -e "$1" ] || mknod -m 666 "$1" c 10 232
    [ ! -c "$1" ] || mount --bind "$1" /dev/kvm
    shift
    exec "$@"
"""


def start_daemons(folder, stack):
    """For machines where libvirtd is installed but no service manager runs it."""
    print("no libvirtd answers: starting one for the time being", file=sys.stderr)
    for daemon in ("virtlogd", "libvirtd"):
        pid_file = folder / f"{daemon}.pid"
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", OPEN_KVM, "sh",
                   folder / "kvm", daemon, "-d", "-p", pid_file]
        started = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if started.returncode == 0:
            wait_until(10, f"{daemon} runs", lambda: pid_file.exists() and pid_file.read_text())
            at_end(stack, daemon, end_process, int(pid_file.read_text()))
        elif daemon == "libvirtd":
            raise Failure(f"cannot start libvirtd: {started.stderr.strip()}")


def connect(uri, folder, stack):
    """A Virsh on the URI. As root, a missing libvirtd is started, and stopped at the end."""
    test = ["virsh", "-c", uri, "uri"]
    if subprocess.run(test, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        if os.geteuid() != 0 or uri != "qemu:///system":
            raise Failure(f"no libvirt answers at {uri}; give another with --connect")
        require_programs("virtlogd", "libvirtd", "unshare")
        start_daemons(folder, stack)
        wait_until(60, "libvirtd answers", lambda: subprocess.run(
            test, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0)
    return Virsh(uri, stack)


# A boot sector that halts: the guest's own writes would make each run measure another disk.
IDLE_BOOT_SECTOR = bytes([0xFA, 0xF4, 0xEB, 0xFD]).ljust(510, b"\0") + b"\x55\xaa"

DOMAIN_XML = """<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>8</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  {labels}
  <devices>
    {disks}
    <controller type='usb' model='none'/><memballoon model='none'/>
  </devices>
</domain>
"""

DISK_XML = """<disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'{cache}/><source file='{image}'/>
      <target dev='{target}' bus='virtio'/>
    </disk>
"""


class Guest:
    """A VM of our own. `images` are its disks, by target, and the first says what it does: where
    that is to write, nothing makes it wait for the disk."""

    def __init__(self, virsh, images, writes, stack, name=""):
        self.virsh = virsh
        self.name = f"refpointfs-bench-{os.getpid()}{name and '-'}{name}"
        cache = " cache='unsafe'" if writes else ""
        disks = "".join(DISK_XML.format(target=target, image=image, cache=cache)
                        for target, image in images.items())
        definition = images["vda"].with_suffix(".xml")
        definition.write_text(DOMAIN_XML.format(name=self.name, uuid=uuid.uuid4(), disks=disks,
                                                labels=self._labels()))
        at_end(stack, "the VM", self._remove)
        virsh(f"define '{definition}'")
        virsh(f"start {self.name}")
        self.pid = self._find_process()

    def _labels(self):
        """QEMU gets our own user, and no profile, because image, scratch files and sockets lie in
        a folder that only we may enter. A session's QEMU has our user anyway."""
        if os.geteuid() != 0:
            return ""
        capabilities = call("virsh", "-c", self.virsh.uri, "capabilities")
        models = [model.text for model in
                  ElementTree.fromstring(capabilities).iterfind("host/secmodel/model")]
        labels = {"dac": "<seclabel type='static' model='dac' relabel='no'>"
                         "<label>+0:+0</label></seclabel>", "none": ""}
        return "".join(labels.get(model, f"<seclabel type='none' model='{model}'/>")
                       for model in models)

    def _find_process(self):
        for command_line in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"guest={self.name},".encode() in command_line.read_bytes():
                    return int(command_line.parent.name)
        raise Failure(f"the QEMU of {self.name} is not on this machine")

    def _remove(self):
        for command in ("destroy", "undefine --checkpoints-metadata --managed-save"):
            with contextlib.suppress(Failure):
                self.virsh(f"{command} {self.name}")
        if self.name in self.virsh("list --all --name").split():
            raise Failure(f"{self.name} is still there")

    def write(self, source, offsets, length_bytes):
        """Writes the file `source` to each place of the disk, as the guest would. By a virsh that
        gets its commands as arguments: the one that is told them repeats long ones in pieces."""
        lines = [f"write -s {source} {offset} {length_bytes}" for offset in offsets] + ["flush"]
        commands = [f"qemu-monitor-command {self.name} --hmp 'qemu-io -d "
                    f"/machine/peripheral/virtio-disk0/virtio-backend \"{line}\"'"
                    for line in lines]
        for i in range(0, len(commands), 100):
            answer = call("virsh", "-q", "-c", self.virsh.uri, "; ".join(commands[i:i + 100]))
            if answer.strip():
                raise Failure(f"QEMU refuses to write to the disk: {answer.strip()}")

    def written_bytes(self):
        """By the guest, to its first disk."""
        for line in self.virsh(f"domblkstat {self.name} vda").splitlines():
            if line.split()[1:2] == ["wr_bytes"]:
                return int(line.split()[2])
        raise Failure("libvirt does not tell what the guest writes")

    def is_alive(self):
        return Path(f"/proc/{self.pid}/io").exists()

    def has_job(self):
        return self.virsh(f"domjobinfo {self.name}").split()[-1] != "None"


class Mount:
    """refpointfs, mounted on the libvirt that runs the guest."""

    def __init__(self, binary, uri, folder, guest, stack, *more_options):
        self.path = folder / "mnt"
        self.path.mkdir()
        self.log = folder / "refpointfs.log"
        folders = (f"{name}={folder / name}" for name in ("state", "scratch", "run"))
        options = ",".join((*folders, *more_options))
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([binary, uri, self.path, "-f", "-o", options],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        at_end(stack, "the mount", self._remove)
        self.vm = self.path / "vms" / guest.name
        wait_until(60, f"{self.vm} is there", self._is_ready)

    def _is_ready(self):
        if self.process.poll() is not None:
            raise Failure(f"refpointfs ended instead of mounting: {self.log.read_text().strip()}")
        return (self.vm / "info").exists()

    def _remove(self):
        subprocess.run(["fusermount3", "-u", self.path], stderr=subprocess.DEVNULL)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL)
            self.process.kill()
            self.process.wait()
            raise Failure("refpointfs had to be killed") from None

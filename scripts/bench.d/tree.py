# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tree of a thousand virtual machines, and its peers.

Mounts refpointfs on libvirt's test driver with that many VMs, inside a libvirtd of its own that
runs as a user without rights, so that the memory measured is ours and every call to libvirt a real
one. Makes the reference points by mkdir, and then measures, interleaved, several rounds:

  start     from the start of the program until the mount answers, and until all VMs are known
  memory    of the service, and what a reference point and a file cost
  find      entries a second of find(1) at several sizes, and against libfuse's passthrough_ll on a
            copy of the tree in a tmpfs at the smaller ones: for each name that is new to it
            passthrough_ll goes through a list of all that it knows
  read      open + read + close of job/status, and of checkpoint.xml, which never changes, by 1, 4
            and 16 readers, against libfuse's hello_ll and sysfs; also stat, and pread of a file
            that stays open
  list      `ls` of one VM's reference points, against `virsh checkpoint-list`
  calm      calls to libvirt a second while a thousand readers read

libfuse's examples are compiled from where the package libfuse3-dev has put them. libvirt reads its
schema anew for each checkpoint that is made, which takes it 12 ms of CPU, and 100,000 of them half
an hour: this libvirtd has a schema that takes everything in its place, in a mount namespace.
"""

import os
import pwd
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
from host import (TOP, Failure, Virsh, add_ask, add_program, ask, at_end, call, require_program,
                  require_programs, wait_until)

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
SYSFS_FILE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
READERS = (1, 4, 16)
POLLERS = 1000

# Parts of the VMs that are walked, down to one of a thousand, and up to how many entries the peer
# is, too: ten times as many take it a hundred times as long.
FRACTIONS = (1000, 100, 10, 1)
PEER_ENTRIES = 20000

SCHEMA_FILE = Path("/usr/share/libvirt/schemas/domaincheckpoint.rng")
SCHEMA = """<grammar xmlns='http://relaxng.org/ns/structure/1.0'>
  <start><ref name='any'/></start>
  <define name='any'><element><anyName/><zeroOrMore><choice>
    <attribute><anyName/></attribute><text/><ref name='any'/>
  </choice></zeroOrMore></element></define>
</grammar>
"""

DOMAIN_XML = """<domain type='test'><name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type>hvm</type></os>
  <devices><disk type='file' device='disk'>
    <driver name='qemu' type='qcow2'/><source file='/images/{name}.qcow2'/>
    <target dev='vda' bus='virtio'/>
  </disk></devices>
</domain>
"""


def add_arguments(parser):
    add_program(parser)
    parser.add_argument("--vms", type=int, default=1000)
    parser.add_argument("--points", type=int, default=100, help="of each VM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement of reads")
    add_ask(parser)


def medians(rounds):
    """Of dictionaries with the same keys."""
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def spread(rounds, ours, theirs):
    """Median, lowest and highest of the ratios within rounds."""
    ratios = [each[ours] / each[theirs] for each in rounds]
    return (f"{statistics.median(ratios):6.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


# ---- what is measured, and its peers ----

def node_xml(vms):
    domains = "".join(DOMAIN_XML.format(name=f"vm{number:04}", uuid=uuid.UUID(int=number + 1))
                      for number in range(vms))
    return f"<node>{domains}</node>\n"


class Daemon:
    """A session libvirtd whose folders are all below ours, of a user without rights."""

    def __init__(self, folder, stack):
        folder.mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "XDG_RUNTIME_DIR": folder,
                       "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder}
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        schema = folder.with_suffix(".rng")
        schema.write_text(SCHEMA)
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-ec",
             f"mount --bind '{schema}' '{SCHEMA_FILE}'\n"
             f"exec setpriv --reuid {nobody.pw_uid} --regid {nobody.pw_gid} --clear-groups "
             "libvirtd -t 0"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        at_end(stack, "libvirtd", self._end)
        self.socket = folder / "libvirt" / "libvirt-sock"
        wait_until(30, "libvirtd answers", lambda: subprocess.run(
            ["virsh", "-c", self.uri("/default"), "uri"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL).returncode == 0)

    def uri(self, path):
        return f"test+unix://{path}?socket={self.socket}"

    def _end(self):
        self.process.terminate()
        self.process.wait(60)


class Service:
    """refpointfs on a libvirt."""

    def __init__(self, binary, uri, folder, vms, stack):
        self.path = folder / "mnt"
        self.path.mkdir(parents=True)
        options = ",".join(f"{name}={folder / name}" for name in ("state", "scratch", "run"))
        began = time.monotonic()
        self.process = subprocess.Popen([binary, uri, self.path, "-f", "-o", options],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        at_end(stack, "the mount", self._end)
        wait_until(60, "it is mounted", (self.path / "README").exists)
        self.mounted_s = time.monotonic() - began
        wait_until(120, "all VMs are listed",
                   lambda: len(os.listdir(self.path / "vms")) == vms)
        self.listed_s = time.monotonic() - began
        wait_until(600, "all VMs are known", self._is_filled)
        self.filled_s = time.monotonic() - began

    def _is_filled(self):
        before = self.info("rpcs")
        time.sleep(0.05)
        return before == self.info("rpcs")

    def info(self, key):
        for line in (self.path / "service" / "info").read_text().splitlines():
            if line.startswith(key + "="):
                return int(line.partition("=")[2])
        raise Failure(f"service/info has no {key}")

    def rss_kib(self):
        return measure.memory_kib(self.process.pid, "VmRSS")

    def vm(self, number):
        return self.path / "vms" / f"vm{number:04}"

    def _end(self):
        subprocess.run(["fusermount3", "-u", self.path], stderr=subprocess.DEVNULL)
        self.process.wait(120)


def compile_peer(source, out):
    flags = call("pkg-config", "--cflags", "--libs", "fuse3").split()
    call("cc", "-O2", source, "-o", out, *flags)
    return out


def mount_peer(command, path, stack):
    path.mkdir()
    call(*command, path)
    at_end(stack, str(path), call, "fusermount3", "-u", path)
    return path


def end_mount(path):
    """A peer that was unmounted may be a while in ending, and still use it."""
    wait_until(60, f"{path} is unmounted", lambda: subprocess.run(
        ["umount", path], stderr=subprocess.DEVNULL).returncode == 0)


# ---- the measurements ----

def make_points(service, vms, points):
    """By mkdir, as many as there are processors at a time."""

    def fill(number):
        refpoints = service.vm(number) / "refpoints"
        for point in range(points):
            (refpoints / f"p{point:03}").mkdir()

    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(vms)):
            pass
    return time.monotonic() - began


def remove_points(service, vms, points):
    def empty(number):
        for point in range(points):
            (service.vm(number) / "refpoints" / f"p{point:03}").rmdir()

    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(empty, range(vms)):
            pass
    return time.monotonic() - began


def find(paths):
    """(Entries, entries a second.)"""
    began = time.monotonic()
    done = subprocess.run(["find", *paths], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise Failure(done.stderr.decode().splitlines()[0])
    entries = done.stdout.count(b"\n")
    return entries, entries / seconds


def copy_names(service, number, copy):
    """The same names, as empty files: find looks at no more."""
    source = service.vm(number)
    for folder, _, files in os.walk(source):
        target = copy / source.name / Path(folder).relative_to(source)
        target.mkdir(parents=True)
        for name in files:
            (target / name).touch()


def walk(paths):
    """Entries, and entries a second, after the kernel was told to forget what it has of them."""
    forget()
    return find(paths)


def walk_peer(bench, peer, copy, names, number):
    """A new one each time, because it never forgets."""
    mounted = bench.folder / f"passthrough-{len(names)}-{number}"
    mount_peer((peer, "-o", f"source={copy}"), mounted, bench.stack)
    return walk([mounted / name for name in names])[1]


def measure_find(bench, service):
    print("\nfind: entries a second (median), of a kernel that has forgotten all names")
    copy = bench.folder / "copy"
    copy.mkdir()
    call("mount", "-t", "tmpfs", "-o", "nr_inodes=0", "tmpfs", copy)
    at_end(bench.stack, "the tmpfs", end_mount, copy)
    peer = compile_peer(EXAMPLES / "passthrough_ll.c", bench.folder / "passthrough_ll")
    copied = 0
    for vms in sorted({max(bench.args.vms // fraction, 1) for fraction in FRACTIONS}):
        names = [service.vm(number).name for number in range(vms)]
        ours = [service.path / "vms" / name for name in names]
        entries, _ = find(ours)
        has_peer = entries <= PEER_ENTRIES
        for number in range(copied, vms if has_peer else 0):
            copy_names(service, number, copy)
        copied = vms
        rounds = []
        for number in range(bench.args.rounds):
            rounds.append({"ours": walk(ours)[1]})
            if has_peer:
                rounds[-1]["theirs"] = walk_peer(bench, peer, copy, names, number)
        rates = medians(rounds)
        line = f"  {entries:8} entries: ours {rates['ours']:9.0f}, {1e6 / rates['ours']:.1f} us each"
        if has_peer:
            line += (f"; passthrough_ll {rates['theirs']:9.0f}, ratio "
                     f"{spread(rounds, 'ours', 'theirs')}")
        print(line, flush=True)
    print(f"  memory after it {service.rss_kib() / 1024:.1f} MiB, at most "
          f"{measure.memory_kib(service.process.pid, 'VmHWM') / 1024:.1f} MiB")


def forget():
    """What the kernel knows of names and inodes, so that each walk asks for all of them."""
    Path("/proc/sys/vm/drop_caches").write_text("2")
    # With its inode it has thrown away the program that walks.
    call("find", "/", "-maxdepth", "0")


def read_rate(bench, what, readers, path):
    return float(call(bench.folder / "reader", what, readers, bench.args.seconds, path))


def measure_reads(bench, service):
    hello = mount_peer((compile_peer(EXAMPLES / "hello_ll.c", bench.folder / "hello_ll"),),
                       bench.folder / "hello", bench.stack) / "hello"
    point = service.vm(0) / "refpoints" / "p000"
    files = {"ours": point / "job" / "status", "unchanging": point / "checkpoint.xml",
             "hello_ll": hello, "sysfs": SYSFS_FILE}
    time.sleep(1.5)  # what is still is kept
    print("\nread: times a second (median), ratio to each peer (median of the rounds, range)")
    for what in ("open", "stat", "pread"):
        for readers in READERS if what == "open" else (1,):
            rounds = [{name: read_rate(bench, what, readers, path)
                       for name, path in files.items()} for _ in range(bench.args.rounds)]
            rates = medians(rounds)
            print(f"  {what:5} {readers:3} readers: " +
                  ", ".join(f"{name} {rates[name]:8.0f}" for name in files) +
                  f"; to hello_ll {spread(rounds, 'ours', 'hello_ll')}"
                  f", to sysfs {spread(rounds, 'ours', 'sysfs')}"
                  f", of the unchanging {spread(rounds, 'unchanging', 'sysfs')}")


def measure_list(bench, service):
    """Our own VM's points against as many of a VM that virsh has made. The test driver forgets
    them when the last connection is closed."""
    points = bench.args.points
    virsh_uri = bench.daemon.uri("/default")
    keeper = Virsh(virsh_uri, bench.stack)
    for number in range(points):
        keeper(f"checkpoint-create-as test p{number:03}")
    rounds = []
    for _ in range(bench.args.rounds):
        each = {}
        for name, command in (("ours", ["ls", service.vm(0) / "refpoints"]),
                              ("virsh", ["virsh", "-q", "-c", virsh_uri, "checkpoint-list", "test",
                                         "--name"])):
            began = time.monotonic()
            if len(call(*command).split()) != points:
                raise Failure(f"{command[0]} lists another number of points")
            each[name] = time.monotonic() - began
        rounds.append(each)
    each = medians(rounds)
    print(f"\nlist: {points} points: ls {each['ours'] * 1000:.1f} ms, virsh checkpoint-list "
          f"{each['virsh'] * 1000:.1f} ms, ratio {spread(rounds, 'ours', 'virsh')}")


def measure_calm(bench, service):
    """Readers of as many points as there are, each by its whole path, names forgotten first."""
    paths = [service.vm(number % bench.args.vms) / "refpoints" /
             f"p{number // bench.args.vms % bench.args.points:03}" / "job" / "status"
             for number in range(POLLERS)]
    forget()
    before, began = service.info("rpcs"), time.monotonic()
    reads = float(call(bench.folder / "reader", "open", POLLERS, 10 * bench.args.seconds, *paths))
    seconds = time.monotonic() - began
    print(f"\ncalm: {POLLERS} readers of {len(set(paths))} files: {reads:.0f} reads a second, "
          f"{(service.info('rpcs') - before) / seconds:.0f} calls to libvirt a second, memory at most "
          f"{measure.memory_kib(service.process.pid, 'VmHWM') / 1024:.1f} MiB")


class Bench:
    def __init__(self, args, folder, stack):
        self.args = args
        self.folder = folder
        self.stack = stack
        self.daemon = Daemon(folder / "libvirtd", stack)


def print_memory(service, empty_kib, points):
    # find MNT sees the point, its files, job/ and the files of that.
    entries, _ = find([service.vm(0) / "refpoints" / "p000"])
    full_kib = service.rss_kib()
    each = (full_kib - empty_kib) * 1024 / points
    print(f"\nmemory: {empty_kib / 1024:.1f} MiB without points, {full_kib / 1024:.1f} MiB with "
          f"{points}; {each:.0f} bytes a point, {each / entries:.0f} bytes for each of its "
          f"{entries} entries")


def run(args, stack):
    require_programs("libvirtd", "virsh", "find", "cc", "pkg-config", "fusermount3", "unshare",
                     "setpriv")
    require_program(args)
    if os.geteuid() != 0:
        raise Failure("only root can mount a tmpfs and make the kernel forget names")
    if not EXAMPLES.is_dir():
        raise Failure(f"{EXAMPLES} is missing: install libfuse3-dev")
    # passthrough_ll keeps a file open for each name.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(tempfile.mkdtemp(prefix="rp.", dir="/tmp"))
    at_end(stack, str(folder), shutil.rmtree, folder)
    folder.chmod(0o755)
    bench = Bench(args, folder, stack)
    call("cc", "-O2", TOP / "scripts" / "bench.d" / "reader.c", "-o", folder / "reader")
    definition = folder / "node.xml"
    definition.write_text(node_xml(args.vms))
    service = Service(args.refpointfs.resolve(), bench.daemon.uri(definition), folder / "rp",
                      args.vms, stack)
    print(f"start: {args.vms} VMs; mounted after {service.mounted_s:.2f} s, all VMs listed after "
          f"{service.listed_s:.2f} s, all known after {service.filled_s:.2f} s")
    empty_kib = service.rss_kib()
    points = args.vms * args.points
    seconds = make_points(service, args.vms, args.points)
    print(f"mkdir: {points} points in {seconds:.0f} s, {points / seconds:.0f} a second")
    print_memory(service, empty_kib, points)
    for measurement in (measure_find, measure_reads, measure_list, measure_calm):
        ask(args)
        measurement(bench, service)
    ask(args)
    seconds = remove_points(service, args.vms, args.points)
    print(f"\nrmdir: {points} points in {seconds:.0f} s, {points / seconds:.0f} a second; "
          f"{service.info('refpoints')} are left; {service.rss_kib() / 1024:.1f} MiB")
    return 0

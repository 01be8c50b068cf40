#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two hundred VMs are there in a second; however many read and walk, libvirt is asked no more than
# some two hundred times a second, and not at all for what is read again; points of all of them are
# made, found and removed.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

python3 - >"$T/node.xml" <<'PY'
import uuid
print("<node>")
for i in range(200):
    print(f"""<domain type='test'><name>vm{i:03}</name><uuid>{uuid.UUID(int=i + 1)}</uuid>
<memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/{i}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>""")
print("</node>")
PY
mount_rp "test://$T/node.xml"
vms_are()
{
    [ "$(find "$MNT/vms" -mindepth 1 -maxdepth 1 | wc -l)" = "$1" ]
}
wait_for 5 vms_are 200
wait_for 5 grep -q '^state=running' "$MNT/vms/vm199/info"

for point in a b; do
    printf "$MNT/vms/vm%03d/refpoints/$point\n" {0..199} | xargs -P 2 mkdir
done
assert_shows refpoints 400 "$MNT/service/info"
assert_shows parent a "$MNT/vms/vm123/refpoints/b/info"
assert_equal 600 "$(find "$MNT/vms" -path '*/job/status' | wc -l)" "files found" # of the VMs, too

# A hundred readers of a file each, and walkers, for three seconds.
rpcs()
{
    status_value rpcs "$MNT/service/info"
}
before=$(rpcs)
python3 - "$MNT" <<'PY'
import os, sys, threading, time
end = time.monotonic() + 3
reads = 0

def reader(number):
    global reads
    path = f"{sys.argv[1]}/vms/vm{number:03}/refpoints/a/"
    while time.monotonic() < end:
        for name in ("job/status", "info", "checkpoint.xml", "hold"):
            with open(path + name, "rb", buffering=0) as file:
                assert file.read(8192)
            os.stat(path + name)
            reads += 1

def walker():
    while time.monotonic() < end:
        for number in range(200):
            assert len(os.listdir(f"{sys.argv[1]}/vms/vm{number:03}/refpoints")) == 2

threads = [threading.Thread(target=reader, args=(i,)) for i in range(100)]
threads += [threading.Thread(target=walker) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert reads > 3000, reads
PY
# A list is two calls; there are four seconds' worth of them, one saved up.
calls=$(($(rpcs) - before))
[ $calls -lt 2000 ] || fail "libvirt was called $calls times in 3 s"

printf "$MNT/vms/vm%03d/refpoints/a\n" {0..199} | xargs -P 2 rmdir
assert_shows refpoints 200 "$MNT/service/info"
assert_shows parent "" "$MNT/vms/vm123/refpoints/b/info"
unmount_rp

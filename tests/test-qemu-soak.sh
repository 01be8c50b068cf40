#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# However long it is used, by many readers and VMs whose points and exports come and go, the service
# takes no more memory and no more file descriptors. SOAK=SECONDS, VMS=N, READERS=N: for how long and
# how much; SOAK=1800 VMS=8 READERS=200 is half an hour of it, with a line a minute.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img python3

# Their CPU rests at once: it is the service that shall be busy.
python3 -c 'import sys
sys.stdout.buffer.write(b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa")' >"$T/idle.bin"
for ((i = 1; i <= ${VMS:-3}; i++)); do
    guest_new "web$i" --disks 2 --size 8M --boot "$T/idle.bin"
done
mkdir "$T/out"
mount_rp
for ((i = 1; i <= ${VMS:-3}; i++)); do
    wait_for 60 test -d "$MNT/vms/web$i"
    wait_for 60 shows state running "$MNT/vms/web$i/info"
    guest_write "web$i" --disk 0 "0x0$((i % 10))" 1M 3M
    guest_write "web$i" --disk 1 "0x1$((i % 10))" 2M 2M
done
python3 -B "$TESTS/soak.py" "$MNT" "$mount_pid" "$T/out" --seconds "${SOAK:-10}" \
    --readers "${READERS:-30}" ${VERBOSE:+--verbose}
unmount_rp

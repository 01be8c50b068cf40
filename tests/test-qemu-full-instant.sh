#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A full export shows the disk of the instant of mkdir, although the guest goes on writing.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
live=$T/web1-vda.qcow2

# Data beside the counter, too large to be in any cache of the export when it is overwritten.
guest_write web1 0xaa 32M 8M
guest_write web1 0xcc 48M 1M

min=$(counter_bound "$live")
mkdir "$mon"
max=$(counter_bound "$live")

assert_equal 1 "$(cat "$mon/hold")" hold
assert_shows has_associated_data yes "$mon/info"
guest_write web1 0xbb 32M 8M
guest_write web1 zero 48M 1M
guest_write web1 0xdd 60M 64k
# All slots of the counter are overwritten at least once: 256 writes.
went_on()
{
    [ "$(counter_bound "$live")" -gt $((max + 300)) ]
}
wait_for 20 went_on

export_point "$mon" "ExportDirectory=$T/mon"
assert_shows exact yes "$mon/job/status"
counter_of "$T/mon/vda.qcow2" "$min" "$max" >/dev/null || fail "not the instant of mkdir"
assert_reads 0xaa 32M 8M "$T/mon/vda.qcow2"
assert_reads 0xcc 48M 1M "$T/mon/vda.qcow2"
assert_reads 0 60M 64k "$T/mon/vda.qcow2"
assert_reads 0xbb 32M 8M "$live"

# Without a base the file stands for itself.
qemu-img info "$T/mon/vda.qcow2" >"$T/info"
! grep -q 'backing file:' "$T/info" || fail "a full export has a backing file"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# SHA256SUMS is what `sha256sum -c` wants, and sees a changed byte; Checksum=none writes none.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img sha256sum

guest_new web1 --disks 2
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
guest_write web1 --disk 1 0x55 1M 3M
mkdir "$mon"
export_point "$mon" "ExportDirectory=$T/with" KeepHold=yes
cd "$T/with"
sha256sum --quiet --strict -c SHA256SUMS || fail "sha256sum -c refuses the export"
assert_equal 2 "$(wc -l <SHA256SUMS)" "files in SHA256SUMS"
grep -q "^sha256=$(sha256sum <vda.qcow2 | cut -d' ' -f1)\$" export.ini ||
    fail "export.ini has another checksum of vda"
printf x | dd of=vdb.qcow2 bs=1 seek=300000 conv=notrunc status=none
sha256sum --status -c SHA256SUMS && fail "a changed byte was not seen"
cd "$T"

export_point "$mon" "ExportDirectory=$T/without" Checksum=none
[ ! -e "$T/without/SHA256SUMS" ] || fail "Checksum=none wrote SHA256SUMS"
counter_of "$T/without/vda.qcow2" >/dev/null
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A path of thousands of bytes, with spaces, quotes and letters beyond ASCII, is taken as it is.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img

guest_new web1
mount_rp
ready web1
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
odd="$T/with space; 'quote' \"two\" #größe = \$x"
mkdir "$odd"
export_point "$mon" "ExportDirectory=$odd/mon" KeepHold=yes
counter_of "$odd/mon/vda.qcow2" >/dev/null

part=$(printf 'a%.0s' {1..200})
long=$T
while [ ${#long} -lt 3700 ]; do
    long=$long/$part
done
mkdir -p "$long"
settings "$mon" "ExportDirectory=$long/mon" KeepHold=yes
export_ends 0 "$mon"
(cd "$long/mon" && images_check . && sha256sum --quiet -c SHA256SUMS)
assert_shows export_directory "$long/mon" "$mon/job/status"
assert_fails_with "Invalid argument" \
    settings "$mon" "ExportDirectory=$T/$(printf 'a/%.0s' {1..2100})"
assert_says "line 1" error "$mon/job/status"
unmount_rp

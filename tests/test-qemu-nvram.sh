#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The firmware's variables are exported as they were at the instant, with their checksum, of VMs
# that run and of VMs that are off; that they are not there is said, and fails nothing.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img sha256sum qemu-storage-daemon
firmware=/usr/share/seabios/bios-256k.bin
[ -e "$firmware" ] || skip "SeaBIOS is not in $firmware"
restore=$TESTS/../scripts/refpoint-restore

# has_variables PATTERN-BYTE FILE: the file has nothing but the byte.
has_variables()
{
    [ "$(tr -d "$1" <"$2" | wc -c)" -eq 0 ] && [ "$(stat -c %s "$2")" -eq 131072 ]
}
set_variables()
{
    head -c 131072 /dev/zero | tr '\0' "$1" | dd of="$T/web1_VARS.fd" conv=notrunc status=none
}
nothing_in_scratch()
{
    [ -z "$(find "$T/scratch" -type f)" ]
}

guest_new web1
cp "$firmware" "$T/code.fd"
sed -i "s|<os>|&<loader readonly='yes' type='pflash'>$T/code.fd</loader><nvram>$T/web1_VARS.fd</nvram>|" \
    "$ROOT/etc/qemu/web1.xml"
set_variables A
mount_rp
ready web1
points=$MNT/vms/web1/refpoints

mkdir "$points/mon"
set_variables B
export_point "$points/mon" "ExportDirectory=$T/mon"
has_variables A "$T/mon/nvram.fd" || fail "not the variables of the instant"
assert_equal 600 "$(stat -c %a "$T/mon/nvram.fd")" "mode of nvram.fd"
assert_equal nvram.fd "$(status_value nvram "$T/mon/export.ini")" nvram
(cd "$T/mon" && sha256sum --quiet --strict -c SHA256SUMS)
grep -q '  nvram.fd$' "$T/mon/SHA256SUMS" || fail "nvram.fd has no checksum"
wait_for 5 nothing_in_scratch

mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon Checksum=none
has_variables B "$T/tue/nvram.fd" || fail "not the variables of the second instant"
"$restore" "$T/tue" --verify --quiet
mv "$T/tue/nvram.fd" "$T/away"
assert_fails_with "nvram.fd: is missing" "$restore" "$T/tue" --verify
mv "$T/away" "$T/tue/nvram.fd"
printf x | dd of="$T/mon/nvram.fd" conv=notrunc status=none
assert_fails_with "nvram.fd: FAILED" "$restore" "$T/tue" --verify

# What cannot be copied is named, in the manifest and by who restores it.
mkdir "$points/wed"
echo 0 >"$points/wed/hold"
mv "$T/web1_VARS.fd" "$T/away"
export_point "$points/wed" "ExportDirectory=$T/wed"
assert_says "No such file" nvram_why "$T/wed/export.ini"
[ ! -e "$T/wed/nvram.fd" ] || fail "an NVRAM from nowhere"
mv "$T/away" "$T/web1_VARS.fd"

pid=$(pid_of_guest web1)
hmp web1 quit >/dev/null 2>&1 || true
wait_for 10 process_is_gone "$pid"
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
export_point "$MNT/vms/web1" "ExportDirectory=$T/off"
has_variables B "$T/off/nvram.fd" || fail "not the variables of the VM that is off"
nothing_in_scratch || fail "left: $(find "$T/scratch")"

# A hold that ends with its guest takes the copy with it.
unmount_rp
guests_start_again
mount_rp
ready web1
mkdir "$points/thu"
[ -n "$(find "$T/scratch" -name nvram)" ] || fail "no copy is held"
guest_kill web1
wait_for 10 nothing_in_scratch
unmount_rp

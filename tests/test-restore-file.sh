#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# refpoint-restore writes any disk of any export of a chain to a flat file, replaces nothing that it
# was not told to, and leaves nothing behind when it fails or is interrupted.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img sha256sum
restore=$TESTS/../scripts/refpoint-restore

guest_new web1 --disks 2
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 --disk 1 0xaa 8M 4M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
guest_write web1 --disk 1 0xbb 8M 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
guest_write web1 --disk 1 zero 9M 1M
mkdir "$points/wed"
export_point "$points/wed" "ExportDirectory=$T/wed" BaseReferencePoint=tue DisksToExport=vdb

# A chain of three, in both formats.
flat=$T/flat
mkdir "$flat"
"$restore" "$T/wed" "$flat/wed.qcow2" >/dev/null
"$restore" "$T/wed" "$flat/wed.img" --verify >/dev/null
"$restore" "$T/tue" --disk vdb --format raw "$flat/tue" >/dev/null
for image in "$flat/wed.qcow2" "$flat/wed.img"; do
    assert_same "$image" "$T/wed/vdb.qcow2"
    assert_reads 0xbb 8M 1M "$image"
    assert_reads 0 9M 1M "$image"
    assert_reads 0xaa 10M 2M "$image"
    assert_equal 600 "$(stat -c %a "$image")" "mode of $image"
done
assert_reads 0xaa 9M 1M "$flat/tue"
if qemu-img info "$flat/wed.qcow2" | grep -q backing; then
    fail "the restored disk is not flat"
fi
assert_equal "file format: raw" "$(qemu-img info -f raw "$flat/tue" | grep '^file format')"
"$restore" "$T/tue" --disk vda "$flat/vda.raw" --quiet >"$T/said"
assert_equal "" "$(cat "$T/said")" "what --quiet says"
assert_equal "$(counter_of "$T/tue/vda.qcow2")" "$(counter_of "$flat/vda.raw")" "counter"

# What cannot be meant is refused, and says what to do.
before=$(ls -A "$flat")
assert_fails_with "one of: vda vdb" "$restore" "$T/tue" "$flat/new.raw"
assert_fails_with "no disk 'vdc', but: vda vdb" "$restore" "$T/tue" --disk vdc "$flat/new.raw"
assert_fails_with "says no format" "$restore" "$T/wed" "$flat/new"
assert_fails_with "--format is" "$restore" "$T/wed" --format vmdk "$flat/new.raw"
assert_fails_with "is no directory" "$restore" "$T/none" "$flat/new.raw"
assert_fails_with "is an export itself" "$restore" "$T/wed" "$T/mon/new.raw"
assert_fails_with "TARGET_FILE is missing" "$restore" "$T/wed"
assert_fails_with "unknown option --ferox" "$restore" "$T/wed" --ferox "$flat/new.raw"
status=0
"$restore" "$T/wed" 2>/dev/null || status=$?
assert_equal 2 $status "exit status of wrong usage"

# Files that exist: not without --force, and then also through a link.
assert_fails_with "say --force" "$restore" "$T/tue" --disk vdb "$flat/wed.img"
assert_same "$flat/wed.img" "$T/wed/vdb.qcow2"
ln -s wed.img "$flat/link.img"
"$restore" "$T/tue" --disk vdb "$flat/link.img" --force >/dev/null
[ -L "$flat/link.img" ] || fail "the link was replaced, and not what it points to"
assert_same "$flat/wed.img" "$T/tue/vdb.qcow2"
rm "$flat/link.img"

# From here on qemu-img convert does as the test wants; the rest of it is as it is.
mkdir "$T/bin"
cat >"$T/bin/qemu-img" <<EOF
#!/bin/sh
[ "\$1" = convert ] || exec $(command -v qemu-img) "\$@"
for last; do :; done
echo part >"\$last"
[ ! -e "$T/fails" ] || exit 1
echo \$\$ >"$T/convert.pid"
exec sleep 1000
EOF
chmod +x "$T/bin/qemu-img"
touch "$T/fails"
status=0
PATH=$T/bin:$PATH "$restore" "$T/wed" "$flat/new.raw" 2>/dev/null || status=$?
assert_equal 3 $status "exit status when qemu-img fails"
rm "$T/fails"
PATH=$T/bin:$PATH "$restore" "$T/wed" "$flat/wed.img" --force 2>/dev/null &
interrupted=$!
wait_for 20 test -s "$T/convert.pid"
kill -TERM $interrupted
status=0
wait $interrupted || status=$?
assert_equal 143 $status "exit status when interrupted"
wait_for 5 process_is_gone "$(cat "$T/convert.pid")"
assert_equal "$before" "$(ls -A "$flat")" "files that are left"
assert_same "$flat/wed.img" "$T/tue/vdb.qcow2"

# A reference point that could not be exported as it was.
mkdir "$points/thu"
echo 0 >"$points/thu/hold"
wait_for 10 is_bare "$points/thu"
guest_write web1 --disk 1 0xcc 8M 1M
export_point "$points/thu" "ExportDirectory=$T/thu" BaseReferencePoint=wed DisksToExport=vdb
assert_shows exact no "$points/thu/job/status"
"$restore" "$T/thu" "$flat/thu.raw" 2>"$T/warning" >/dev/null
moment=$(status_value moment "$points/thu/job/status")
grep -q "not the instant of reference point 'thu'.*the VM of $moment" "$T/warning" ||
    fail "no warning of what it is: $(cat "$T/warning")"
assert_reads 0xcc 8M 1M "$flat/thu.raw"
unmount_rp

# A block device, where the test may have one. One that is not in use is written.
if ! device=$(losetup --find --show "$flat/vda.raw" 2>/dev/null); then
    echo "no loop devices here: restoring to a block device was not tried" >&2
    exit 0
fi
cleanup_fn losetup -d "$device"
assert_fails_with "say --force" "$restore" "$T/wed" "$device"
assert_fails_with "written as raw" "$restore" "$T/wed" --format qcow2 "$device" --force
"$restore" "$T/wed" "$device" --force >/dev/null
assert_same "$device" "$T/wed/vdb.qcow2"
truncate -s 1M "$T/small.raw"
small=$(losetup --find --show "$T/small.raw")
cleanup_fn losetup -d "$small"
assert_fails_with "smaller than the disk" "$restore" "$T/wed" "$small" --force

# Not under a file system that is in use.
truncate -s 64M "$T/mounted.raw"
device=$(losetup --find --show "$T/mounted.raw")
cleanup_fn losetup -d "$device"
mkdir "$T/folder"
if mkfs.ext4 -q "$device" && mount "$device" "$T/folder"; then
    cleanup_fn umount "$T/folder"
    assert_fails_with "is in use" "$restore" "$T/wed" "$device" --force
fi

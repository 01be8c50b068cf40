#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# refpoint-export marks a running VM and exports that instant: in full, since a base, and since the
# latest one that can be a base. What fails or is cancelled leaves neither a file nor a reference
# point.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io dash busybox
export_script=$TESTS/../scripts/refpoint-export
restore=$TESTS/../scripts/refpoint-restore

guest_new web1 --disks 2
mount_rp
ready web1
export REFPOINTFS_MOUNT=$MNT
points=$MNT/vms/web1/refpoints
live=$T/web1-vda.qcow2
mkdir "$T/b"

# made_of BASE EXPORT: it is a delta since BASE.
made_of()
{
    grep -qx "base=$1" "$T/b/$2/export.ini" || fail "base of $2: $(cat "$T/b/$2/export.ini")"
    grep -qx "backing=../$1/vdb.qcow2" "$T/b/$2/export.ini" || fail "$2 is not based on $1"
}

# Nothing yet to be the latest: in full, and that is said.
guest_write web1 --disk 1 0x11 8M 2M
dash "$export_script" web1 --base latest "$T/b/mon" >"$T/said"
grep -q "no reference point that can be the base" "$T/said" || fail "it says: $(cat "$T/said")"
grep -q "^$T/b/mon: web1 as of .*, full, " "$T/said" || fail "it says: $(cat "$T/said")"
[ -d "$points/mon" ] || fail "no reference point mon"
guest_write web1 --disk 1 0x22 9M 2M

# The latest, and one by name.
min=$(counter_bound "$live")
busybox sh "$export_script" web1 --base latest "$T/b/tue" >"$T/said"
counter_of "$T/b/tue/vda.qcow2" "$min" "$(counter_bound "$live")" >/dev/null ||
    fail "tue does not show the instant at which it was marked"
grep -q "^$T/b/tue: web1 as of .*, since mon, " "$T/said" || fail "it says: $(cat "$T/said")"
made_of mon tue
guest_write web1 --disk 1 0x33 10M 2M
(cd "$T/b" && dash "$export_script" web1 --name wed --base mon --set Compression=zstd wed >/dev/null)
made_of mon wed
busybox sh "$export_script" web1 --base latest "$T/b/thu" >/dev/null
made_of wed thu
for name in tue wed thu; do
    "$restore" "$T/b/$name" --verify --quiet
done
assert_reads 0x11 8M 1M "$T/b/thu/vdb.qcow2"
assert_reads 0x22 9M 1M "$T/b/thu/vdb.qcow2"
assert_reads 0x33 10M 2M "$T/b/thu/vdb.qcow2"

# An export that is not there any more, or another's in its place, is no base.
rm "$T/b/thu/export.ini"
sed 's/^reference_point=.*/reference_point=other/' "$T/b/wed/export.ini" >"$T/b/thu/export.ini"
dash "$export_script" web1 --base latest "$T/b/fri" --quiet
made_of wed fri

# Refused, failed and cancelled: as if it had never been.
before=$(ls "$points" "$T/b")
for shell in dash "busybox sh"; do
    assert_fails_with "has no reference point 'none-such'" \
        $shell "$export_script" web1 --base none-such "$T/b/sat"
    assert_fails_with "already holds an export" $shell "$export_script" web1 "$T/b/fri" --name sat
    assert_fails_with "reference point 'mon' exists" $shell "$export_script" web1 "$T/b/sat" --name mon
    for signal in INT TERM; do
        status=0
        rm -f "$T/said" # what the one before said is no sign of this one
        # A shell in the background would ignore SIGINT.
        python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' $shell "$export_script" web1 "$T/b/sat" \
            --set Bandwidth=1M --plain >"$T/said" 2>&1 &
        wait_for 10 grep -q % "$T/said"
        kill -$signal $!
        wait $! || status=$?
        case $signal in
        INT) assert_equal 130 $status "exit status" ;;
        TERM) assert_equal 143 $status "exit status" ;;
        esac
        grep -q "web1: the export was cancelled; nothing is left" "$T/said" || fail "$(cat "$T/said")"
    done
done
assert_equal "$before" "$(ls "$points" "$T/b")" "reference points and exports"

# After a crash the bitmaps are broken: that is no base either.
guest_kill web1
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
unmount_rp
guests_start_again
mount_rp
ready web1
all_are_broken()
{
    [ -z "$(grep -L vda.health=broken "$points"/*/info)" ]
}
wait_for 10 all_are_broken
dash "$export_script" web1 --base latest "$T/b/sun" >"$T/said"
grep -q "exporting in full" "$T/said" || fail "it says: $(cat "$T/said")"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# refpoint-nightly, night after night: chains of the length asked for, the newest exports kept with
# all that they or others are based on, one reference point of its own left in the VM; and each
# export that is left shows its night, as refpoint-restore --verify and the data prove.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io dash busybox flock
nightly=$TESTS/../scripts/refpoint-nightly
restore=$TESTS/../scripts/refpoint-restore

guest_new web1 --disks 2
mount_rp
ready web1
export REFPOINTFS_MOUNT=$MNT
points=$MNT/vms/web1/refpoints
backup="$T/the backup"
mkdir "$backup" "$T/elsewhere"

# night N [OPTION...]: N is what the guest has written to its second disk before.
declare -A names=()
night()
{
    local n=$1 shell=dash
    shift
    guest_write web1 --disk 1 "$n" "${n}M" 1M
    [ $((n % 2)) -eq 0 ] || shell="busybox sh"
    # shellcheck disable=SC2086
    $shell "$nightly" web1 "$backup" --quiet --full-every 3 --keep 3 "$@" >"$T/said" 2>&1 ||
        fail "night $n: $(cat "$T/said")"
    assert_equal "" "$(cat "$T/said")" "what --quiet says"
    names[$n]=$(cd "$backup" && printf '%s\n' nightly-* | tail -n 1)
}

# nights N...: exactly those exports are there, and each shows what had been written by then.
nights()
{
    local n found=
    for n; do
        found+="${names[$n]} "
        "$restore" "$backup/${names[$n]}" --verify --quiet || fail "night $n is damaged"
        assert_reads "$n" "${n}M" 1M "$backup/${names[$n]}/vdb.qcow2"
        assert_reads 0 "$((n + 1))M" 1M "$backup/${names[$n]}/vdb.qcow2"
        assert_reads 1 1M 1M "$backup/${names[$n]}/vdb.qcow2"
    done
    assert_equal "$found" "$(cd "$backup" && printf '%s ' nightly-*)" "exports"
}

base_of()
{
    status_value base "$backup/${names[$1]}/export.ini"
}

night 1
assert_equal "" "$(base_of 1)" "base of night 1"
night 2 --verify
night 3
assert_equal "${names[1]}" "$(base_of 2)" "base of night 2"
assert_equal "${names[2]}" "$(base_of 3)" "base of night 3"
nights 1 2 3
assert_equal "${names[3]}" "$(ls "$points")" "reference points"

# A new chain. The old one goes with the last export that is kept of it, and not before.
night 4
assert_equal "" "$(base_of 4)" "base of night 4"
nights 1 2 3 4
night 5
nights 1 2 3 4 5
night 6 --set Compression=zstd
nights 4 5 6
grep -q "base=${names[5]}" "$backup/${names[6]}/export.ini" || fail "night 6 is not based on 5"
assert_equal "${names[6]}" "$(ls "$points")" "reference points"

# Others' exports and reference points: they stay, with what they are based on.
"$TESTS/../scripts/refpoint-export" web1 --base "${names[6]}" "$T/elsewhere/mine" --quiet
"$TESTS/../scripts/refpoint-export" web1 --base mine "$backup/monthly" --quiet
mkdir "$backup/nightly-20200101T000000Z" "$backup/notes"
for n in 7 8 9; do
    night $n
done
nights_of_ours()
{
    rmdir "$backup/nightly-20200101T000000Z"
    nights "$@"
}
nights_of_ours 4 5 6 7 8 9
"$restore" "$backup/monthly" --verify --quiet
assert_equal "mine monthly ${names[9]}" "$(ls "$points" | tr '\n' ' ' | sed 's/ $//')" "points"
[ -d "$backup/notes" ] || fail "it removed what is not its own"

# When those are gone, so is the reason.
rmdir "$points/mine" "$points/monthly"
rm -r "$backup/monthly"
night 10
nights 7 8 9 10
unmount_rp

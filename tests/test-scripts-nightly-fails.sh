#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What refpoint-nightly does when things go wrong: nothing is removed by a night that fails, is
# ended, or finds another one at work; what a killed night leaves is used or removed by the next;
# and where a base is lost or damaged, the next export is a full one.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io dash busybox flock
nightly=$TESTS/../scripts/refpoint-nightly
restore=$TESTS/../scripts/refpoint-restore

guest_new web1
mount_rp
ready web1
export REFPOINTFS_MOUNT=$MNT
vm=$MNT/vms/web1
points=$vm/refpoints
backup=$T/backup
mkdir "$backup"

# night STATUS [OPTION...]: it ends with that status; what it says is in T/said.
shell=dash
night()
{
    local wanted=$1 status=0
    shift
    $shell "$nightly" web1 "$backup" --keep 1 "$@" >"$T/said" 2>&1 || status=$?
    assert_equal "$wanted" $status "exit status of the night that said: $(cat "$T/said")"
}

# newest: the newest folder of its own.
newest()
{
    (cd "$backup" && printf '%s\n' nightly-* | tail -n 1)
}

says()
{
    grep -qF -- "$*" "$T/said" || fail "'$*' is not in: $(cat "$T/said")"
}

is_full()
{
    grep -qx base= "$backup/$(newest)/export.ini" || fail "$(newest) is no full export"
}

everything()
{
    ls -ld --full-time "$backup"/nightly-*/*
    ls "$points"
}

night 2 --keep 0
night 2 --full-every x
night 2 "$T/too many"
assert_fails_with "is no directory" dash "$nightly" web1 "$T/missing"
night 3 --mount "$T"
night 0
for shell in dash "busybox sh"; do
    night 0
    night 0 --full-every 1
    is_full
    assert_equal "$(newest)" "$(ls "$backup")" "exports with --keep 1"
    before=$(everything)

    # It fails, or is ended.
    night 1 --set Foo=1
    says "unknown key 'Foo'"
    says "nothing was removed"
    night 1 --set Bandwidth=1M --set Timeout=1
    says "(32772 timeout)"
    for signal in INT TERM; do
        status=0
        python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' $shell "$nightly" web1 "$backup" --full-every 1 \
            --set Bandwidth=1M >"$T/said" 2>&1 &
        wait_for 10 shows state running "$vm/job/status"
        kill -$signal $!
        wait $! || status=$?
        case $signal in
        INT) assert_equal 130 $status "exit status" ;;
        TERM) assert_equal 143 $status "exit status" ;;
        esac
        assert_shows state terminated "$vm/job/status"
    done
    assert_equal "$before" "$(everything)" "all that was there before nights that failed"

    # Two at once; then both processes are killed, and the service goes on with the job.
    $shell "$nightly" web1 "$backup" --full-every 1 --set Bandwidth=8M >"$T/killed" 2>&1 &
    first=$!
    wait_for 10 shows state running "$vm/job/status"
    night 3
    says "another refpoint-nightly is at work"
    child=$(pgrep -P $first -f refpoint-export)
    kill -KILL $first "$child"
    wait_for 10 process_is_gone "$child"
    wait $first 2>/dev/null || true
    # The lock goes with the last process of theirs.
    wait_for 10 flock -n "$backup/.nightly.lock" true
    night 1
    says "is running"
    assert_equal 0 "$(cat "$vm/job/wait")" "result of the job"
    killed=$(newest)
    night 0
    grep -qx "base=$killed" "$backup/$(newest)/export.ini" ||
        fail "what the service had finished is not the base: $(cat "$T/said")"
    "$restore" "$backup/$(newest)" --verify --quiet

    # Rests of its own go, with their reference points; those of others stay.
    night 0 --full-every 1
    for name in nightly-20200102T000000Z nightly-20200103T000000Z; do
        mkdir "$backup/$name"
        echo rest >"$backup/$name/vda.qcow2"
        mkdir "$points/$name"
        echo 0 >"$points/$name/hold"
    done
    echo nightly-20200102T000000Z >>"$backup/.nightly"
    night 0 --full-every 1
    says "removed $backup/nightly-20200102T000000Z, which was incomplete"
    assert_equal "nightly-20200103T000000Z $(newest) " "$(ls "$points" | tr '\n' ' ')" "points"
    assert_equal "nightly-20200103T000000Z $(newest) " "$(ls "$backup" | tr '\n' ' ')" "exports"
    rm -r "$backup/nightly-20200103T000000Z"
    rmdir "$points/nightly-20200103T000000Z"

    # Without its reference point, and without a file of its base.
    rmdir "$points/$(newest)"
    night 0
    says "no reference point"
    is_full
    night 0
    ! grep -qx base= "$backup/$(newest)/export.ini" || fail "no delta"
    rm "$backup/$(status_value base "$backup/$(newest)/export.ini")/vda.qcow2"
    night 0
    says "is incomplete"
    is_full

    # A damaged base is found by --verify: the chain is not continued, and nothing is removed.
    base=$(newest)
    printf X | dd of="$backup/$base/vda.qcow2" bs=1 seek=200000 conv=notrunc status=none
    night 1 --verify
    says "vda.qcow2: FAILED"
    [ -e "$backup/$base/export.ini" ] || fail "the night that found the damage removed the base"
    night 0 --verify
    says "was damaged: exporting in full"
    is_full
    night 0 --verify
    ! grep -qx base= "$backup/$(newest)/export.ini" || fail "no delta again"
done
unmount_rp
night 3

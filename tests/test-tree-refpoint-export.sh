#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# refpoint-export, under each plain shell: it finds the mount, ends with the status that it promises,
# says the service's own sentence when that refuses or fails, shows progress as asked, and a Ctrl-C
# on its terminal cancels the job.
. "$(dirname "$0")/tree.sh"
requires dash busybox script
export_script=$TESTS/../scripts/refpoint-export
# The kernel lists the blank in another way. Other tests mount VMs of few numbers.
MNT="$T/a mount"
mkdir "$MNT"
mount_fake job_ms=100 vms=613
vm=$MNT/vms/vm1

# run ARGUMENT...: the script with the shell of this round; what it says is in T/out and T/err.
run()
{
    status=0
    # shellcheck disable=SC2086
    $shell "$export_script" "$@" >"$T/out" 2>"$T/err" || status=$?
}

# says STATUS SENTENCE ARGUMENT...: that must be how it ends, with this on standard error alone.
says()
{
    local wanted=$1 sentence=$2
    shift 2
    run "$@"
    assert_equal "$wanted" $status "exit status of: $* ($(cat "$T/err"))"
    grep -qF -- "$sentence" "$T/err" || fail "'$sentence' is not in: $(cat "$T/err")"
    [ ! -s "$T/out" ] || fail "$* said on standard output: $(cat "$T/out")"
}

# on_terminal ARGUMENT...: the same on a terminal that reads from T/keys.
on_terminal()
{
    script -qfec "$shell $export_script $*" "$T/typescript" <"$T/keys" >/dev/null
}

count=0
for shell in dash "busybox sh"; do
    round=$((count += 1))

    # The mount: by its VM, unless a test that runs at the same time has such a VM too.
    run vm613 "/exports/f$round"
    if [ $status -eq 2 ]; then
        grep "several mounts have a VM 'vm613'" "$T/err" | grep -qF " $MNT " || fail "$(cat "$T/err")"
    else
        assert_equal 0 $status "exit status without --mount, with $(cat "$T/err"),"
        assert_shows export_directory "/exports/f$round" "$MNT/vms/vm613/job/status"
    fi

    # As an option, or from the environment.
    run vm1 "/exports/a$round" --mount "$MNT"
    assert_equal 0 $status "exit status, with $(cat "$T/err"),"
    grep -qx "/exports/a$round: vm1 as of 20..-.*Z, full, [0-9]* bytes in less than 1 s" "$T/out" ||
        fail "it says: $(cat "$T/out")"
    assert_equal "" "$(cat "$T/err")" "standard error"
    assert_shows export_directory "/exports/a$round" "$vm/job/status"
    grep -qx "ReferencePoint=a$round" "$vm/job/settings" || fail "$(cat "$vm/job/settings")"
    says 3 "$T is no mount of refpointfs" vm1 /exports/x --mount "$T"
    export REFPOINTFS_MOUNT=$MNT
    says 3 "$MNT has no VM 'vm999'" vm999 /exports/x

    # The settings are those asked for; a relative directory is one of the caller.
    (cd "$T" && run vm1 "b c$round//" --name "n$round" --base r1 --set Checksum=none \
        --set DisksToExport=vda --quiet && exit $status)
    assert_equal "" "$(cat "$T/out" "$T/err")" "what --quiet says"
    for line in "ExportDirectory=$T/b c$round" "ReferencePoint=n$round" BaseReferencePoint=r1 \
        Checksum=none DisksToExport=vda; do
        grep -qxF "$line" "$vm/job/settings" || fail "no $line in: $(cat "$vm/job/settings")"
    done

    # Refused, and failed: with the service's sentence.
    says 1 "vm1 is not exported: unknown key 'Foo'" vm1 /exports/x --set Foo=1
    says 1 "vm1 is not exported: " vm1 /exports/refuse-32774
    says 1 "vm1 is not exported: " vm1 /exports/late-32775
    says 1 "(32772 timeout)" vm1 "/exports/result-32772/$round"

    # Wrong usage.
    says 2 "DIRECTORY is missing" vm1
    says 2 "too many arguments" vm1 /a /b
    says 2 "unknown option --foo" vm1 /a --foo
    says 2 "--name needs a value" vm1 /a --name
    says 2 "--set needs KEY=VALUE" vm1 /a --set Foo
    says 2 "has several lines" vm1 /a --set $'Foo=1\nBar=2'
    says 2 "no name of a VM" ../vm1 /a
    says 2 "say --name" vm1 /
    run --help
    assert_equal 0 $status "exit status of --help"
    grep -q '^refpoint-export: marks' "$T/out" || fail "no help: $(cat "$T/out")"

    # Lines, of which none comes twice.
    run vm1 "/exports/ms-1500/p$round" --plain
    [ "$(grep -c "^vm1 p$round: .*%" "$T/out")" -ge 3 ] || fail "--plain: $(cat "$T/out")"
    assert_equal "" "$(uniq -d "$T/out")" "lines shown twice"

    # A bar, and Ctrl-C on its terminal.
    rm -f "$T/keys" && mkfifo "$T/keys"
    on_terminal vm1 "/exports/ms-60000/t$round" &
    terminal=$!
    exec 8>"$T/keys"
    wait_for 10 grep -qs "vm1 t$round: \[[#-]*\] *[0-9]*%" "$T/typescript"
    printf '\003' >&8
    status=0
    wait $terminal || status=$?
    exec 8>&-
    assert_equal 130 $status "exit status after Ctrl-C"
    grep -q "vm1: the export was cancelled" "$T/typescript" || fail "$(cat "$T/typescript")"
    assert_shows state terminated "$vm/job/status"

    # Somebody else's cancel is none of ours.
    $shell "$export_script" vm1 "/exports/ms-60000/o$round" >"$T/out" 2>"$T/err" &
    wait_for 10 shows export_directory "/exports/ms-60000/o$round" "$vm/job/status"
    says 1 "vm1 is not exported: " vm1 /exports/meanwhile
    echo 1 >"$vm/job/cancel"
    status=0
    wait $! || status=$?
    assert_equal 1 $status "exit status after somebody else's cancel"
    grep -q "cancelled by somebody else" "$T/err" || fail "it says: $(cat "$T/err")"
    unset REFPOINTFS_MOUNT
done
says 3 "there is no VM 'vm998' in: " vm998 /exports/x
unmount_rp

says 3 "does not answer" vm1 /exports/x --mount "$MNT"

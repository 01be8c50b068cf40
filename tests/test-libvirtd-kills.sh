#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The service is killed at random moments of making, exporting, deleting and letting go of reference
# points: half of them from outside, half at a call that it makes. No export.ini ever stands beside
# incomplete data, nothing is left behind, libvirt has no job without a hold, the VM runs on, and
# the next export succeeds. KILLS=N: so many rounds; SEED=N: those of an earlier run.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source=tests/libvirtd.sh
. "$TESTS/libvirtd.sh"
libvirtd_start

seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "SEED=$seed"
shim=$(built libkill-shim.so)
printf '\0\0\0\0\0\0\0\0' >"$T/countdown"

mount_with_shim()
{
    # A sanitizer wants to be the first library; that it is not does no harm here.
    KILL_SHIM=$T/countdown LD_PRELOAD=$shim \
        ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 mount_rp "$LIBVIRTD_URI"
    ready web1
}

# arm N: dies at the Nth moment from now on.
arm()
{
    python3 -c 'import sys; sys.stdout.buffer.write(int(sys.argv[1]).to_bytes(8, "little"))' "$1" |
        dd of="$T/countdown" conv=notrunc status=none
}

# moments_left: those that have not come since arm.
moments_left()
{
    python3 -c 'import sys; print(int.from_bytes(open(sys.argv[1], "rb").read(8), "little"))' "$T/countdown"
}

# ---- what is interrupted: prepare it, then do it ----

vm=$MNT/vms/web1
points=$vm/refpoints

prepare()
{
    case $1 in
    export | delete | release) mkdir "$points/$2" ;;
    esac
}

act()
{
    case $1 in
    create) mkdir "$points/$2" ;;
    export)
        printf '%s\n' "ExportDirectory=$T/out/$2" "BaseReferencePoint=base" >"$points/$2/export" &&
            cat "$points/$2/job/wait"
        ;;
    machine)
        printf '%s\n' "ExportDirectory=$T/out/$2" "ReferencePoint=$2" >"$vm/export" &&
            cat "$vm/job/wait"
        ;;
    delete) rmdir "$points/$2" ;;
    release) echo 0 >"$points/$2/hold" ;;
    esac
}

# ---- what must be true afterwards ----

# Before anything has been cleaned up: whatever calls itself an export is one.
exports_are_whole()
{
    local manifest folder
    for manifest in "$T"/out/*/export.ini; do
        [ -e "$manifest" ] || continue
        folder=${manifest%/*}
        (cd "$folder" && sha256sum --quiet -c SHA256SUMS) || fail "$folder: wrong checksums"
        [ -e "$folder/domain.xml" ] || fail "$folder has no domain.xml"
        images_check "$folder"
        counter_of "$folder/vda.qcow2" >/dev/null || fail "$folder shows no instant"
    done
}

nothing_but_exports()
{
    local folder
    for folder in "$T"/out/*; do
        [ ! -e "$folder" ] || [ -e "$folder/export.ini" ] || return 1
        [ -z "$(find "$folder" -name '.*.part' 2>/dev/null)" ] || return 1
    done
}

jobs_and_holds_agree()
{
    local held
    held=$(status_value held "$vm/info")
    if virsh_ backup-dumpxml web1 >/dev/null 2>&1; then
        [ -n "$held" ]
    else
        [ -z "$held" ] && [ -z "$(find "$T/scratch" "$T/run" -type f -o -type s)" ] &&
            nothing_left "$T/state/holds"
    fi
}

no_job_runs()
{
    ! grep -qsE 'new|starting|running' "$MNT"/jobs/*/state
}

made_or_refused()
{
    [ -d "$points/$1" ] || [ -n "$(status_value last_refusal "$vm/info")" ]
}

# The next export: of what is held, or of a new point.
export_next()
{
    local point
    point=$(status_value held "$vm/info")
    if [ -z "$point" ]; then
        point=next$1
        printf '%s\n' "Name=$point" BaseReferencePoint=base >"$vm/create" ||
            fail "refused after a kill: $(status_value last_refusal "$vm/info")"
        # It is made after the shell's own printf, which does not hear of a refusal, is done.
        wait_for 30 made_or_refused "$point"
        [ -d "$points/$point" ] || fail "refused late: $(status_value last_refusal "$vm/info")"
    fi
    export_point "$points/$point" "ExportDirectory=$T/next" BaseReferencePoint=base
    assert_shows exact yes "$points/$point/job/status"
    counter_of "$T/next/vda.qcow2" >/dev/null
    rm -rf "$T/next"
}

remove_points()
{
    local point
    for point in "$points"/*; do
        case $point in
        */base) ;;
        *) rmdir "$point" ;;
        esac
    done
    rm -rf "$T/out"
    mkdir "$T/out"
}

# ---- rounds ----

declare -A moments

# How many moments each of them has, and that all are well without a kill.
measure()
{
    local what
    for what in create export machine delete release; do
        prepare "$what" "m-$what"
        arm 1000000
        act "$what" "m-$what" >/dev/null
        moments[$what]=$((1000000 - $(moments_left)))
        arm 0
        [ "${moments[$what]}" -ge 4 ] || fail "the shim sees ${moments[$what]} calls of $what"
        remove_points
    done
    for what in "${!moments[@]}"; do
        echo "$what: ${moments[$what]} moments"
    done
}

kill_inside()
{
    arm $((1 + RANDOM % moments[$1]))
    timeout 30 bash -c "$(declare -f act); points=$points vm=$vm T=$T act $1 $2" &>/dev/null || true
}

kill_outside()
{
    bash -c "$(declare -f act); points=$points vm=$vm T=$T act $1 $2" &>/dev/null &
    local doing=$!
    # From 0 to 0.4 s later: nothing here takes much longer.
    sleep "0.$(printf '%03d' $((RANDOM % 400)))"
    kill -KILL "$mount_pid"
    wait "$doing" || true
}

round()
{
    local number=$1 kinds=(create export machine delete release) what name how
    what=${kinds[RANDOM % 5]}
    how=$([ $((number % 2)) = 0 ] && echo inside || echo outside)
    name=p$number
    echo "$number: $what, $how"
    prepare "$what" "$name"
    "kill_$how" "$what" "$name"
    kill_rp
    arm 0
    exports_are_whole
    mount_with_shim
    wait_for 10 test -d "$points/base"
    wait_for 50 jobs_and_holds_agree
    wait_for 10 nothing_but_exports
    no_job_runs || fail "a job runs on: $(grep -H . "$MNT"/jobs/*/state)"
    assert_equal running "$(virsh_ domstate web1)" "state of the VM"
    exports_are_whole
    export_next "$number"
    remove_points
}

virsh_guest web1
virsh_ start web1 >/dev/null
mkdir "$T/out"
mount_with_shim
mkdir "$points/base"
export_point "$points/base" "ExportDirectory=$T/base"
measure
for ((number = 1; number <= ${KILLS:-20}; number++)); do
    round "$number"
done
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Whichever program writes settings, as users call it: a good text starts exactly one job, with just
# these settings; a bad one starts none, is kept in the status, and the user is told.
#
#     test-tree-clients.sh [FAMILY...]      default: all (clients.sh has them)
#
# Prints how many of the programs do; those that are known not to are no failure.

# As somebody whom the kernel asks for his rights, where that can be.
unprivileged=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if [ "$(id -u)" = 0 ] && [ -u "$(command -v fusermount3)" ] &&
    "${unprivileged[@]}" test -r "$0" -a -x "${BUILD_DIR:-.}" 2>/dev/null; then
    exec "${unprivileged[@]}" "$0" "$@"
fi
# shellcheck source=tests/tree.sh
. "$(dirname "$0")/tree.sh"
# shellcheck source=tests/clients.sh
. "$(dirname "$0")/clients.sh"

export F=$T/text E=$POINT/export W=$T/work HOME=$T TMPDIR=$T TERM=xterm
export CLIENTS_TERMINAL=$TESTS/terminal.sh TEMPLATE
families=("${@:-${client_families[@]}}")
jobs=0 total=0 good=0 visible=0 wrong=()

has_programs()
{
    command -v "${client_program[$1]}" >/dev/null &&
        { [ "${client_family[$1]}" != terminal ] || command -v tmux >/dev/null; }
}

# run_client NAME: its output is in T/output.
run_client()
{
    local script=${client_script[$1]} interpreter=${client_interpreter[$1]}
    local option=-c
    rm -rf "$W"
    mkdir "$W"
    [ "$interpreter" != python3 ] ||
        script=$(printf '%s\n' 'import os' 'E, F, W = (os.environ[v] for v in "EFW")' "$script")
    [ "${client_family[$1]}" != terminal ] || script=". \"\$CLIENTS_TERMINAL\"; $script"
    timeout 30 "$interpreter" "$option" "$script" >"$T/output" 2>&1 </dev/null
}

tells_of_an_error()
{
    grep -qiE 'error|invalid|cannot|unable|denied|fail' "$T/output"
}

job_exists()
{
    [ -e "$MNT/jobs/$1/settings" ]
}

# within_a_second COMMAND ARG...: false when it does not succeed.
within_a_second()
{
    local tries
    for ((tries = 0; tries < 20; tries++)); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}

# note NAME WHAT: the program does not do what it should.
note()
{
    case ${client_exceptions[$1]} in
    *" $2 "*) echo "$1: $2, as is known" ;;
    *) wrong+=("$1: $2; it said: $(cat "$T/output")") ;;
    esac
}

expected()
{
    printf '%s\n' "ExportDirectory=/x/$1" DisksToExport=vda Format=qcow2 Compression=none \
        Checksum=sha256 IfBaseLost=fail RequireExact=no Timeout=0 KeepHold=no
}

try_good()
{
    local status=0
    printf '%s\n' "# $1" "ExportDirectory=/x/$1" DisksToExport=vda >"$F"
    run_client "$1" || status=$?
    # Some leave a child behind that has the file open.
    if ! within_a_second job_exists $((jobs + 1)); then
        note "$1" loses
        return 0
    fi
    jobs=$((jobs + 1))
    cat "$POINT/job/wait" >/dev/null
    if [ $status -ne 0 ] || tells_of_an_error; then
        note "$1" "complains of a good text ($status)"
    elif ! diff <(expected "$1") "$MNT/jobs/$jobs/settings" >>"$T/output"; then
        note "$1" "writes another text"
    elif job_exists $((jobs + 1)); then
        note "$1" "writes twice"
    else
        good=$((good + 1))
    fi
}

try_bad()
{
    local status=0
    printf '%s\n' "ExportDirectory=/x/$1" "Nonsense-$1=1" >"$F"
    run_client "$1" || status=$?
    if [ $status -ne 0 ] || tells_of_an_error; then
        visible=$((visible + 1))
    else
        note "$1" silent
    fi
    # A program that loses its text has written none.
    within_a_second remembers_refusal "$1" || note "$1" loses
}

remembers_refusal()
{
    grep -q "^last_refusal=32773 .*Nonsense-$1" "$STATUS"
}

mount_fake
for name in "${client_names[@]}"; do
    [[ " ${families[*]} " = *" ${client_family[$name]} "* ]] || continue
    if ! has_programs "$name"; then
        echo "$name is not installed"
        continue
    fi
    total=$((total + 1))
    try_good "$name"
    try_bad "$name"
    # Nothing of the bad text, nor of what editors bring back after it.
    if job_exists $((jobs + 1)); then
        wrong+=("$name: starts a job with a bad text; it said: $(cat "$T/output")")
        jobs=$((jobs + 1))
    fi
done
echo "$total programs: a good text arrives from $good, a bad one is seen by the users of $visible"
[ $total -gt 0 ] || skip "none of the programs is installed"
[ ${#wrong[@]} -eq 0 ] || fail "$(printf '%s\n' "${wrong[@]}")"
unmount_rp

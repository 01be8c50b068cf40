#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Help and version succeed; a wrong command line ends with 2, what cannot be mounted with 1, both
# with the sentence that says why, and nothing stays mounted.
. "$(dirname "$0")/tree.sh"

"$REFPOINTFS" --help >"$T/out"
grep -q '^usage: refpointfs ' "$T/out" || fail "no usage in --help"
"$REFPOINTFS" --version >"$T/out"
grep -qE '^refpointfs [0-9]+\.[0-9]+' "$T/out" || fail "version: $(cat "$T/out")"
touch "$T/file"

# refused STATUS SENTENCE ARG...
refused()
{
    local wanted=$1 sentence=$2 status=0
    shift 2
    timeout 10 "$REFPOINTFS" "$@" >"$T/out" 2>&1 || status=$?
    assert_equal "$wanted" $status "exit status of: $*"
    grep -qF -- "$sentence" "$T/out" || fail "'$sentence' is not in: $(cat "$T/out")"
    ! mountpoint -q "$MNT" || fail "mounted by: $*"
}
dirs=(-o "state=$T/state,run=$T/run")
refused 2 "the mount point is missing"
refused 2 "one argument too many: 'c'" a b c
refused 2 "there is no option '--nonsense'" --nonsense "$MNT"
refused 1 "option hold=0: a number from 1" "$MNT" -o hold=0
refused 1 "option hold=1x: a number from 1" "$MNT" -o hold=1x
refused 1 "option hold needs a value" "$MNT" -o hold
refused 1 "option group=there-is-none: there is no such group" "$MNT" -o group=there-is-none
refused 1 "unknown option(s): \`-o nonsense'; refpointfs --help" fake:/// "$MNT" "${dirs[@]}" -o nonsense
refused 1 "unknown option(s): \`-o nonsense'; refpointfs --help" fake:/// "$MNT" "${dirs[@]}" -f -o nonsense
refused 1 "mount point $T/none: No such file or directory" fake:/// "$T/none" "${dirs[@]}"
refused 1 "mount point $T/file: Not a directory" fake:/// "$T/file" "${dirs[@]}"

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Words that must not stand in the sources: calls that end the process or trust their input, marks
# of unfinished work, paths of one machine; and the licence line that must.
#
#     check-words.sh [FOLDER]       default: the folder this repository lies in
#
# Prints each violation with file and line; exits 1 if there is any.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rules.sh
. "$here/rules.sh"
cd "${1:-$here/..}" || exit 1

# calls FILES-FROM-STDIN NAMES: lines that call one of the functions. Comments are left out first
# (lines keep their numbers), so that they may speak of what is forbidden.
calls()
{
    local file
    while read -r file; do
        sed -E -e 's|//.*||; s|/\*.*\*/||; s|/\*.*||' \
            -e 's|^[[:space:]]*\*([[:space:]].*)?$||' "$file" |
            grep -nE "(^|[^[:alnum:]_.>])($1)[[:space:]]*\(" | sed "s|^|$file:|"
    done
}

found "nothing in backend/ and fs/ ends the process; main.c may" \
    "$(c_files backend fs | grep -v '^fs/main\.c$' |
        calls 'exit|_exit|_Exit|quick_exit|abort|errx?|verrx?')"
found "numbers are parsed with their errors, texts written with their limits" \
    "$(c_files backend fs |
        calls 'ato[ilf]|atoll|gets|st[rp]cpy|strcat|v?sprintf|strtok|tmpnam|mktemp')"
found "no function is left half-done" \
    "$(c_files backend fs tests | xargs -r grep -nHE '\b(TO''DO|FIX''ME|XX''X)\b')"
found "no scripts are left half-done" \
    "$(find tests scripts -type f \( -name '*.sh' -o -path 'scripts/*' \) -print0 |
        xargs -0r grep -nHE '\b(TO''DO|FIX''ME)\b')"
found "no dead code" \
    "$(c_files backend fs tests | xargs -r grep -nHE '^[[:space:]]*#[[:space:]]*if 0')"
found "only headers of one's own folder, or of backend/, are reached by '..'" \
    "$(c_files backend fs | xargs -r grep -nHE '#[[:space:]]*include[[:space:]]*"\.\./' |
        grep -vE '"\.\./backend/(backend|error)\.h"')"
found "files are named relative to the repository" \
    "$(find backend fs tests scripts -type f -print0 |
        xargs -0r grep -nHIE '(^|[^[:alnum:]_.])/(work|farm|home|root)/[[:alnum:].]')"

for file in $(c_files backend fs tests); do
    head -n 1 "$file" | grep -q 'SPDX-License-Identifier: LGPL-2.1-or-later' ||
        found "the first line names the licence" "$file:1"
done

verdict

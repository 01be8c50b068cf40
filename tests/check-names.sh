#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Names: a C file exports only functions that begin with its own name, and structs have no typedef.
#
#     check-names.sh [FOLDER]       default: the folder this repository lies in
#
# Prints each violation with file and line; exits 1 if there is any.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rules.sh
. "$here/rules.sh"
cd "${1:-$here/..}" || exit 1

# May FILE export NAME? It begins with the file's own name; or it begins with the name of a header
# of the same folder that declares it: one module in several files. What backend.h and error.h
# promise is spread over the files that own the objects.
may_export()
{
    local folder=${1%/*} name=$2 header stem
    stem=$(basename "$1" .c | tr - _)
    # handle.c keeps struct handles: handles_new() is its own name as well.
    [[ $name == "$stem" || $name == "$stem"_* || $name == "$stem"s_* || $name == main ]] && return 0
    for header in "$folder"/*.h; do
        stem=$(basename "$header" .h | tr - _)
        if [[ $name == "${stem}_"* || $stem == backend || $stem == error ]] &&
            grep -qw -- "$name" "$header"; then
            return 0
        fi
    done
    [[ $name == rp_* ]]
}

# exported FILE: "line name" of each function defined in it without `static`. Relies on the house's
# layout: a definition begins in column 1, its '{' stands alone on a line.
exported()
{
    awk '
        /^[A-Za-z_].*\(/ { start = $0; line = NR; pending = 1 }
        /;[[:space:]]*$/ { pending = 0 }
        /^\{/ && pending {
            if (start !~ /^static|^struct [a-z_]+ \{|^typedef/) {
                sub(/\(.*/, "", start); sub(/.*[ *]/, "", start); print line, start
            }
            pending = 0
        }' "$1"
}

for file in $(c_files backend fs); do
    case $file in
    *.c) ;;
    *) continue ;;
    esac
    while read -r line name; do
        may_export "$file" "$name" ||
            found "a file exports what begins with its own name, or its header's" \
                "$file:$line: $name"
    done < <(exported "$file")
done

found "structs and enums have no typedef" \
    "$(c_files backend fs |
        xargs -r grep -nHE '^[[:space:]]*typedef[[:space:]]+(struct|enum|union)')"

verdict

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The rooms keep apart: one outside library = one file, nothing includes upwards, and fs/ sees of
# backend/ only its two public headers.
#
#     check-layers.sh [FOLDER]      default: the folder this repository lies in
#
# Prints each violation with file and line; exits 1 if there is any.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rules.sh
. "$here/rules.sh"
cd "${1:-$here/..}" || exit 1

# only_in LIBRARY HEADER-PATTERN FILES...: an include of it anywhere else is a violation.
only_in()
{
    local what=$1 pattern=$2 file
    shift 2
    for file in $(c_files backend fs); do
        case " $* " in
        *" $file "*) continue ;;
        esac
        found "only $* may include $what" \
            "$(grep -nHE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<$pattern" "$file")"
    done
}

only_in libvirt 'libvirt/' backend/virt.c
only_in libnbd 'libnbd\.h' backend/source.c
only_in libxml2 'libxml' backend/xml.c
only_in inih 'ini\.h' backend/ini.c

# Libraries that may be used from one file, whichever it is.
for pattern in 'openssl/' 'zstd' 'liburing'; do
    files=$(c_files backend fs | xargs -r grep -lE "#[[:space:]]*include[[:space:]]*<$pattern")
    if [ "$(echo "$files" | grep -c .)" -gt 1 ]; then
        found "<$pattern> may be included by one file" "$files"
    fi
done

found "backend/ knows nothing of FUSE" \
    "$(c_files backend | xargs -r grep -nHE '#[[:space:]]*include[[:space:]]*[<"]fuse')"
found "backend/ includes nothing of fs/" \
    "$(c_files backend | xargs -r grep -nHE '#[[:space:]]*include[[:space:]]*".*fs/')"

# By name, so that it holds whether the header is written with a path or found with -I.
for header in backend/*.h; do
    header=${header##*/}
    case $header in
    backend.h | error.h) continue ;;
    esac
    [ ! -e "fs/$header" ] || continue
    found "fs/ sees of backend/ only backend.h and error.h" \
        "$(c_files fs | xargs -r grep -nHE "#[[:space:]]*include[[:space:]]*\"([^\"]*/)?$header\"")"
done

verdict

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Formatting is what clang-format makes of it, and shell scripts are what shellcheck has no quarrel
# with, in what it calls warnings and errors.
#
#     check-format.sh [FOLDER]      default: the folder this repository lies in
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rules.sh
. "$here/rules.sh"
cd "${1:-$here/..}" || exit 1
for tool in clang-format shellcheck; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: $tool is not installed" && exit 77; }
done

mapfile -t sources < <(c_files backend fs tests)
found "C files are formatted by clang-format" \
    "$(clang-format --dry-run "${sources[@]}" 2>&1 | grep 'warning:' | cut -d: -f1 | sort -u)"

mapfile -t scripts < <(find scripts tests .ci -type f -print0 |
    xargs -0 grep -lE -m1 '^#!/.*\b(ba)?sh$|^# shellcheck shell=' | sort)
found "shellcheck finds nothing" \
    "$(shellcheck -x -P SCRIPTDIR -S warning "${scripts[@]}" 2>&1 | grep -E '^In |SC[0-9]+')"

verdict

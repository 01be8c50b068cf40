#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The man pages are ones that scdoc can make, and mandoc finds no error in.
#
#     check-man.sh [PAGE.scd...]       default: that of refpointfs
set -eu
set -o pipefail
[ $# -gt 0 ] || set -- "$(dirname "$0")/../fs/refpointfs.1.scd"
for tool in scdoc mandoc; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: $tool is not installed" && exit 77; }
done
for page; do
    scdoc <"$page" | mandoc -T lint -W error
done

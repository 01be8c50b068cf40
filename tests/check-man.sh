#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The man page is one that scdoc can make, and mandoc finds no error in.
#
#     check-man.sh [PAGE.scd]       default: that of this repository
set -eu
set -o pipefail
page=${1:-$(dirname "$0")/../fs/refpointfs.1.scd}
for tool in scdoc mandoc; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: $tool is not installed" && exit 77; }
done
scdoc <"$page" | mandoc -T lint -W error

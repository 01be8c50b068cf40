#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every export of random histories shows exactly the bytes of the instant that it claims.
#
# MODEL_SEEDS=A-B plays other seeds; model.py alone replays one, with --seed and --verbose.
. "$(dirname "$0")/functions.sh"
requires python3 qemu-system-x86_64 qemu-img qemu-io qemu-storage-daemon fusermount3 sha256sum

REFPOINTFS=${REFPOINTFS:-$(built refpointfs)}
export REFPOINTFS BUILD_DIR
python3 -B "$TESTS/model.py" --seeds "${MODEL_SEEDS:-1-20}"

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Whichever call of the service fails, for lack of memory, space or luck: it lives and answers, says
# a documented result, tells no lie, leaves nothing behind, and does the same well the next time.
#
# FAULTS_EVERY=N makes every N-th call fail; fault.py --every 1 takes them all.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires python3 qemu-system-x86_64 qemu-img fusermount3 addr2line

REFPOINTFS=$(built refpointfs-fault)
export REFPOINTFS BUILD_DIR
python3 -B "$TESTS/fault.py" --every "${FAULTS_EVERY:-61}"

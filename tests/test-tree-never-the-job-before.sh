#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A status read right after `echo > export` returned never shows the job before.
. "$(dirname "$0")/tree.sh"
mount_fake

for ((i = 1; i <= 200; i++)); do
    echo "ExportDirectory=/x/$i" >"$POINT/export"
    state='' directory=''
    while IFS='=' read -r key value; do
        case $key in
        state) state=$value ;;
        export_directory) directory=$value ;;
        esac
    done <"$STATUS"
    [ "$state" = receiving ] || [ "$directory" = "/x/$i" ] ||
        fail "round $i: state $state, directory $directory"
    read -r result <"$POINT/job/wait"
    assert_equal 0 "$result"
done
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is written is qcow2 as QEMU's own: map, amend, rebase, commit, resize and a booting QEMU take
# exports and increments as they are, and leave them sound.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-io python3

guest_new web1
mount_rp
ready web1
points=$MNT/vms/web1/refpoints
guest_write web1 0x11 32M 4M
guest_write web1 0x12 40M 1M
mkdir "$points/mon"
export_point "$points/mon" "ExportDirectory=$T/mon"
guest_write web1 0x21 33M 1M
guest_write web1 zero 34M 1M
mkdir "$points/tue"
export_point "$points/tue" "ExportDirectory=$T/full" KeepHold=yes
export_point "$points/tue" "ExportDirectory=$T/tue" BaseReferencePoint=mon
unmount_rp
full=$T/full/vda.qcow2

# fresh: copies of both exports, where they can be changed.
fresh()
{
    rm -rf "$T/try"
    mkdir "$T/try"
    cp -r "$T/mon" "$T/tue" "$T/try"
    base=$T/try/mon/vda.qcow2 delta=$T/try/tue/vda.qcow2
}

# sound IMAGE: no error, and what the full export shows.
sound()
{
    qemu-img check -q "$1" || fail "qemu-img check refuses $1"
    assert_same "$1" "$full"
}

# maps DEPTH ZERO DATA OFFSET: what `qemu-img map` says of the increment there.
maps()
{
    qemu-img map --output=json "$delta" | python3 -c '
import json, sys
depth, zero, data, at = sys.argv[1:]
at = int(at) << 20
[run] = [run for run in json.load(sys.stdin) if run["start"] <= at < run["start"] + run["length"]]
found = [str(run["depth"]), str(run["zero"]), str(run["data"])]
sys.exit(f"at {at}: {run}" if found != [depth, zero, data] else 0)' "$@" ||
        fail "qemu-img map does not show the increment"
}

fresh
maps 0 False True 33
maps 0 True False 34
maps 1 False True 35
maps 1 False True 40

qemu-img amend -f qcow2 -o lazy_refcounts=on "$delta"
sound "$delta"
qemu-img amend -f qcow2 -o lazy_refcounts=off "$delta"
sound "$delta"
qemu-img amend -f qcow2 -o compat=0.10 "$base"
sound "$delta"
qemu-img check -q "$base" || fail "an export that became version 2 is not sound"

fresh
qemu-img resize -q -f qcow2 "$delta" 96M
qemu-img check -q "$delta" || fail "an increment that was enlarged is not sound"
assert_reads 0x21 33M 1M "$delta"

# Onto another base, which has other data: what differs is copied; then onto none.
fresh
qemu-img create -q -f qcow2 "$T/try/other.qcow2" 64M
qemu-io -f qcow2 -c "write -q -P 0x77 0 64M" "$T/try/other.qcow2"
qemu-img rebase -f qcow2 -F qcow2 -b "$T/try/other.qcow2" "$delta"
sound "$delta"
qemu-img rebase -f qcow2 -b "" "$delta"
rm "$T/try/other.qcow2"
sound "$delta"

fresh
qemu-img commit -q -f qcow2 "$delta"
sound "$base"

# The guest goes on in each of them; a snapshot inside needs refcounts that are right.
goes_on()
{
    grep -q counting "$T/try.serial" 2>/dev/null && [ "$(counter_bound "$1")" -gt $((instant + 20)) ]
}

boots()
{
    local image=$1 accel=tcg qemu
    [ "${GUEST_TYPE:-qemu}" = qemu ] || accel=$GUEST_TYPE
    instant=$(counter_of "$image")
    qemu-img snapshot -c before "$image"
    rm -f "$T/try.serial"
    qemu-system-x86_64 -machine pc,accel="$accel" -m 8 -nodefaults -display none \
        -serial "file:$T/try.serial" -drive "file=$image,if=virtio" 2>"$T/qemu.log" &
    qemu=$!
    # shellcheck disable=SC2064
    cleanup_fn eval "process_is_gone $qemu || kill -KILL $qemu"
    wait_for 20 goes_on "$image"
    kill -TERM $qemu
    wait_for 10 process_is_gone $qemu
    qemu-img check -q "$image" || fail "$image is not sound after a guest ran in it"
    qemu-img snapshot -a before "$image"
    qemu-img snapshot -d before "$image"
    sound "$image"
}

boots "$base"
fresh
boots "$delta"
cp "$full" "$T/try/full.qcow2"
boots "$T/try/full.qcow2"

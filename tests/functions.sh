# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the shell tests share; bash. A test begins with
#
#     #!/usr/bin/env bash
#     # The behaviour it proves, in a sentence.
#     . "$(dirname "$0")/functions.sh"
#     requires qemu-system-x86_64 qemu-img
#
# and gets: `set -eu`, a private folder T, and a cleanup that runs whatever happens. Exit status 0
# is passed, 77 skipped, all others failed.
#
# From outside: BUILD_DIR, the build folder with refpointfs, refpointfs-fake, guest.bin and
# counter-check in it or one folder below (default: ../build); REFPOINTFS, the binary to mount;
# GUEST_TYPE, qemu (the default) or kvm; KEEP=1, do not remove T.

set -euo pipefail

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD_DIR=$(cd "${BUILD_DIR:-$TESTS/../build}" && pwd)

# ---- ending ----

# Says why the test failed, with the line of the test, and ends it.
fail()
{
    echo "FAILED (${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}): $*" >&2
    exit 1
}

# Ends the test as skipped, with the reason.
skip()
{
    echo "SKIPPED: $*" >&2
    exit 77
}

# requires PROG...: skips the test where one of the programs is not installed.
requires()
{
    local prog
    for prog; do
        command -v "$prog" >/dev/null || skip "$prog is not installed"
    done
}

cleanup_list=()

# cleanup_fn COMMAND ARG...: runs it when the test ends, however it ends; the last one first.
cleanup_fn()
{
    local quoted
    printf -v quoted '%q ' "$@"
    cleanup_list+=("$quoted")
}

# Runs what cleanup_fn was given. One that fails turns success into failure; the rest still runs.
cleanup_run()
{
    local status=$? i
    trap - EXIT
    trap '' INT TERM
    set +e
    for ((i = ${#cleanup_list[@]} - 1; i >= 0; i--)); do
        # In a subshell, so that one that fails cannot end the others.
        if ! (eval "${cleanup_list[i]}"); then
            echo "cleanup failed: ${cleanup_list[i]}" >&2
            [ $status -ne 0 ] || status=1
        fi
    done
    exit $status
}
trap cleanup_run EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

folder_remove()
{
    if [ -n "${KEEP:-}" ]; then
        echo "kept: $T" >&2
    else
        rm -rf --one-file-system "$T"
    fi
}

# The private folder. Its path is short, because those of unix sockets end at 107 bytes.
T=$(mktemp -d "/tmp/rp.XXXXXX")
MNT=$T/mnt       # where mount_rp mounts
ROOT=$T/root     # root of the embedded driver
cleanup_fn folder_remove
mkdir "$MNT" "$ROOT"

# What ThreadSanitizer finds stands in files of their own: of a service that was killed or that left
# the terminal, neither status nor output would tell.
export TSAN_OPTIONS=${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$T/tsan

races_none()
{
    [ -n "$(compgen -G "$T/tsan.*")" ] || return 0
    cat "$T"/tsan.* >&2
    sed -n 's/^SUMMARY: \(ThreadSanitizer\)/FAILED (\1)/p' "$T"/tsan.* | sort -u >&2
    return 1
}
cleanup_fn races_none

# ---- waiting and comparing ----

# wait_for SECONDS COMMAND ARG...: until the command succeeds; fails the test when it never does.
wait_for()
{
    local seconds=$1 end
    shift
    end=$((SECONDS + seconds + 1))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "after $seconds s still not: $*"
        sleep 0.05
    done
}

# assert_equal EXPECTED FOUND [WHAT]
assert_equal()
{
    [ "$1" = "$2" ] || fail "${3:-value}: expected '$1', found '$2'"
}

# assert_fails_with TEXT COMMAND ARG...: it must fail and print TEXT, for example the text of an
# errno ("Invalid argument"), on either output.
assert_fails_with()
{
    local text=$1 output
    shift
    if output=$(LC_ALL=C "$@" 2>&1); then
        fail "succeeded, but should have failed with '$text': $*"
    fi
    case $output in
    *"$text"*) ;;
    *) fail "failed with '$output' instead of '$text': $*" ;;
    esac
}

# status_value KEY FILE: the value of KEY in a file of key=value lines; fails if there is none.
status_value()
{
    local line
    while IFS= read -r line; do
        if [ "${line%%=*}" = "$1" ]; then
            printf '%s\n' "${line#*=}"
            return 0
        fi
    done <"$2"
    return 1
}

# built NAME: path of a file the build made.
built()
{
    local found
    for found in "$BUILD_DIR/$1" "$BUILD_DIR"/*/"$1" "$BUILD_DIR"/*/*/"$1"; do
        if [ -f "$found" ]; then
            printf '%s\n' "$found"
            return 0
        fi
    done
    fail "$1 is not in $BUILD_DIR" >&2
}

# ---- guests on the embedded driver ----

# URI of the embedded driver of this test. One process at a time may open it.
EMBED_URI="qemu:///embed?root=$ROOT"

# Settings of the embedded driver, and the end of all its guests when the test ends: QEMU survives
# the process that started it.
embed_prepare()
{
    [ ! -d "$ROOT/etc" ] || return 0
    mkdir -p "$ROOT/etc/qemu/autostart"
    sed -e "s|@USER@|$(id -un)|" -e "s|@GROUP@|$(id -gn)|" "$TESTS/guest/qemu.conf.in" \
        >"$ROOT/etc/qemu.conf"
    # What libvirt learns by probing QEMU takes it 4 s; all tests of a build share it.
    mkdir -p "$BUILD_DIR/embed-cache"
    ln -s "$BUILD_DIR/embed-cache" "$ROOT/cache"
    cleanup_fn guests_kill
}

# guest_new NAME [--disks N] [--size S] [--boot FILE]: defines a guest on the embedded driver, started when that
# is opened. Its disks are T/NAME-vda.qcow2 with the counting boot sector, T/NAME-vdb.qcow2 ...
# The first 16 MiB + 64 KiB of vda belong to the counter; the rest is the test's.
guest_new()
{
    local name=$1 disks=1 size=64M i target file boot='' definition="$T/$1.disks"
    local letters=abcdefghijklmnopqrstuvwxyz
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --disks) disks=$2 ;;
        --size) size=$2 ;;
        --boot) boot=$2 ;;
        *) fail "guest_new: $1 is no option" ;;
        esac
        shift 2
    done
    embed_prepare
    [ -n "$boot" ] || boot=$(built guest.bin)
    : >"$definition"
    for ((i = 0; i < disks; i++)); do
        target=vd${letters:i:1}
        file=$T/$name-$target.qcow2
        qemu-img create -q -f qcow2 "$file" "$size"
        if [ $i -eq 0 ]; then
            qemu-io -f qcow2 -c "write -q -s $boot 0 512" "$file"
        fi
        sed -e "s|@FILE@|$file|" -e "s|@TARGET@|$target|" "$TESTS/guest/disk.xml.in" >>"$definition"
    done
    sed -e "/@DISKS@/{r $definition" -e 'd}' \
        -e "s|@NAME@|$name|g" -e "s|@UUID@|$(cat /proc/sys/kernel/random/uuid)|" \
        -e "s|@TYPE@|${GUEST_TYPE:-qemu}|" -e "s|@FOLDER@|$T|g" \
        "$TESTS/guest/domain.xml.in" >"$ROOT/etc/qemu/$name.xml"
    ln -s "$ROOT/etc/qemu/$name.xml" "$ROOT/etc/qemu/autostart/$name.xml"
    rm "$definition"
}

# pid_of_guest NAME: process number of its QEMU; fails if there is none.
pid_of_guest()
{
    local pid file=$ROOT/run/qemu/$1.pid
    [ -e "$file" ] || return 1
    pid=$(<"$file")
    # A number can have been given to another process since.
    grep -qz "^guest=$1," "/proc/$pid/cmdline" 2>/dev/null || return 1
    echo "$pid"
}

process_is_gone()
{
    [ ! -e "/proc/$1" ] || [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null)" = Z ]
}

# guest_kill NAME: the power fails. Returns when its QEMU is gone.
guest_kill()
{
    local pid
    pid=$(pid_of_guest "$1") || return 0
    kill -KILL "$pid"
    wait_for 10 process_is_gone "$pid"
}

# guests_start_again: the guests that are defined start when the embedded driver is opened the next
# time, as they did the first time; by itself it starts them once per boot of the machine.
guests_start_again()
{
    rm -f "$ROOT/run/qemu/autostarted" "$T"/*.serial
}

guests_kill()
{
    local file name
    for file in "$ROOT"/run/qemu/*.pid; do
        name=${file##*/}
        guest_kill "${name%.pid}"
    done
}

# guest_is_counting NAME: true once its boot sector has begun to write.
guest_is_counting()
{
    grep -q counting "$T/$1.serial" 2>/dev/null
}

# hmp NAME COMMAND: sends one command to the human monitor of the guest's QEMU; prints the answer.
# In Python, because meson needs it anyway, so that it is there wherever the tests are.
hmp()
{
    python3 "$TESTS/guest/hmp.py" "$T/$1.hmp" "$2"
}

# qemu_io NAME N COMMAND: a command of qemu-io on disk N of the guest. QEMU answers only that it
# cannot begin; what the command itself prints goes to its own log.
qemu_io()
{
    local answer
    answer=$(hmp "$1" "qemu-io -d /machine/peripheral/virtio-disk$2/virtio-backend \"$3\"")
    [ -z "$answer" ] || fail "qemu-io $3: $answer"
}

# guest_has_files NAME FOLDER: puts an ext4 file system of 64 MiB with the folder's files on the
# second disk of a guest that does not run yet.
guest_has_files()
{
    truncate -s 64M "$T/ext4"
    mkfs.ext4 -q -F -d "$2" "$T/ext4"
    qemu-img convert -f raw -O qcow2 "$T/ext4" "$T/$1-vdb.qcow2"
}

# guest_write NAME [--disk N] PATTERN OFFSET LENGTH: writes the byte PATTERN to disk N (0 = vda), as
# the guest itself would, and returns when it is done. OFFSET and LENGTH as for qemu-io (64k).
# PATTERN zero writes zeros (write -z), PATTERN discard discards.
guest_write()
{
    local name=$1 disk=0 how
    shift
    if [ "$1" = --disk ]; then
        disk=$2
        shift 2
    fi
    case $1 in
    zero) how="write -z" ;;
    discard) how="discard" ;;
    *) how="write -P $1" ;;
    esac
    qemu_io "$name" "$disk" "$how $2 $3"
    # A disk that the guest does not use is cached in QEMU: guest_kill would lose the write.
    qemu_io "$name" "$disk" flush
}

# counter_of IMAGE [MIN MAX]: the guest's last write as the image shows it. Fails with a sentence
# when the image (of any format) does not show the disk of one instant.
counter_of()
{
    local raw=$T/counter.raw check status=0
    check=$(built counter-check)
    qemu-img convert -U -O raw "$1" "$raw"
    shift
    "$check" "$raw" "$@" || status=$?
    rm -f "$raw"
    return $status
}

# counter_bound IMAGE: the greatest number in the guest's slots of a disk that the guest is writing
# to. They are read one after the other, so that they need not show one instant (counter_of would
# refuse); but the guest has written this number before this returns, and the last write before
# this was called is not greater.
counter_bound()
{
    local raw=$T/bound.raw
    qemu-img convert -U -O raw "$1" "$raw"
    python3 -c '
import struct, sys
with open(sys.argv[1], "rb") as image:
    greatest = 0
    for slot in range(256):
        image.seek(65536 * (slot + 1) + 16)
        greatest = max(greatest, *struct.unpack("<Q", image.read(8)))
print(greatest)' "$raw"
    rm -f "$raw"
}

# ---- the mount ----

mount_pid=

mount_answers()
{
    kill -0 "$mount_pid" 2>/dev/null ||
        fail "refpointfs ended instead of mounting: $(cat "$T/refpointfs.log")"
    mountpoint -q "$MNT" && [ -r "$MNT/service/info" ]
}

# mount_rp [URI] OPTION...: mounts REFPOINTFS on MNT and returns when it answers. URI (with a ':/'
# in it) defaults to EMBED_URI. State, scratch and sockets lie below T. Messages go to
# T/refpointfs.log.
mount_rp()
{
    local uri=$EMBED_URI binary=${REFPOINTFS:-}
    [ -n "$binary" ] || binary=$(built refpointfs)
    case ${1:-} in
    *:/*)
        uri=$1
        shift
        ;;
    esac
    "$binary" "$uri" "$MNT" -f \
        -o "state=$T/state,scratch=$T/scratch,run=$T/run" "$@" >>"$T/refpointfs.log" 2>&1 &
    mount_pid=$!
    cleanup_fn mount_end
    wait_for 30 mount_answers
}

# True when nothing was wrong but LeakSanitizer itself: it now and then falls over a thread of
# libvirt's that ends while it looks.
leak_check_fell()
{
    grep -q 'LeakSanitizer has encountered a fatal error' "$T/refpointfs.log" &&
        ! grep -qE 'ERROR: [A-Za-z]+Sanitizer|runtime error:' "$T/refpointfs.log"
}

# rp_ends [WHY]: the service, told to end, does so with status 0.
# shellcheck disable=SC2120
rp_ends()
{
    local status=0
    wait_for 30 process_is_gone "$mount_pid"
    wait "$mount_pid" || status=$?
    mount_pid=
    [ $status -eq 0 ] || leak_check_fell ||
        fail "refpointfs ended with $status${1:+ $1}: $(cat "$T/refpointfs.log")"
}

# unmount_rp: unmounts and requires that refpointfs ends by itself, with status 0.
unmount_rp()
{
    fusermount3 -u "$MNT"
    rp_ends
}

# kill_rp: kill -9 of the service; returns when it is gone, and its mount.
kill_rp()
{
    kill -KILL "$mount_pid" 2>/dev/null || true
    wait_for 10 process_is_gone "$mount_pid"
    wait "$mount_pid" 2>/dev/null || true
    fusermount3 -u -z "$MNT" 2>/dev/null || true
    mount_pid=
}

# What each thread of the service does, or waits for.
mount_threads()
{
    local task
    for task in /proc/"$mount_pid"/task/*; do
        echo "thread ${task##*/} $(cat "$task/comm"): $(cat "$task/wchan") $(cat "$task/syscall")"
    done 2>/dev/null
}

# Ends what unmount_rp did not, the hard way: for tests that fail half-way.
mount_end()
{
    [ -n "$mount_pid" ] || return 0
    mount_threads >&2
    fusermount3 -u -z "$MNT" 2>/dev/null
    kill -KILL "$mount_pid" 2>/dev/null
    wait_for 10 process_is_gone "$mount_pid"
    # What served the images of a VM that is off outlives a service that was killed.
    pkill -KILL -f "^qemu-storage-daemon .*$T/" || true
    cat "$T/refpointfs.log" >&2
}

# ---- reference points and exports, as a user types them ----
#
# POINT is the folder of a reference point, MNT/vms/VM/refpoints/NAME.

# shows KEY VALUE FILE: true when the file of key=value lines has this value.
shows()
{
    local found
    found=$(status_value "$1" "$3") && [ "$found" = "$2" ]
}

# ready VM...: returns when the mount shows the guests running, and they write.
ready()
{
    local vm
    for vm; do
        wait_for 30 test -d "$MNT/vms/$vm"
        wait_for 30 shows state running "$MNT/vms/$vm/info"
        wait_for 30 guest_is_counting "$vm"
    done
}

# assert_shows KEY VALUE FILE
assert_shows()
{
    shows "$@" || fail "$3: $1 is not '$2' in: $(cat "$3")"
}

# assert_says TEXT KEY FILE: the value of KEY contains TEXT.
assert_says()
{
    local value
    value=$(status_value "$2" "$3") || fail "$3 has no $2: $(cat "$3")"
    case $value in
    *"$1"*) ;;
    *) fail "$3: $2 does not say '$1': '$value'" ;;
    esac
}

is_held()
{
    [ "$(cat "$1/hold")" = 1 ]
}

is_bare()
{
    [ "$(cat "$1/hold")" = 0 ]
}

# settings POINT LINE...: writes the lines to the export of the reference point, in one piece.
settings()
{
    local point=$1
    shift
    printf '%s\n' "$@" | cat >"$point/export"
}

# export_ends RESULT POINT: waits until its job has ended, and requires the result.
export_ends()
{
    local result
    result=$(cat "$2/job/wait")
    assert_equal "$1" "$result" "result of $2: $(status_value error "$2/job/status")"
}

# export_point POINT LINE...: exports, requires success, and checks every image written.
export_point()
{
    local point=$1 folder
    settings "$@"
    export_ends 0 "$point"
    folder=$(status_value export_directory "$point/job/status")
    [ -e "$folder/export.ini" ] || fail "no export.ini in $folder: $(ls -a "$folder")"
    images_check "$folder"
}

# images_check FOLDER: its qcow2 files are sound.
images_check()
{
    local image
    for image in "$1"/*.qcow2; do
        [ ! -e "$image" ] || qemu-img check -q "$image" || fail "qemu-img check refuses $image"
    done
}

# assert_same IMAGE IMAGE: both show the same disk, of the same size. Where one knows a hole and the
# other wrote zeros, they are the same.
assert_same()
{
    local said
    said=$(qemu-img compare -U "$1" "$2" 2>&1) || true
    [ "$said" = "Images are identical." ] || fail "$1 and $2 differ: $said"
}

# assert_reads PATTERN OFFSET LENGTH IMAGE: the image has only the byte PATTERN there.
assert_reads()
{
    local said
    # qemu-io's exit status differs between versions; what it says when the pattern differs, not.
    said=$(qemu-io -r -U -c "read -q -P $1 $2 $3" "$4" 2>&1) || true
    [ -z "$said" ] || fail "$4 at $2 does not read as $1: $said"
}

# nothing_left FOLDER: true when it has no files, hidden ones included, or is gone.
nothing_left()
{
    [ ! -e "$1" ] || [ -z "$(ls -A "$1")" ]
}

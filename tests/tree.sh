# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the tests of the tree share, on top of functions.sh: the fake backend (its own head says what
# can be asked of it), and the programs that users write files with.

# shellcheck source=tests/functions.sh
. "$(dirname "${BASH_SOURCE[0]}")/functions.sh"
REFPOINTFS=$(built refpointfs-fake)
export LC_ALL=C

POINT=$MNT/vms/vm1/refpoints/r1
# shellcheck disable=SC2034
STATUS=$POINT/job/status

# mount_fake [NAME=VALUE...] [-- OPTION...]: with these parameters of the fake backend. Jobs end at
# once unless asked otherwise.
mount_fake()
{
    local query=job_ms=0
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        query=$query\&$1
        shift
    done
    [ $# -eq 0 ] || shift
    mount_rp "fake:///?$query" "$@"
}

# jobs_are DIRECTORY...: the jobs that were ever started export to these, in this order.
jobs_are()
{
    local id=1 found=
    while [ -e "$MNT/jobs/$id" ]; do
        found+="$(status_value export_directory "$MNT/jobs/$id/status") "
        id=$((id + 1))
    done
    assert_equal "${*:+$* }" "$found" "jobs"
}

# state_is STATE [POINT]
state_is()
{
    [ "$(cat "${2:-$POINT}/job/state")" = "$1" ]
}

# ---- writers: write_NAME TEXT-FILE TARGET, as users would ----

write_bash_echo()
{
    bash -c 'text=$(cat "$0"; echo .); text=${text%.}; echo -n "$text" >"$1"' "$1" "$2"
}

write_bash_printf()
{
    bash -c 'text=$(cat "$0"; echo .); printf %s "${text%.}" >"$1"' "$1" "$2"
}

# Its exit status is that of the last line; the message counts.
write_bash_group()
{
    bash -c 'mapfile lines <"$0"; { for line in "${lines[@]}"; do echo -n "$line"; done; } >"$1"' \
        "$1" "$2"
}

# An external program for each line: a FLUSH after each.
write_bash_externals()
{
    bash -c 'mapfile lines <"$0"; { for line in "${lines[@]}"; do /bin/echo -n "$line"; done; } >"$1"' \
        "$1" "$2"
}

write_bash_heredoc()
{
    bash -c "cat >\"\$0\" <<END
$(cat "$1")
END" "$2"
}

write_bash_append()
{
    bash -c 'mapfile lines <"$0"; { for line in "${lines[@]}"; do echo -n "$line"; done; } >>"$1"' \
        "$1" "$2"
}

write_dash_echo()
{
    dash -c 'echo "$(cat "$0")" >"$1"' "$1" "$2"
}

write_dash_printf()
{
    dash -c 'text=$(cat "$0"; echo .); printf %s "${text%.}" >"$1"' "$1" "$2"
}

write_busybox_sh()
{
    busybox sh -c 'text=$(cat "$0"; echo .); printf %s "${text%.}" >"$1"' "$1" "$2"
}

write_busybox_cp()
{
    busybox cp "$1" "$2"
}

write_busybox_dd()
{
    busybox dd if="$1" of="$2" bs=5
}

write_cat()
{
    cat "$1" >"$2"
}

write_cat_append()
{
    cat "$1" >>"$2"
}

write_tee()
{
    tee "$2" <"$1" >/dev/null
}

write_tee_append()
{
    tee -a "$2" <"$1" >/dev/null
}

write_dd()
{
    dd if="$1" of="$2" status=none
}

write_dd_pieces()
{
    dd if="$1" of="$2" bs=7 status=none
}

write_dd_notrunc()
{
    dd if="$1" of="$2" bs=3 conv=notrunc status=none
}

write_cp()
{
    cp "$1" "$2"
}

write_cp_all()
{
    cp -a "$1" "$2"
}

write_python()
{
    python3 -c '
import sys
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as out:
    out.write(source.read())' "$1" "$2"
}

# Each line by a system call of its own.
write_python_lines()
{
    python3 -c '
import os, sys
fd = os.open(sys.argv[2], os.O_WRONLY)
for line in open(sys.argv[1], "rb"):
    os.write(fd, line)
os.close(fd)' "$1" "$2"
}

write_rsync_inplace()
{
    # Its children may outlive it by a moment, with the file open; the pipe ends with the last.
    rsync --inplace --no-times --ignore-times "$1" "$2" 2>&1 | cat >&2
}

# Those that are installed. Shells' own commands never see the errors of close(2).
writers()
{
    echo bash_printf bash_echo bash_group bash_append
    ! command -v dash >/dev/null || echo dash_echo dash_printf
    ! command -v busybox >/dev/null || echo busybox_sh
    writers_that_see_close
}

writers_that_see_close()
{
    echo bash_externals bash_heredoc cat cat_append tee tee_append dd dd_pieces dd_notrunc cp cp_all
    echo python python_lines
    ! command -v busybox >/dev/null || echo busybox_cp busybox_dd
    ! command -v rsync >/dev/null || echo rsync_inplace
}

# notices WRITER TEXT-FILE TARGET: true when the user of the program learns of an error.
notices()
{
    local writer=$1 output status=0
    shift
    output=$("write_$writer" "$@" 2>&1) || status=$?
    [ $status -ne 0 ] || [ -n "$output" ]
}

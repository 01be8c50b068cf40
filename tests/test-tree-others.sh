#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# With allow_other alone, other users look at everything but the data of disks, and change nothing:
# whatever they try, while a job of the owner runs, the job, the hold and the points are as before.
. "$(dirname "$0")/tree.sh"
requires setpriv python3
[ "$(id -u)" = 0 ] || skip "only root can become somebody else"
chmod 711 "$T"
mount_rp "fake:///?job_ms=60000" -o allow_other
held=$MNT/vms/vm1/refpoints/held
mkdir "$held"
echo ExportDirectory=/x/mine >"$held/export"
wait_for 10 state_is running "$held"

other()
{
    setpriv --reuid=64999 --regid=64999 --clear-groups "$@"
}

# Looking, down to the settings and the end of the job.
for file in export info job/status job/settings job/progress job/cancel hold checkpoint.xml; do
    other cat "$held/$file" >/dev/null || fail "others cannot read $file"
done
other sh -c "exec cat '$held/job/wait'" >"$T/waited" &
waiting=$!
assert_fails_with "Permission denied" other cat "$held/disks/vda.img"
assert_fails_with "Permission denied" other cat "$held/disks/vda.map"

# Changing. Opened in each way that could write, with and without truncating.
for file in vms/vm1/export vms/vm1/create vms/vm1/refpoints/held/export \
    vms/vm1/refpoints/held/hold vms/vm1/refpoints/held/job/cancel; do
    for flags in O_WRONLY O_RDWR "O_WRONLY | os.O_TRUNC" "O_RDWR | os.O_APPEND" \
        "O_RDONLY | os.O_TRUNC"; do
        assert_fails_with "Permission denied" other python3 -c \
            "import os, sys; os.write(os.open(sys.argv[1], os.$flags), b'1\n')" "$MNT/$file"
    done
    assert_fails_with "" other truncate -s 0 "$MNT/$file"
    assert_fails_with "" other chmod 666 "$MNT/$file"
    assert_fails_with "" other chown 64999 "$MNT/$file"
    assert_fails_with "" other rm -f "$MNT/$file"
    assert_fails_with "" other cp --remove-destination /dev/null "$MNT/$file"
    assert_fails_with "" other mv "$MNT/$file" "$MNT/$file.old"
done
for folder in vms/vm1/refpoints/new vms/new jobs/7 new vms/vm1/refpoints/held/new; do
    assert_fails_with "" other mkdir "$MNT/$folder"
    assert_fails_with "" other touch "$MNT/$folder"
    assert_fails_with "" other ln -s /etc "$MNT/$folder"
done
for folder in vms/vm1/refpoints/held vms/vm1/refpoints/r1 vms/vm1 jobs/1; do
    assert_fails_with "" other rmdir "$MNT/$folder"
    assert_fails_with "" other mv "$MNT/$folder" "$MNT/${folder%/*}/other"
done

# Nothing of that did anything, nor was it written down as a refusal of the owner's.
state_is running "$held" || fail "the job is $(cat "$held/job/state")"
assert_equal 0 "$(cat "$held/job/cancel")" cancel
assert_equal 1 "$(cat "$held/hold")" hold
assert_equal "held r1 r2" "$(cd "$MNT/vms/vm1/refpoints" && echo *)" "reference points"
assert_equal "" "$(status_value last_refusal "$held/job/status")" "last refusal"
jobs_are /x/mine
process_is_gone $waiting && fail "wait returned: $(cat "$T/waited")"

# Who waits learns of the end that the owner makes.
echo 1 >"$held/job/cancel"
wait $waiting || fail "another user's wait failed"
assert_equal 32768 "$(cat "$T/waited")" "result of another user's wait"
unmount_rp

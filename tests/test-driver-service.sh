#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# README and service/ tell what the mount is, how it is set, and what results mean.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"

mount_rp test:///default -o hold=77,jobs=3,bandwidth=5M
wait_for 10 test -d "$MNT/vms/test"
assert_equal "README jobs service vms" "$(ls "$MNT" | LC_ALL=C sort | xargs)" "names at the top"
grep -q mkdir "$MNT/README" || fail "README does not say how to mark"
assert_equal "$(stat -c %s "$MNT/README")" "$(wc -c <"$MNT/README")" "size of README"

info=$MNT/service/info
assert_shows uri test:///default "$info"
assert_shows connected yes "$info"
assert_shows connection connected "$info"
assert_shows vms 1 "$info"
assert_shows jobs_running 0 "$info"
for key in version libvirt hypervisor can_hold refpoints holds jobs_queued jobs_ended rpcs \
    started; do
    [ -n "$(status_value $key "$info")" ] || fail "service/info has no $key"
done
date -d "$(status_value started "$info")" >/dev/null || fail "started is no time"

settings=$MNT/service/settings
assert_shows hold 77 "$settings"
assert_shows jobs 3 "$settings"
assert_shows bandwidth $((5 * 1024 * 1024)) "$settings"
assert_shows state "$T/state" "$settings"
assert_shows scratch "$T/scratch" "$settings"
assert_shows run "$T/run" "$settings"

assert_equal "0 4096 32768 32769 32770 32771 32772 32773 32774 32775 32776 32777 32778" \
    "$(cut -f1 "$MNT/service/results" | xargs)" "numbers in service/results"
grep -q "^32774	in-use	EBUSY	" "$MNT/service/results" || fail "32774: $(cat "$MNT/service/results")"
unmount_rp

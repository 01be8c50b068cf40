#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Over Samba: put writes settings and reports a refusal, get reads whole files, dir shows their
# sizes.
. "$(dirname "$0")/tree.sh"
requires smbd smbclient python3
[ "$(id -u)" = 0 ] || skip "only root can run smbd"
mount_fake

# A port that nobody has.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$T/samba" "$T/samba/private"
cat >"$T/samba/smb.conf" <<END
[global]
    server role = standalone server
    bind interfaces only = yes
    interfaces = lo
    smb ports = $port
    disable netbios = yes
    disable spoolss = yes
    load printers = no
    map to guest = bad user
    guest account = $(id -un)
    lock directory = $T/samba
    state directory = $T/samba
    cache directory = $T/samba
    pid directory = $T/samba
    private dir = $T/samba/private
    ncalrpc dir = $T/samba/ncalrpc
    log file = $T/samba/log
[mount]
    path = $MNT
    guest ok = yes
    read only = no
END

smbd_end()
{
    kill "$smbd_pid"
    wait_for 10 process_is_gone "$smbd_pid"
}
smbd -F -s "$T/samba/smb.conf" --debug-stdout >"$T/samba/out" 2>&1 &
smbd_pid=$!
cleanup_fn smbd_end

# smb COMMAND...: what smbclient does with them in the folder of the reference point.
smb()
{
    timeout 20 smbclient -s "$T/samba/smb.conf" -p "$port" -N //127.0.0.1/mount \
        -D vms/vm1/refpoints/r1 -c "$*" 2>&1
}
smb_answers()
{
    smb ls >"$T/answer"
}
wait_for 20 smb_answers

size=$(stat -c %s "$POINT/export")
grep -qE "^  export  .* $size  " "$T/answer" || fail "dir: $(cat "$T/answer")"
smb "get export $T/got" >/dev/null
cmp "$POINT/export" "$T/got" || fail "get"

printf '%s\n' ExportDirectory=/x/samba DisksToExport=vda >"$T/good"
smb "put $T/good export" || fail "put"
wait_for 5 test -e "$MNT/jobs/1"
assert_equal 0 "$(cat "$POINT/job/wait")"
jobs_are /x/samba

printf '%s\n' ExportDirectory=/x/bad Foo=1 >"$T/bad"
assert_fails_with NT_STATUS_INVALID_PARAMETER smb "put $T/bad export"
jobs_are /x/samba
assert_says "unknown key 'Foo'" last_refusal "$STATUS"

smb "get job\\status $T/got" >/dev/null
assert_shows state exception "$T/got"
unmount_rp

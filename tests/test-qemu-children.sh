#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The programs that the service runs get the three standard files and nothing else of what it has
# open, no signal blocked or ignored, and an environment of two variables.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img qemu-storage-daemon dash

guest_new web1
rm "$ROOT/etc/qemu/autostart/web1.xml"

# They are found by the service's PATH: ours comes first, and lets others look at it; but at its
# signals itself, which dash blocks while it starts a program.
mkdir "$T/bin" "$T/seen"
for program in qemu-img qemu-storage-daemon; do
    cat >"$T/bin/$program" <<END
#!$(command -v dash)
cd $T/seen
find /proc/\$\$/fd -type l -fprintf $program.fds 'fd %f %l\n'
cat /proc/\$\$/environ >$program.environ
while read -r key value; do echo "\$key \$value"; done </proc/\$\$/status >$program.status
exec $(command -v "$program") "\$@"
END
    chmod 755 "$T/bin/$program"
done

# seen PROGRAM: what it had. The shell has its script open.
seen()
{
    grep -v " $T/bin/$1\$" "$T/seen/$1.fds" | sed 's/:.*//' | sort
    tr '\0' '\n' <"$T/seen/$1.environ" | sed 's/^/env /'
    sed -n 's/^\(Sig[BI][lg][kn]:\).*\(.\{7\}\)$/\1 \2/p' "$T/seen/$1.status"
}
cat >"$T/expected" <<'END'
fd 0 /dev/null
fd 1 pipe
fd 2 pipe
env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
env LC_ALL=C.UTF-8
SigBlk: 0000000
SigIgn: 0000000
END

# What must not be handed on: a variable, and a file that is open without O_CLOEXEC.
echo secret >"$T/secret"
exec 7<"$T/secret"
PATH=$T/bin:$PATH SECRET=1 mount_rp
exec 7<&-
[ "$(readlink "/proc/$mount_pid/fd/7")" = "$T/secret" ] || fail "the service has no file to leak"
wait_for 10 shows state "shut off" "$MNT/vms/web1/info"
mon=$MNT/vms/web1/refpoints/mon
mkdir "$mon"
export_point "$mon" "ExportDirectory=$T/out"
for program in qemu-img qemu-storage-daemon; do
    [ -e "$T/seen/$program.status" ] || fail "$program was not run"
    seen "$program" | diff "$T/expected" - || fail "$program was given more, or less"
done
unmount_rp

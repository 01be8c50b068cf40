#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# In an interactive bash, Tab completes URIs, options of lists, their values and folders, and leaves
# alone what it does not know.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires script bash
completion=$(cd "$TESTS/../scripts" && pwd)/refpointfs.bash

cd "$T"
mkdir -p "$T/home/.config/libvirt" "$T/some/folder" "$T/some/other"
cat >"$T/home/.config/libvirt/libvirt.conf" <<'END'
uri_aliases = [
  "hail=qemu+ssh://root@hail.example.com/system",
]
END

# typed KEYS: the arguments that refpointfs gets when this is typed, \t being Tab.
typed()
{
    {
        printf '%s\n' "bind 'set enable-bracketed-paste off'; . '$completion'" \
            "refpointfs() { printf '<%s>' \"\$@\" >'$T/args'; }"
        printf "$1\n"
        echo exit
    } >"$T/keys"
    rm -f "$T/args"
    env -i "HOME=$T/home" "PATH=$PATH" TERM=dumb \
        script -qfec "bash --norc --noprofile -i" "$T/typescript" <"$T/keys" >/dev/null 2>&1 || true
    cat "$T/args" 2>/dev/null || true
}

# becomes ARGUMENTS KEYS
becomes()
{
    local found
    found=$(typed "$2")
    assert_equal "$1" "$found" "typed '$2': $(cat "$T/typescript")"
}

becomes "<qemu:///system>" 'refpointfs qemu:///sy\t'
becomes "<qemu:///system>" 'refpointfs qemu:\tsy\t'
becomes "<qemu:///embed?root=>" 'refpointfs qemu:///e\t'
becomes "<test:///default>" 'refpointfs te\t'
becomes "<hail>" 'refpointfs ha\t'
becomes "<qemu:///system><$T/some/folder/>" "refpointfs qemu:///sy\t $T/some/f\t"
becomes "<$T/some/folder/>" "refpointfs $T/so\tf\t"
becomes "<-o><quiesce=auto>" 'refpointfs -o qui\ta\t'
becomes "<-o><hold=5,allow_other,max_threads=3>" 'refpointfs -o hold=5,allow_ot\t,max\t3'
becomes "<-o><state=$T/some/other/>" "refpointfs -o sta\t$T/some/o\t"
becomes "<-o><jobs=2,group=nogroup>" 'refpointfs -o jobs=2,group=nogr\t'
becomes "<--version>" 'refpointfs --ver\t'
becomes "<nothing:///like-it>" 'refpointfs nothing:///like-it\t'

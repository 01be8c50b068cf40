#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# refpoint-restore --verify finds nothing in a sound chain, finds each kind of damage, wherever in
# the chain it is, and names it; and what it would find without checksums is never restored.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-system-x86_64 qemu-img sha256sum
restore=$TESTS/../scripts/refpoint-restore

guest_new web1
guest_new other
mount_rp
ready web1 other
mkdir "$T/good"
base=
for name in mon tue wed; do
    mkdir "$MNT/vms/web1/refpoints/$name"
    export_point "$MNT/vms/web1/refpoints/$name" "ExportDirectory=$T/good/$name" \
        ${base:+BaseReferencePoint=$base}
    base=$name
done
mkdir "$MNT/vms/other/refpoints/mon"
export_point "$MNT/vms/other/refpoints/mon" "ExportDirectory=$T/other-mon"
mkdir "$MNT/vms/web1/refpoints/bare"
export_point "$MNT/vms/web1/refpoints/bare" "ExportDirectory=$T/unsummed" Checksum=none
unmount_rp

# A chain can be moved, and its names can have blanks in them.
mkdir "$T/the place"
bad="$T/the place/chain"
cp -a "$T/good" "$bad"
said=$("$restore" "$bad/wed" --verify)
for name in mon tue wed; do
    for check in "$name/export.ini: web1" "$name/SHA256SUMS: 1 files match" \
        "$name/vda.qcow2: qcow2, 67108864 bytes" "$name/vda.qcow2: qemu-img check finds no"; do
        grep -qF "ok: $bad/$check" <<<"$said" || fail "'$check' was not checked: $said"
    done
done
assert_equal "" "$("$restore" "$bad/wed" --verify --quiet 2>&1)" "what --quiet says"
"$restore" "$T/unsummed" --verify >"$T/said"
grep -q "without checksums" "$T/said" || fail "checksums of none: $(cat "$T/said")"

# edit FILE SED-EXPRESSION: changes it; fails when that has changed nothing.
edit()
{
    cp "$1" "$T/before"
    sed -i "$2" "$1"
    ! cmp -s "$1" "$T/before" || fail "sed $2 changes nothing in $1"
}

# restores: does a restore of the damaged chain, without --verify, succeed?
restores()
{
    rm -f "$T/flat.raw"
    "$restore" "$bad/wed" "$T/flat.raw" >/dev/null 2>&1
}

# is_found WHERE TEXT [restores]: --verify fails with 1 and a line with both; so does a restore
# unless only checksums can tell. Then the chain is made good again.
is_found()
{
    local status=0 said
    said=$("$restore" "$bad/wed" --verify --quiet 2>&1) || status=$?
    assert_equal 1 $status "exit status of --verify, that said '$said',"
    grep -F "$bad/$1" <<<"$said" | grep -qF "$2" || fail "'$1 ... $2' is not in: $said"
    if [ "${3:-}" = restores ]; then
        restores || fail "the control: without checksums it could be restored"
    else
        ! restores || fail "restored in spite of: $said"
        [ ! -e "$T/flat.raw" ] || fail "wrote a file in spite of: $said"
    fi
    rm -rf "$bad"
    cp -a "$T/good" "$bad"
}

flip_byte() # FILE OFFSET
{
    local byte
    byte=$(od -An -tu1 -j"$2" -N1 "$1")
    # shellcheck disable=SC2059
    printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

for name in mon tue wed; do
    # The last cluster of an image is data; the bytes from 65536 on are tables.
    flip_byte "$bad/$name/vda.qcow2" $(($(stat -c %s "$bad/$name/vda.qcow2") - 1000))
    is_found "$name: vda.qcow2: FAILED" "" restores

    rm "$bad/$name/export.ini"
    is_found "$name: export.ini" "is no complete export"

    rm "$bad/$name/vda.qcow2"
    is_found "$name/vda.qcow2" "missing"

    truncate -s -256K "$bad/$name/vda.qcow2"
    is_found "$name/vda.qcow2" "qemu-img check finds errors"

    truncate -s 100 "$bad/$name/vda.qcow2"
    is_found "$name/vda.qcow2" "qemu-img: Could not open"

    edit "$bad/$name/export.ini" 's/^result=0/result=32768/'
    is_found "$name/export.ini" "result is '32768'"

    edit "$bad/$name/export.ini" 's/^size=.*/size=67108352/'
    is_found "$name/vda.qcow2" "67108352 according to export.ini"

    edit "$bad/$name/export.ini" 's/^moment=.*//'
    is_found "$name/export.ini" "moment or disks are missing"

    rm "$bad/$name/SHA256SUMS"
    is_found "$name/SHA256SUMS" "does not have the checksum" restores

    # Both the file and its checksum were replaced.
    flip_byte "$bad/$name/vda.qcow2" $(($(stat -c %s "$bad/$name/vda.qcow2") - 1000))
    (cd "$bad/$name" && sha256sum vda.qcow2 >SHA256SUMS)
    is_found "$name/SHA256SUMS" "does not have the checksum of vda.qcow2" restores
done

for name in mon tue; do
    rm -r "${bad:?}/$name"
    is_found "" "its base is missing: there is no directory of ../$name/vda.qcow2"

    edit "$bad/$name/export.ini" 's/^uuid=.*/uuid=00000000-0000-4000-8000-000000000000/'
    is_found "$name" "is of another VM"

    edit "$bad/$name/export.ini" 's/^moment=20/moment=21/'
    is_found "$name" "later than $bad/"
done

# Other exports in the place of the base: of another VM, of another reference point, only its disk.
rm -r "${bad:?}/mon"
cp -a "$T/other-mon" "$bad/mon"
is_found "mon" "is of another VM (other,"
rm -r "${bad:?}/mon"
cp -a "$T/unsummed" "$bad/mon"
is_found "mon" "is of reference point 'bare', but $bad/tue needs 'mon'"
cp "$T/other-mon/vda.qcow2" "$bad/mon/vda.qcow2"
is_found "mon: vda.qcow2: FAILED" "" restores

# The file has another base than the manifest, or none; the chain is a circle; no base was known.
qemu-img rebase -u -f qcow2 -F qcow2 -b ../mon/vda.qcow2 "$bad/wed/vda.qcow2"
is_found "wed/vda.qcow2" "'../mon/vda.qcow2', and '../tue/vda.qcow2' according to"
qemu-img rebase -u -f qcow2 -b "" "$bad/wed/vda.qcow2"
is_found "wed/vda.qcow2" "'../tue/vda.qcow2' according to"
qemu-img rebase -u -f qcow2 -F raw -b ../tue/vda.qcow2 "$bad/wed/vda.qcow2"
is_found "wed/vda.qcow2" "(raw) is not disk vda of $bad/tue"
edit "$bad/tue/export.ini" 's/^base_id=./base_id=x/'
is_found "mon: is of another reference point 'mon'" "used again"
rm -r "${bad:?}/mon"
ln -s wed "$bad/mon"
edit "$bad/tue/export.ini" 's/^base=mon/base=wed/; s/^base_id=.*/base_id=/'
sed -i "s/^moment=.*/$(grep ^moment= "$bad/tue/export.ini")/" "$bad/wed/export.ini"
is_found "tue/vda.qcow2" "is a circle"
edit "$bad/wed/export.ini" 's/^backing=.*/backing=/'
qemu-img rebase -u -f qcow2 -b "" "$bad/wed/vda.qcow2"
is_found "wed/vda.qcow2" "only what changed since 'tue', and no backing file"

# Names that lead out of the directory.
edit "$bad/wed/export.ini" 's|^file=.*|file=../tue/vda.qcow2|'
is_found "wed/export.ini" "no name in the directory"
edit "$bad/wed/export.ini" 's|^.disk vda.|[disk ../vda]|'
is_found "wed/export.ini" "names of disks"
qemu-img rebase -u -f qcow2 -F raw -b nbd://localhost/x "$bad/wed/vda.qcow2"
edit "$bad/wed/export.ini" 's|^backing=.*|backing=nbd://localhost/x|'
is_found "wed/vda.qcow2" "the backing file 'nbd://localhost/x'"

# The control: what was made good again is good.
"$restore" "$bad/wed" --verify --quiet
restores || fail "a sound chain is not restored"

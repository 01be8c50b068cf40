#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A good text starts exactly one job, with exactly its settings, whichever program writes it, in
# whatever pieces, with or without a newline at its end, and is remembered as no refusal.
. "$(dirname "$0")/tree.sh"
mount_fake

expected()
{
    printf '%s\n' "ExportDirectory=$1" BaseReferencePoint=r2 DisksToExport=vda,vdb Format=qcow2 \
        Compression=zstd Checksum=none IfBaseLost=fail RequireExact=yes Bandwidth=1048576 \
        Timeout=0 KeepHold=no
}
started=()
for writer in $(writers); do
    for end in '' '\n'; do
        directory=/x/$writer${end:+-newline}
        # shellcheck disable=SC2059
        printf "# why not\n[export]\nExportDirectory=$directory\nBandwidth=1M\nrequireexact = yes\n\nChecksum=none\n;\nDisksToExport=vda vdb\nCompression=zstd\nBaseReferencePoint=r2$end" \
            >"$T/text"
        "write_$writer" "$T/text" "$POINT/export" 2>"$T/err" || fail "$writer: $(cat "$T/err")"
        assert_equal 0 "$(cat "$POINT/job/wait")" "result after $writer"
        diff <(expected "$directory") "$POINT/job/settings" || fail "settings after $writer differ"
        started+=("$directory")
    done
done
jobs_are "${started[@]}"
assert_shows last_refusal '' "$STATUS"
unmount_rp

#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# meson install puts program, scripts, man pages, completion and systemd's unit in their places below
# DESTDIR, and nothing anywhere else; what is installed runs, and systemd understands the unit.
# shellcheck source=tests/functions.sh
. "$(dirname "$0")/functions.sh"
requires meson

meson install -C "$BUILD_DIR" --no-rebuild --destdir "$T/dest" >"$T/said" 2>&1 ||
    fail "meson install: $(cat "$T/said")"
prefix=$(cd "$T/dest" && find . -path '*/bin/refpointfs' | sed 's|^\.||; s|/bin/refpointfs$||')
expected="bin/refpoint-export 755
bin/refpoint-nightly 755
bin/refpoint-restore 755
bin/refpointfs 755
lib/systemd/system/refpointfs@.service 644
share/bash-completion/completions/refpointfs 644"
if command -v scdoc >/dev/null; then
    for page in refpoint-export refpoint-nightly refpoint-restore refpointfs; do
        expected+=$'\n'"share/man/man1/$page.1 644"
    done
fi
assert_equal "$expected" "$(cd "$T/dest$prefix" && find . -type f -printf '%P %m\n' | sort)" \
    "what is installed"
assert_equal "$(wc -l <<<"$expected")" "$(find "$T/dest" ! -type d | wc -l)" "files in DESTDIR"

for program in "$T/dest$prefix"/bin/*; do
    "$program" --help | grep -q "${program##*/}" || fail "${program##*/} --help says nothing"
done
unit=$T/dest$prefix/lib/systemd/system/refpointfs@.service
grep -q "^ExecStart=$prefix/bin/refpointfs " "$unit" || fail "another program in $(cat "$unit")"

# As it would be found after an installation without DESTDIR.
command -v systemd-analyze >/dev/null || exit 0
mkdir "$T/units"
sed "s|=$prefix/bin/|=$T/dest$prefix/bin/|" "$unit" >"$T/units/refpointfs@mnt-rp.service"
said=$(systemd-analyze verify --man=no "$T/units/refpointfs@mnt-rp.service" 2>&1) ||
    fail "systemd-analyze: $said"
assert_equal "" "$said" "what systemd-analyze says"

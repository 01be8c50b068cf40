#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file manager shows a reference point without waiting for anything; settings that are copied over
# `export` in it start one job, and those that are refused make it show the error.
#
#     test-tree-desktop.sh thunar|pcmanfm|nautilus
. "$(dirname "$0")/tree.sh"
manager=$1
requires "$manager"
# shellcheck source=tests/desktop.sh
. "$(dirname "$0")/desktop.sh"
mount_fake
desktop_start
mkdir "$T/from"

thunar_start()
{
    desktop_program thunar --daemon
    gdbus wait --session --timeout 30 org.xfce.FileManager
    thunar_calls DisplayFolder "file://$POINT" "$DISPLAY" ""
}
thunar_calls()
{
    desktop_calls org.xfce.FileManager "org.xfce.FileManager.$1" /org/xfce/FileManager "${@:2}"
}
thunar_copy()
{
    thunar_calls CopyInto "" "['$T/from/export']" "$POINT" "$DISPLAY" ""
    desktop_answers thunar "Confirm to replace" alt+r
}

pcmanfm_start()
{
    requires xclip
    desktop_program pcmanfm --no-desktop "$POINT"
}
pcmanfm_copy()
{
    printf 'copy\nfile://%s' "$T/from/export" |
        xclip -selection clipboard -t x-special/gnome-copied-files >/dev/null 2>&1
    xdotool windowactivate --sync "$(desktop_window pcmanfm r1)" key --clearmodifiers ctrl+v
    desktop_answers pcmanfm "Confirm File Replacing" alt+o
}

nautilus_start()
{
    desktop_program nautilus --new-window "$POINT"
    gdbus wait --session --timeout 30 org.gnome.Nautilus
}
nautilus_copy()
{
    desktop_calls org.gnome.Nautilus org.gnome.Nautilus.FileOperations2.CopyURIs \
        /org/gnome/Nautilus/FileOperations2 "['file://$T/from/export']" "file://$POINT" '{}'
    desktop_answers nautilus "File conflict" 50,24
}

# Titles of the windows that tell of an error; Nautilus's has none.
declare -A error=([thunar]=Attention [pcmanfm]=Finished [nautilus]='^$')

"${manager}_start"
desktop_appears "$manager" r1

printf '%s\n' "ExportDirectory=/x/$manager" DisksToExport=vda >"$T/from/export"
"${manager}_copy"
wait_for 10 test -e "$MNT/jobs/1"
assert_equal 0 "$(cat "$POINT/job/wait")"
grep -qx DisksToExport=vda "$POINT/job/settings" || fail "$(cat "$POINT/job/settings")"

! desktop_window "$manager" "${error[$manager]}" || fail "$manager shows an error"
printf '%s\n' ExportDirectory=/x/bad Foo=1 >"$T/from/export"
"${manager}_copy"
desktop_appears "$manager" "${error[$manager]}"
assert_says "line 2: unknown key 'Foo'" last_refusal "$STATUS"
jobs_are "/x/$manager"
desktop_end $desktop_pid
unmount_rp

# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A desktop for programs with windows: an X server without a screen, a window manager, and a message
# bus that starts nothing by itself. On top of functions.sh.

requires Xvfb openbox xdotool dbus-daemon gdbus

# desktop_program COMMAND ARG...: in the background, until the test ends; what it says is in
# T/desktop.log. Its number is in desktop_pid.
desktop_program()
{
    "$@" >>"$T/desktop.log" 2>&1 &
    desktop_pid=$!
    cleanup_fn desktop_end $desktop_pid
}

desktop_end()
{
    kill "$1" 2>/dev/null || true
    wait_for 10 process_is_gone "$1"
}

# desktop_start: DISPLAY and the bus are set for the programs that follow.
desktop_start()
{
    export HOME=$T/home XDG_RUNTIME_DIR=$T/home/run NO_AT_BRIDGE=1 GTK_A11Y=none GIO_USE_VFS=local
    export GDK_BACKEND=x11 GSK_RENDERER=cairo LIBGL_ALWAYS_SOFTWARE=1
    mkdir "$HOME"
    mkdir -m 700 "$XDG_RUNTIME_DIR"
    desktop_program Xvfb -displayfd 7 -screen 0 1000x700x24 -nolisten tcp 7>"$T/display"
    wait_for 20 test -s "$T/display"
    DISPLAY=:$(<"$T/display")
    export DISPLAY
    desktop_program openbox
    cat >"$T/bus.conf" <<END
<busconfig>
  <type>session</type>
  <listen>unix:path=$T/bus</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
END
    export DBUS_SESSION_BUS_ADDRESS=unix:path=$T/bus
    desktop_program dbus-daemon --nofork --config-file="$T/bus.conf"
    wait_for 20 test -S "$T/bus"
}

# desktop_window CLASS NAME: its number; fails when it is not there.
desktop_window()
{
    local window title
    for window in $(xdotool search --onlyvisible --class "$1" 2>/dev/null); do
        title=$(xdotool getwindowname "$window" 2>/dev/null) || continue
        if [[ $title =~ $2 ]]; then
            echo "$window"
            return 0
        fi
    done
    return 1
}

desktop_appears()
{
    wait_for 20 desktop_window "$@" >/dev/null
}

# desktop_answers CLASS NAME KEY-OR-PLACE: answers the dialog until it is gone; one that has just
# come up may not hear yet. PLACE: X,Y of what is clicked, from its right upper corner.
desktop_answers()
{
    local tries window
    desktop_appears "$1" "$2"
    for ((tries = 0; tries < 40; tries++)); do
        window=$(desktop_window "$1" "$2") || return 0
        desktop_answer "$window" "$3" 2>/dev/null || true
        sleep 0.25
    done
    fail "the dialog stays: $2"
}

desktop_answer()
{
    local WIDTH=0
    xdotool windowactivate --sync "$1"
    case $2 in
    *,*)
        eval "$(xdotool getwindowgeometry --shell "$1" | grep ^WIDTH)"
        xdotool mousemove --window "$1" $((WIDTH - ${2%,*})) "${2#*,}" click 1
        ;;
    *) xdotool key --clearmodifiers "$2" ;;
    esac
}

# desktop_calls SERVICE METHOD ARG...: a method of the object that is named as the service is.
desktop_calls()
{
    local service=$1 object=${3:-}
    gdbus call --session --timeout 20 --dest "$service" --object-path "$object" \
        --method "$2" "${@:4}" >/dev/null
}

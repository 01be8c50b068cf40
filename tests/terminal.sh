# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Programs that want a terminal and somebody at it: tmux is both. For the scripts of clients.sh,
# which have the folder W.

set -eu
failed=0

terminal()
{
    # tmux runs what it starts by the user's shell, which may be nologin, or none at all.
    SHELL=/bin/sh tmux -S "$W/tmux" -f /dev/null "$@"
}

# terminal_start COMMAND: runs it in a terminal, which ends with the script.
terminal_start()
{
    trap 'terminal kill-server 2>/dev/null || true' EXIT
    terminal new-session -d -x 100 -y 30 "$1"
}

# Its last line is the screen as one line, with a '~' before each.
terminal_screen()
{
    local text
    text=$(terminal capture-pane -p)
    printf '%s\n' "$text" "~${text//$'\n'/\~}"
}

# terminal_keys KEY...: as tmux names them: C-x, Enter, F5.
terminal_keys()
{
    terminal send-keys "$@"
}

# terminal_types TEXT
terminal_types()
{
    terminal send-keys -l "$1"
}

# terminal_until PATTERN: waits until the screen shows it.
terminal_until()
{
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        terminal_screen 2>&1 | grep -qE "$1" && return 0
        ! terminal_has_ended || break
        sleep 0.05
    done
    echo "failed: the screen never showed $1:"
    terminal_screen
    exit 3
}

# terminal_saved GOOD BAD: waits for one of the two. BAD is an error: it is printed, and the script
# will fail.
terminal_saved()
{
    terminal_until "$1|$2"
    ! terminal_screen | grep -E "$2" || failed=1
}

# terminal_answers KEY GOOD BAD: the same after KEY, which is pressed until it is heard: a dialog
# that has just come up may throw away what was typed before.
terminal_answers()
{
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        terminal_keys "$1"
        sleep 0.2
        ! terminal_screen | grep -qE "$2|$3" || break
    done
    terminal_saved "$2" "$3"
}

terminal_has_ended()
{
    ! terminal has-session 2>/dev/null
}

# terminal_quits KEYS...: what ends the program, and what answers its questions then. Killed, it
# would leave its locks behind.
terminal_quits()
{
    local tries keys
    for keys; do
        # shellcheck disable=SC2086
        terminal_has_ended || terminal_keys $keys 2>/dev/null || true
        for ((tries = 0; tries < 5; tries++)); do
            terminal_has_ended && exit "$failed"
            sleep 0.03
        done
    done
    for ((tries = 0; tries < 40; tries++)); do
        terminal_has_ended && exit "$failed"
        sleep 0.05
    done
    echo "failed: it does not end:"
    terminal_screen
    exit 3
}

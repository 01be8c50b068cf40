# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the checks of rules share: tests/check-*.sh.

violations=0

# Names of the C files below the folders given.
c_files()
{
    local folder
    for folder; do
        [ ! -d "$folder" ] || find "$folder" -name '*.[ch]' | sort
    done
}

# found RULE LINES: prints the lines as violations of the rule, if there are any.
found()
{
    [ -n "$2" ] || return 0
    violations=$((violations + $(printf '%s\n' "$2" | wc -l)))
    printf '%s:\n' "$1"
    printf '%s\n' "$2" | sed 's/^/    /'
}

# Ends the check.
verdict()
{
    # A check that looked at nothing has proven nothing.
    if [ -z "$(c_files backend)" ]; then
        echo "there are no C files below $PWD/backend"
        exit 1
    fi
    [ "$violations" -eq 0 ] && echo "no violations" && exit 0
    echo "$violations violations"
    exit 1
}

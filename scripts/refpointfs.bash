# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Completion of refpointfs's command line in bash. Needs nothing but bash itself.

# What can follow -o; those with '=' want a value.
_refpointfs_options='hold= jobs= bandwidth= quiesce= state= scratch= run= group= max_threads= syslog
debug allow_other allow_root auto_unmount ro noatime nosuid nodev noexec'

# _refpointfs_reply PREFIX WORD WORDS...: the WORDS that begin with WORD, each after PREFIX.
_refpointfs_reply()
{
    local prefix=$1 word=$2 each
    shift 2
    for each; do
        [[ $each != "$word"* ]] || COMPREPLY+=("$prefix$each")
    done
}

# _refpointfs_folders PREFIX PATH
_refpointfs_folders()
{
    local found
    while IFS= read -r found; do
        COMPREPLY+=("$1$found/")
    done < <(compgen -d -- "$2")
    compopt -o nospace
}

# One list of options, of which the last one is being typed.
_refpointfs_option_list()
{
    local list=$1 before last names=()
    last=${list##*,}
    before=${list%"$last"}
    case $last in
    quiesce=*) _refpointfs_reply "${before}quiesce=" "${last#*=}" auto yes no ;;
    group=*)
        mapfile -t names < <(compgen -g -- "${last#*=}")
        _refpointfs_reply "${before}group=" "${last#*=}" "${names[@]}"
        ;;
    state=* | scratch=* | run=*) _refpointfs_folders "$before${last%%=*}=" "${last#*=}" ;;
    *=*) ;;
    *)
        read -r -d '' -a names <<<"$_refpointfs_options"
        _refpointfs_reply "$before" "$last" "${names[@]}"
        # A value or a comma may follow.
        compopt -o nospace
        ;;
    esac
}

# The connections that libvirt knows by themselves, and those that the user has names for.
_refpointfs_uris()
{
    local file names=()
    for file in "${XDG_CONFIG_HOME:-$HOME/.config}/libvirt/libvirt.conf" /etc/libvirt/libvirt.conf; do
        [[ -r $file ]] || continue
        mapfile -t names < <(sed -n 's/^[[:space:]]*"\([^"=]*\)=[^"]*",\{0,1\}[[:space:]]*$/\1/p' "$file")
        _refpointfs_reply "" "$1" "${names[@]}"
    done
    _refpointfs_reply "" "$1" qemu:///system qemu:///session 'qemu:///embed?root=' \
        qemu+ssh:// qemu+tls:// test:///default ${LIBVIRT_DEFAULT_URI:+"$LIBVIRT_DEFAULT_URI"}
    [[ ${COMPREPLY[0]-} != *[/=] ]] || compopt -o nospace
}

_refpointfs()
{
    local line=${COMP_LINE:0:COMP_POINT} word before broken i
    # bash breaks words at ':' and '=', which are in URIs and options; here they stay whole.
    word=${line##*[[:space:]]}
    before=${line%"$word"}
    before=${before%"${before##*[![:space:]]}"}
    COMPREPLY=()
    if [[ ${before##*[[:space:]]} == -o ]]; then
        _refpointfs_option_list "$word"
    elif [[ $word == -* ]]; then
        _refpointfs_reply "" "$word" -f -d -s -h --help -V --version -o
    elif [[ $word == *:* ]]; then
        _refpointfs_uris "$word"
    else
        [[ $before == *[[:space:]]* ]] || _refpointfs_uris "$word"
        _refpointfs_folders "" "$word"
    fi
    # What bash replaces begins behind the last of its breaks.
    broken=${word%"${word##*[:=]}"}
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$broken"}
    done
}
complete -F _refpointfs refpointfs

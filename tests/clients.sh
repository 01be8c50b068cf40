# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The programs that write a control file, one line each: what users type, and what they can expect.
#
#     client FAMILY NAME PROGRAM SCRIPT [EXCEPTION...]
#
# SCRIPT is run by bash, by the interpreter PROGRAM itself in in_shell, by Python in in_python. It
# writes the text in the file F to the file E. It may use up F, and make files in the folder W.
# EXCEPTION is what is known not to work, and why that is so stands beside it:
#
#     loses    a good text does not arrive
#     silent   a bad text is refused, but the program does not tell
#
# A program that edits what it finds (E reads as a template) inserts F, or sets ExportDirectory to
# /x/NAME, which is what F says.

client_families=(shells files replace rsync edit python terminal)

client_names=()
declare -A client_family client_program client_interpreter client_script client_exceptions

client_add()
{
    local interpreter=$1 family=$2 name=$3
    client_names+=("$name")
    client_interpreter[$name]=$interpreter
    client_family[$name]=$family
    client_program[$name]=$4
    client_script[$name]=$5
    shift 5
    client_exceptions[$name]=" $* "
}

client()
{
    client_add bash "$@"
}

# in_shell SHELL NAME SCRIPT [EXCEPTION...]
in_shell()
{
    local shell=$1 name=$2
    shift 2
    client_add "$shell" shells "$shell-$name" "$shell" "$@"
}

# in_python NAME SCRIPT [EXCEPTION...]: text, target and folder are there as F, E and W.
in_python()
{
    local name=$1
    shift
    client_add python3 python "python-$name" python3 "$@"
}

# ---- shells: their own commands see the errors of write(2) alone, and print them ----

# shellcheck disable=SC2016
for shell in bash dash zsh ksh; do
    in_shell $shell echo 'echo "$(cat "$F")" >"$E"'
    in_shell $shell printf 'printf "%s\n" "$(cat "$F")" >"$E"'
    in_shell $shell group '{ while read -r line; do echo "$line"; done; } <"$F" >"$E"'
    in_shell $shell externals '{ while read -r line; do /bin/echo "$line"; done; } <"$F" >"$E"'
    in_shell $shell descriptor 'exec 5>"$E"
        while read -r line; do echo "$line" >&5; done <"$F"'
    in_shell $shell heredoc "$(printf '%s\n' 'cat >"$E" <<END' '$(cat "$F")' END)"
    in_shell $shell append 'while read -r line; do echo "$line"; done <"$F" >>"$E"'
done
# shellcheck disable=SC2016
{
    client shells busybox-echo busybox 'busybox sh -c '\''echo "$(cat "$F")" >"$E"'\'
    client shells busybox-printf busybox 'busybox sh -c '\''printf "%s\n" "$(cat "$F")" >"$E"'\'
    client shells busybox-heredoc busybox 'busybox sh -c "cat >\"\$E\" <<END
$(cat "$F")
END"'
    in_shell bash herestring 'cat <<<"$(cat "$F")" >"$E"'
    in_shell bash subshell '(cat "$F"; echo "# end") >"$E"'
    # It writes by a process in the background, whose errors are for nobody.
    in_shell zsh multios 'setopt multios; cat "$F" >"$E" >"$W/copy"' silent
}

# ---- programs that write into the file where it is ----

# shellcheck disable=SC2016
{
    client files cat cat 'cat "$F" >"$E"'
    client files cat-append cat 'cat "$F" >>"$E"'
    client files tee tee 'tee "$E" <"$F"'
    client files tee-append tee 'tee -a "$E" <"$F"'
    client files dd dd 'dd if="$F" of="$E" status=none'
    client files dd-pieces dd 'dd if="$F" of="$E" bs=7 status=none'
    client files dd-notrunc dd 'dd if="$F" of="$E" conv=notrunc status=none'
    client files dd-fsync dd 'dd if="$F" of="$E" bs=1M conv=fsync status=none'
    client files cp cp 'cp "$F" "$E"'
    client files cp-force cp 'cp -f "$F" "$E"'
    client files cp-preserve cp 'cp -p "$F" "$E"'
    client files cp-all cp 'cp -a "$F" "$E"'
    client files awk awk 'awk "{ print >ENVIRON[\"E\"] }" "$F"'
    client files sort sort 'sort -o "$E" "$F"'
    client files curl curl 'curl -sS -o "$E" "file://$F"'
    client files perl perl 'perl -e '\''open my $in, "<", $ENV{F} or die $!;
        open my $out, ">", $ENV{E} or die $!; print $out (<$in>) or die $!; close $out or die $!'\'
    client files busybox-cp busybox 'busybox cp "$F" "$E"'
    client files busybox-dd busybox 'busybox dd if="$F" of="$E" bs=9 2>&1'
    client files busybox-cat busybox 'busybox cat "$F" >"$E"'
    client files busybox-tee busybox 'busybox tee "$E" <"$F"'
}

# ---- programs that unlink the file and make it anew, rename it away, or rename onto it ----

# shellcheck disable=SC2016
{
    client replace mv mv 'mv "$F" "$E"'
    client replace mv-force mv 'mv -f "$F" "$E"'
    client replace mv-backup mv 'mv -b "$F" "$E"'
    client replace cp-backup cp 'cp -b "$F" "$E"'
    client replace cp-remove cp 'cp --remove-destination "$F" "$E"'
    client replace mv-beside mv 'cp "$F" "$E.new" && mv "$E.new" "$E"'
    client replace install install 'install "$F" "$E"'
    client replace install-backup install 'install -b -m 600 "$F" "$E"'
    client replace tar tar 'cp "$F" "$W/export" && tar -C "$W" -c export | tar -C "${E%/*}" -x'
    client replace tar-overwrite tar \
        'cp "$F" "$W/export" && tar -C "$W" -c export | tar -C "${E%/*}" -x --overwrite'
    client replace unzip unzip 'cd "$W" && cp "$F" export &&
        python3 -m zipfile -c a.zip export && unzip -qo a.zip -d "${E%/*}"'
    client replace busybox-mv busybox 'busybox mv "$F" "$E"'
    client replace gio-copy gio 'gio copy "$F" "$E"'
    client replace gio-move gio 'gio move "$F" "$E"'
    client replace gio-save gio 'gio save "$E" <"$F"'
    client replace gio-save-backup gio 'gio save --backup "$E" <"$F"'
}

# ---- rsync ----

# Its children may outlive it by a moment, with the file open; the pipe ends with the last.
# shellcheck disable=SC2016
{
    client rsync rsync rsync 'rsync --ignore-times "$F" "$E"'
    client rsync rsync-all rsync 'rsync -aI "$F" "$E"'
    client rsync rsync-checksum rsync 'rsync -c "$F" "$E"'
    client rsync rsync-backup rsync 'rsync -bI "$F" "$E"'
    client rsync rsync-inplace rsync 'rsync --inplace --ignore-times "$F" "$E" 2>&1 | cat >&2'
    client rsync rsync-inplace-all rsync 'rsync --inplace -aI "$F" "$E" 2>&1 | cat >&2'
    # It writes nothing to a file that is as long as what it has, as the template is.
    client rsync rsync-append rsync 'rsync --append "$F" "$E"' loses silent
    # It makes a directory for what is to be renamed in the end.
    client rsync rsync-delay rsync 'rsync -I --delay-updates "$F" "$E"' loses
}

# ---- editors without a terminal: the template gets its line, or F as it is ----

# shellcheck disable=SC2016
{
    client edit sed sed 'sed -i -e "1r $F" "$E"'
    client edit sed-backup sed 'sed -i.bak -e "1r $F" "$E"'
    client edit busybox-sed busybox 'busybox sed -i -e "1r $F" "$E"'
    client edit perl-inplace perl 'perl -i -pe "BEGIN { \$t = qx(cat $F) } print \$t if $. == 1" "$E"'
    client edit perl-inplace-backup perl \
        'perl -i.bak -pe "BEGIN { \$t = qx(cat $F) } print \$t if $. == 1" "$E"'
    client edit patch patch 'cat "$E" "$F" >"$W/export" && cd "${E%/*}" &&
        { diff -u export "$W/export" || true; } | patch export'
    client edit ed ed 'printf "%s\n" "0r $F" w q | ed -s "$E"'
    client edit ex vim 'vim -u DEFAULTS -es "$E" -c "set backupskip=" -c "0r $F" -c wq'
    client edit emacs-batch emacs 'emacs -Q -batch "$E" --eval "(insert-file-contents \"$F\")" \
        -f save-buffer'
    client edit emacs-batch-backup emacs 'emacs -Q -batch "$E" \
        --eval "(setq make-backup-files t backup-enable-predicate (lambda (name) t))" \
        --eval "(insert-file-contents \"$F\")" -f save-buffer'
}

# ---- Python ----

in_python open 'out = open(E, "w"); out.write(open(F).read()); out.close()'
in_python with '
with open(E, "w") as out:
    for line in open(F):
        out.write(line)'
in_python unbuffered '
with open(E, "wb", buffering=0) as out:
    for line in open(F, "rb"):
        out.write(line)'
in_python print '
with open(E, "w") as out:
    print(open(F).read(), end="", file=out)'
in_python update '
with open(E, "r+") as out:
    out.read()
    out.seek(0)
    out.truncate()
    out.write(open(F).read())'
in_python pathlib 'import pathlib; pathlib.Path(E).write_text(open(F).read())'
in_python copyfile 'import shutil; shutil.copyfile(F, E)'
in_python copy 'import shutil; shutil.copy2(F, E)'
in_python move 'import shutil; shutil.move(F, E)'
in_python replace '
import os, tempfile
fd, name = tempfile.mkstemp(dir=os.path.dirname(E))
os.write(fd, open(F, "rb").read())
os.fsync(fd)
os.close(fd)
os.replace(name, E)'
# Who never closes a file never hears what became of it.
in_python unclosed 'out = open(E, "w"); out.write(open(F).read())' silent

# ---- programs on a terminal: the template gets F, at its top ----

TEMPLATE="Settings of an export"

# shellcheck disable=SC2016
for name in vim vim-backup vim-backup-copy; do
    options=
    [ $name = vim ] || options=' backup'
    [ $name != vim-backup-copy ] || options+=' backupcopy=yes'
    client terminal $name vim '
        # It makes no backups below /tmp by itself.
        printf "%s\n" "source \$VIMRUNTIME/defaults.vim" "set backupskip='"$options"'" >"$W/vimrc"
        terminal_start "vim -u $W/vimrc $E"
        terminal_until "$TEMPLATE"
        terminal_types ":0r $F"
        terminal_keys Enter
        terminal_until ^ExportDirectory=
        terminal_types ":w"
        terminal_keys Enter
        terminal_saved " written" "E[0-9]+:"
        terminal_quits ": q a ! Enter"'
done
# shellcheck disable=SC2016
for name in nano nano-backup; do
    options=
    [ $name = nano ] || options=-B
    client terminal $name nano 'terminal_start "nano '"$options"' $E"
        terminal_until "$TEMPLATE"
        terminal_keys C-r
        terminal_until "insert"
        terminal_types "$F"
        terminal_keys Enter
        terminal_until ^ExportDirectory=
        terminal_keys C-o
        terminal_until "Name to Write"
        terminal_keys Enter
        terminal_saved "Wrote [0-9]+ lines" "Error writing"
        terminal_quits C-x n'
done
# shellcheck disable=SC2016
{
    client terminal emacs emacs 'terminal_start "emacs -Q -nw $E"
        terminal_until "$TEMPLATE"
        terminal_keys C-x i
        terminal_until "Insert file"
        terminal_keys C-a C-k
        terminal_types "$F"
        terminal_keys Enter
        terminal_until ^ExportDirectory=
        terminal_keys C-x C-s
        terminal_saved "Wrote /" "[Ww]rite error|Invalid argument|[Rr]enaming"
        terminal_quits "C-x C-c" n "y e s Enter"'
    client terminal mcedit mcedit 'terminal_start "mcedit $E"
        terminal_until "$TEMPLATE"
        while read -r line; do terminal_types "$line"; terminal_keys Enter; done <"$F"
        terminal_keys F2
        terminal_until "Confirm save"
        terminal_keys Enter
        terminal_saved "\[----\]" "Cannot save"
        terminal_quits Enter F10 n n'
    client terminal mc-copy mc 'mkdir "$W/from"; cp "$F" "$W/from/export"
        terminal_start "mc -u -d $W/from ${E%/*}"
        terminal_until "checkpoint.xml"
        terminal_keys Down F5
        terminal_until "Copy file"
        terminal_keys Enter
        terminal_until "exists"
        # No dialog in the middle any more, or another one.
        terminal_answers y "(~x[x ]+){12}" "Cannot .*"
        terminal_quits a F10'
}

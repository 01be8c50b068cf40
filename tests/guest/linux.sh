# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A Linux guest with a guest agent; sourced after tests/functions.sh, whose mount_rp serves it too.
# See linux-init.sh for what it does.
#
#     linux_new web1; mount_rp; linux_ready web1; linux_do web1 'touch /mnt/here'
#
# It is Debian's kernel for clouds, busybox, and qemu-guest-agent with its libraries, fetched with
# `apt-get download` and unpacked below the build folder: nothing is installed. It boots without a
# boot loader and lives in its initramfs; its one disk, vda, is an ext4 file system.

LINUX_MODULES="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk
    virtio_console"
LINUX_BOOT=$BUILD_DIR/linux-guest # vmlinuz, and initrd, which each guest adds its own end to
PATH=$PATH:/usr/sbin:/sbin        # where mke2fs is, and not every user looks

requires qemu-system-x86_64 qemu-img apt-cache apt-get dpkg-deb flock mke2fs e2fsck dumpe2fs debugfs

# ---- kernel and initramfs, made once for all tests of a build ----

# Prints the packages to fetch: the kernel that the metapackage means, busybox, and the agent with
# all libraries it depends on. Fails where apt does not know them.
linux_packages()
{
    local kernel list=(qemu-guest-agent) i package
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
    [ -n "$kernel" ] || return 1
    for ((i = 0; i < ${#list[@]}; i++)); do
        for package in $(apt-cache depends --important "${list[i]}" |
            sed -n 's/^[ |]*\(Pre\)\{0,1\}Depends: \(lib.*\)/\2/p'); do
            [[ " ${list[*]} " == *" $package "* ]] || list+=("$package")
        done
    done
    printf '%s\n' "$kernel" busybox-static "${list[@]}"
}

# linux_file FOLDER PATTERN: the file below the folder whose path ends like that; fails without one.
linux_file()
{
    local file
    file=$(find "$1" -path "*/$2" -type f -print -quit)
    [ -n "$file" ] && echo "$file"
}

# linux_tree SYSTEM TREE: copies what the guest needs of the unpacked packages into the tree that
# becomes its initramfs.
linux_tree()
{
    local system=$1 tree=$2 loader folders file module
    mkdir -p "$tree"/{bin,dev,lib,lib64,mnt,modules,proc,run,sys}
    cp "$(linux_file "$system" bin/busybox)" "$(linux_file "$system" sbin/qemu-ga)" "$tree/bin/"
    loader=$(linux_file "$system" ld-linux-x86-64.so.2)
    cp "$loader" "$tree/lib64/"
    folders=$(find "$system" -name '*.so.*' -printf '%h\n' | sort -u | paste -s -d :)
    # The loader itself knows best which files it would load.
    "$loader" --library-path "$folders" --list "$tree/bin/qemu-ga" |
        sed -n 's/.* => \([^ ]*\) .*/\1/p' >"$system/libraries"
    while read -r file; do
        cp -L "$file" "$tree/lib/"
    done <"$system/libraries"
    # A module that there is not is built into the kernel.
    for module in $LINUX_MODULES; do
        file=$(linux_file "$system" "$module.ko*") || continue
        case $file in
        *.xz) xz -dc "$file" >"$tree/modules/$module.ko" ;;
        *) cp "$file" "$tree/modules/" ;;
        esac
    done
}

# linux_archive BUSYBOX TREE: prints the tree as a part of an initramfs; such parts can be put one
# after the other. By the guest's own busybox, because not every system has cpio.
linux_archive()
{
    (cd "$2" && find . | "$1" cpio -o -H newc -R 0:0 2>/dev/null)
}

# Fetches, unpacks and puts together what LINUX_BOOT has, if no test has done so before.
linux_prepare()
{
    local new=$LINUX_BOOT.new packages package
    exec {linux_lock}>"$LINUX_BOOT.lock"
    flock "$linux_lock"
    if [ ! -e "$LINUX_BOOT/initrd" ]; then
        rm -rf "$new" "$LINUX_BOOT"
        mkdir -p "$new/packages" "$new/system"
        packages=$(linux_packages) || skip "apt does not know the packages of the Linux guest"
        # shellcheck disable=SC2086 # a list
        (cd "$new/packages" && apt-get -q -o APT::Sandbox::User=root download $packages) \
            >"$new/log" 2>&1 || skip "apt-get cannot download: $(tail -n 1 "$new/log")"
        for package in "$new"/packages/*.deb; do
            dpkg-deb -x "$package" "$new/system"
        done
        linux_tree "$new/system" "$new/tree"
        cp "$new/tree/bin/busybox" "$(linux_file "$new/system" 'boot/vmlinuz-*')" "$new/"
        mv "$new"/vmlinuz-* "$new/vmlinuz"
        linux_archive "$new/busybox" "$new/tree" >"$new/initrd"
        rm -r "$new/packages" "$new/system" "$new/tree" "$new/log"
        mv "$new" "$LINUX_BOOT"
    fi
    exec {linux_lock}>&-
}

# ---- guests ----

# linux_disk FILE: a qcow2 image with an empty ext4 file system.
linux_disk()
{
    truncate -s 64M "$1.raw"
    mke2fs -q -F -t ext4 "$1.raw"
    qemu-img convert -f raw -O qcow2 "$1.raw" "$1"
    rm "$1.raw"
}

# linux_new NAME: defines the guest on the embedded driver, started when that is opened. Its disk is
# T/NAME-vda.qcow2.
linux_new()
{
    local name=$1 definition=$T/$1.disks file=$T/$1-vda.qcow2
    embed_prepare
    linux_prepare
    linux_disk "$file"
    mkdir "$T/$name.init"
    cp "$TESTS/guest/linux-init.sh" "$T/$name.init/init"
    chmod +x "$T/$name.init/init"
    linux_archive "$LINUX_BOOT/busybox" "$T/$name.init" | cat "$LINUX_BOOT/initrd" - \
        >"$T/$name.initrd"
    mkfifo "$T/$name.control.in" "$T/$name.control.out"
    sed -e "s|@FILE@|$file|" -e "s|@TARGET@|vda|" "$TESTS/guest/disk.xml.in" >"$definition"
    sed -e "/@DISKS@/{r $definition" -e 'd}' \
        -e "s|@NAME@|$name|g" -e "s|@UUID@|$(cat /proc/sys/kernel/random/uuid)|" \
        -e "s|@TYPE@|${GUEST_TYPE:-qemu}|" -e "s|@FOLDER@|$T|g" -e "s|@BOOT@|$LINUX_BOOT|" \
        "$TESTS/guest/domain-linux.xml.in" >"$ROOT/etc/qemu/$name.xml"
    ln -s "$ROOT/etc/qemu/$name.xml" "$ROOT/etc/qemu/autostart/$name.xml"
}

# linux_said NAME LINE: true once the guest's console has the line.
linux_said()
{
    tr -d '\r' <"$T/$1.serial" | grep -qax -e "$2"
}

linux_commands=0

# linux_do NAME COMMAND: the guest's first process runs the shell command, as root; returns when it
# has, whatever came of it.
linux_do()
{
    linux_commands=$((linux_commands + 1))
    echo "$2; echo did $linux_commands" >"$T/$1.control.in"
    wait_for 20 linux_said "$1" "did $linux_commands"
}

# linux_agent_connected NAME: true while libvirt knows of a connected agent.
linux_agent_connected()
{
    grep -q "org.qemu.guest_agent.0.*state='connected'" "$MNT/vms/$1/domain.xml"
}

# linux_written NAME: the greatest number that the guest's writer has said to be on disk.
linux_written()
{
    # The last line of all may be half a line.
    tr -d '\r' <"$T/$1.serial" | sed -e '$d' | sed -n 's/^wrote \([0-9]*\)$/\1/p' | tail -n 1
}

# linux_has_written NAME NUMBER: true once its writer has come further than that.
linux_has_written()
{
    local written
    written=$(linux_written "$1")
    [ "${written:-0}" -gt "$2" ]
}

# linux_goes_on NAME: returns when its writer has written more; fails the test if it is frozen.
linux_goes_on()
{
    wait_for 20 linux_has_written "$1" "$(linux_written "$1")"
}

# linux_hooks NAME: what the agent has done to the file systems: freeze thaw freeze thaw ...
linux_hooks()
{
    tr -d '\r' <"$T/$1.serial" | sed -n 's/^hook //p' | paste -s -d ' '
}

# linux_ready NAME: returns when the guest writes, and libvirt has heard of its agent.
linux_ready()
{
    ready "$1"
    wait_for 20 linux_agent_connected "$1"
}

# needs_recovery IMAGE: true when the ext4 file system in the raw image was in use.
needs_recovery()
{
    local header
    header=$(dumpe2fs -h "$1" 2>/dev/null)
    grep -q '^Filesystem features:.* has_journal' <<<"$header" || fail "no ext4 in $1: $header"
    grep -q '^Filesystem features:.* needs_recovery' <<<"$header"
}

#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The first and only script of the Linux guest of tests/guest/linux.sh. It mounts the disk on /mnt,
# starts the guest agent and a writer, and then does what is said on the virtio port "control": each
# line is a shell command. On the serial console it says
#
#     counting         the agent and the writer have been started
#     wrote N          N is in /mnt/journal, on disk
#     hook freeze      the agent is about to freeze; hook thaw: it has thawed
export PATH=/bin:/usr/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk \
    virtio_console; do
    # One that is not there is built in.
    [ ! -e "/modules/$module.ko" ] || insmod "/modules/$module.ko"
done

# port NAME: the device of the virtio port of that name; fails while there is none.
port()
{
    for folder in /sys/class/virtio-ports/*; do
        if [ "$(cat "$folder/name" 2>/dev/null)" = "$1" ]; then
            echo "/dev/${folder##*/}"
            return 0
        fi
    done
    return 1
}

write_on()
{
    number=0
    while :; do
        number=$((number + 1))
        echo "$number" >>/mnt/journal
        sync
        echo "wrote $number"
    done
}

cat >/hook <<'END'
#!/bin/busybox sh
echo "hook $1" >/dev/console
END
chmod +x /hook

until [ -b /dev/vda ] && port control && port org.qemu.guest_agent.0; do
    usleep 10000
done >/dev/null
mount -t ext4 /dev/vda /mnt
qemu-ga -m virtio-serial -p "$(port org.qemu.guest_agent.0)" -t /run -F/hook &
write_on &
echo counting
while read -r line; do
    eval "$line"
done <"$(port control)"

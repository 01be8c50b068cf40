# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A libvirtd of the test's own, for test-libvirtd-*.sh; bash, after functions.sh; only for root. It
# runs in a mount namespace where its configuration and state are empty folders, so that it neither
# sees nor disturbs one that runs here, nor any VM that a test did not make. QEMU runs as libvirt's
# own user, as it does in earnest.

LIBVIRTD_DIR=$T/libvirtd
LIBVIRTD_URI="qemu+unix:///system?socket=$LIBVIRTD_DIR/sock/libvirt-sock"
libvirtd_namespace= # process that keeps the mount namespace
libvirtd_pid=

libvirtd_write_config()
{
    cat >"$LIBVIRTD_DIR/libvirtd.conf" <<END
unix_sock_dir = "$LIBVIRTD_DIR/sock"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
auth_unix_rw = "none"
log_outputs = "2:file:$LIBVIRTD_DIR/libvirtd.log"
END
    # As in qemu.conf of the embedded driver, except for the user.
    cat >"$LIBVIRTD_DIR/qemu.conf" <<END
stdio_handler = "file"
security_driver = "none"
remember_owner = 0
namespaces = [ ]
cgroup_controllers = [ ]
END
}

namespace_is_ready()
{
    [ -e "$LIBVIRTD_DIR/ready" ] || ! kill -0 "$libvirtd_namespace" 2>/dev/null
}

# The namespace lives as long as one process in it: a daemon that is restarted finds its files.
libvirtd_enter_namespace()
{
    unshare -m --propagation private true 2>/dev/null || skip "no mount namespaces here"
    # What libvirt learns by probing QEMU takes it seconds; all tests of a build share it.
    mkdir -p "$BUILD_DIR/libvirtd-cache"
    # shellcheck disable=SC2016
    unshare -m --propagation private bash -c '
        set -e
        # The namespace began with a copy of all mounts: it must not keep those of other tests,
        # which would not end when they unmount.
        while read -r _ mount type _; do
            [ "$type" != fuse.refpointfs ] || umount -l "$mount"
        done </proc/self/mounts
        for folder in /etc/libvirt /var/lib/libvirt /var/log/libvirt /run/libvirt; do
            mkdir -p "$folder"
            mount -t tmpfs -o mode=755 tmpfs "$folder"
        done
        # When root may use KVM but the user of QEMU may not, libvirt probes QEMU anew each time.
        if [ -c /dev/kvm ]; then
            mknod -m 666 /run/libvirt/kvm c 10 232
            mount --bind /run/libvirt/kvm /dev/kvm
        fi
        mkdir -p /var/cache/libvirt
        mount --bind "$2" /var/cache/libvirt
        cp "$1"/*.conf /etc/libvirt/
        : >"$1/ready"
        exec sleep infinity' bash "$LIBVIRTD_DIR" "$BUILD_DIR/libvirtd-cache" &
    libvirtd_namespace=$!
    disown # its end is no news
    wait_for 10 namespace_is_ready
    [ -e "$LIBVIRTD_DIR/ready" ] || skip "cannot mount in a namespace of its own"
}

# libvirtd_start: skips the test where there is no libvirtd. Call it once; then libvirtd_stop and
# libvirtd_run as often as the test likes.
libvirtd_start()
{
    requires libvirtd virsh qemu-system-x86_64 qemu-img unshare nsenter
    [ "$(id -u)" = 0 ] || skip "only root can give libvirtd folders of its own"
    id libvirt-qemu >/dev/null 2>&1 || skip "libvirt's QEMU does not run as libvirt-qemu here"
    mkdir -p "$LIBVIRTD_DIR/sock"
    libvirtd_write_config
    cleanup_fn libvirtd_end
    # QEMU runs as another user, gets at the images, and makes a monitor's socket beside them.
    chown libvirt-qemu "$T"
    chmod 711 "$T" "$LIBVIRTD_DIR"
    libvirtd_enter_namespace
    libvirtd_run
}

libvirtd_answers()
{
    kill -0 "$libvirtd_pid" 2>/dev/null ||
        fail "libvirtd ended: $(cat "$LIBVIRTD_DIR"/libvirtd.{out,log} 2>/dev/null)"
    virsh_ uri >/dev/null 2>&1
}

libvirtd_run()
{
    nsenter -t "$libvirtd_namespace" -m -- libvirtd -f "$LIBVIRTD_DIR/libvirtd.conf" \
        -p "$LIBVIRTD_DIR/libvirtd.pid" >>"$LIBVIRTD_DIR/libvirtd.out" 2>&1 &
    libvirtd_pid=$!
    disown
    wait_for 30 libvirtd_answers
}

# libvirtd_stop [SIGNAL]: ends the daemon; its guests go on.
libvirtd_stop()
{
    kill "-${1:-TERM}" "$libvirtd_pid"
    wait_for 20 process_is_gone "$libvirtd_pid"
    libvirtd_pid=
}

# virsh_ COMMAND ARG...: virsh on the test's libvirtd.
virsh_()
{
    virsh -q -c "$LIBVIRTD_URI" "$@"
}

# Ends daemon, guests and namespace.
libvirtd_end()
{
    local pid
    if [ -n "$libvirtd_pid" ] && ! process_is_gone "$libvirtd_pid"; then
        kill -KILL "$libvirtd_pid"
        wait_for 10 process_is_gone "$libvirtd_pid"
    fi
    # QEMU outlives the daemon. T, which only this test's guests are called with, tells them apart.
    for pid in $(grep -lzF "path=$T/" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
        case $(readlink "/proc/$pid/exe") in
        */qemu-system-*)
            kill -KILL "$pid"
            wait_for 10 process_is_gone "$pid"
            ;;
        esac
    done
    if [ -n "$libvirtd_namespace" ] && ! process_is_gone "$libvirtd_namespace"; then
        kill -KILL "$libvirtd_namespace"
        wait_for 10 process_is_gone "$libvirtd_namespace"
    fi
}

# virsh_guest NAME [--disks N] [--size S]: defines, with virsh, the guest that guest_new describes.
virsh_guest()
{
    guest_new "$@"
    # The embedded driver shall not have it.
    mv "$ROOT/etc/qemu/$1.xml" "$T/$1.xml"
    rm "$ROOT/etc/qemu/autostart/$1.xml"
    chown libvirt-qemu: "$T/$1"-*.qcow2
    virsh_ define "$T/$1.xml" >/dev/null
}

# virsh_add NAME XML: one more device in the definition of a guest.
virsh_add()
{
    virsh_ dumpxml --inactive "$1" |
        XML=$2 awk '/<\/devices>/ {print ENVIRON["XML"]} {print}' >"$T/$1.added"
    virsh_ define "$T/$1.added" >/dev/null
}

# disk_xml TYPE FORMAT TARGET SOURCE-ELEMENT: a disk for it.
disk_xml()
{
    echo "<disk type='$1' device='disk'><driver name='qemu' type='$2'/>$4" \
        "<target dev='$3' bus='virtio'/></disk>"
}

# foreign_backup_xml: what another program begins a backup job of web1 with, to be served at
# T/foreign.sock.
foreign_backup_xml()
{
    cat <<END
<domainbackup mode='pull'>
  <server transport='unix' socket='$T/foreign.sock'/>
  <disks><disk name='vda' type='file'><scratch file='$T/foreign.scratch'/></disk></disks>
</domainbackup>
END
}

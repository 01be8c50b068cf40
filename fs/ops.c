// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The operations that libfuse calls: each decodes its arguments, calls tree, handle or spool-ops,
 * and replies exactly once. Knows no file. Runs in the threads of FUSE's loop, which must never
 * wait: what is slow goes to the lane.
 */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "mount.h"
#include "names.h"
#include "replace.h"
#include "spool-ops.h"

/*
 * What the kernel sends for nobody who waits: reads ahead, and releases. Its own limit of 12 would
 * be that of reads of a disk, too; and below the number of readers who open and close, their
 * releases fall behind, and the files stay open here.
 */
#define BACKGROUND_MAX 1024

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* What is open is a file of a held disk, or (NULL) one of all the others. */
static struct disk_file *disk_of(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi)
{
    struct node node;

    if (spool_is_inode(ino) || tree_node(&mount_of(req)->tree, ino, &node) < 0 || !node.attr->blob)
        return NULL;
    return (struct disk_file *)(uintptr_t)fi->fh;
}

/* ---- attributes ---- */

int mount_fill_entry(const struct mount *mount, const struct node *node,
                     struct fuse_entry_param *ret_entry)
{
    struct policy policy = tree_policy(node);
    struct fuse_entry_param entry = {
        .ino = tree_inode(node),
        .generation = 1, /* an inode number is never used again */
        .entry_timeout = policy.entry_timeout,
        .attr_timeout = policy.entry_attr_timeout,
    };
    int ret = tree_stat(&mount->tree, node, &entry.attr);

    if (ret < 0)
        return ret;
    *ret_entry = entry;
    return 0;
}

static void reply_attr(fuse_req_t req, const struct tree *tree, const struct node *node)
{
    struct policy policy = tree_policy(node);
    struct stat st;
    int ret = tree_stat(tree, node, &st);

    /* fstat(2) comes without its file. A name would have been looked up before, and not found. */
    if (ret == -ENOENT && node->attr->blob)
        ret = -ENODEV;
    if (ret < 0)
        fuse_reply_err(req, -mount_stale(ret));
    else
        fuse_reply_attr(req, &st, policy.attr_timeout);
}

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct mount *mount = mount_of(req);
    struct node node;
    struct stat st;
    int ret = tree_node(&mount->tree, ino, &node);

    if (spool_is_inode(ino)) {
        spool_ops_getattr(req, ino);
        return;
    }
    if (ret < 0) {
        fuse_reply_err(req, -ret);
        return;
    }
    if (!fi || tree_is_dir(&node)) {
        reply_attr(req, &mount->tree, &node);
        return;
    }
    /* What a file shows that was opened earlier is no answer to who asks for it by name. */
    struct policy policy = tree_policy(&node);
    double timeout = node.attr->blob || policy.keep_pages ? policy.attr_timeout : 0;
    ret = node.attr->blob ? disk_stat(disk_of(req, ino, fi), &st) : handle_stat(handle_of(fi), &st);
    if (ret < 0)
        fuse_reply_err(req, -mount_stale(ret));
    else
        fuse_reply_attr(req, &st, timeout);
}

/*
 * Programs that save a file set its mode and times afterwards, and fail when they may not: for
 * what can be written that succeeds and changes nothing. A truncation without a handle is only the
 * shadow of an open with O_TRUNC.
 */
static void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                        struct fuse_file_info *fi)
{
    struct mount *mount = mount_of(req);
    struct node node;
    int ret = tree_node(&mount->tree, ino, &node);

    if (spool_is_inode(ino))
        spool_ops_setattr(req, ino, attr, to_set);
    else if (ret < 0)
        fuse_reply_err(req, -ret);
    else if (!node.attr->store)
        fuse_reply_err(req, EPERM);
    else if (fi && (to_set & FUSE_SET_ATTR_SIZE))
        handle_truncate(handle_of(fi), req, attr->st_size);
    else
        reply_attr(req, &mount->tree, &node);
}

static void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
    /* No blocks at all, like procfs: "no space left" is not what a file manager should fear. */
    struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = RP_NAME_SIZE - 1};

    (void)ino;
    fuse_reply_statfs(req, &st);
}

/* ---- open files ---- */

int mount_open(fuse_req_t req, const struct node *node, struct fuse_file_info *fi)
{
    struct rp_error e = RP_ERROR_INIT;
    struct caller caller = {0};
    struct handle *handle;
    int ret;

    /* The text is committed for who opens the file: RELEASE no longer says who wrote it. */
    if ((fi->flags & O_ACCMODE) != O_RDONLY)
        caller = mount_caller(req);
    ret = handle_open(mount_of(req)->handles, node, fi->flags, &caller, &handle, &e);
    if (ret < 0)
        return mount_stale(ret);
    fi->fh = (uintptr_t)handle;
    handle_set_mode(handle, fi);
    return 0;
}

void mount_drop(struct mount *mount, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (spool_is_inode(ino))
        spool_close(mount->spool, (struct spool_file *)(uintptr_t)fi->fh);
    else
        handle_drop(handle_of(fi));
}

static void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct mount *mount = mount_of(req);
    struct node node;
    int ret;

    if (spool_is_inode(ino)) {
        ret = spool_ops_open(req, ino, fi);
    } else {
        ret = tree_node(&mount->tree, ino, &node);
        if (ret == 0 && node.attr->blob) {
            disk_open(mount->disks, req, &node, fi);
            return;
        }
        if (ret == 0)
            ret = mount_open(req, &node, fi);
    }
    if (ret < 0)
        fuse_reply_err(req, -ret);
    else if (fuse_reply_open(req, fi) == -ENOENT)
        mount_drop(mount, ino, fi);
}

static void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    struct disk_file *disk = disk_of(req, ino, fi);

    if (disk)
        disk_read(disk, req, size, offset);
    else if (spool_is_inode(ino))
        spool_ops_read(req, size, offset, fi);
    else
        handle_read(handle_of(fi), req, size, offset, fi->flags);
}

static void ops_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                      struct fuse_file_info *fi)
{
    if (spool_is_inode(ino))
        spool_ops_write(req, data, size, offset, fi);
    else
        handle_write(handle_of(fi), req, data, size, offset);
}

static void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (spool_is_inode(ino) || disk_of(req, ino, fi))
        fuse_reply_err(req, 0);
    else
        handle_check(handle_of(fi), req);
}

static void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    ops_flush(req, ino, fi);
}

static void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct disk_file *disk = disk_of(req, ino, fi);

    if (disk)
        disk_close(disk, req);
    else if (spool_is_inode(ino))
        spool_ops_release(req, fi);
    else
        handle_close(handle_of(fi), req);
}

static void ops_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
                     struct fuse_pollhandle *poll)
{
    if (spool_is_inode(ino)) {
        spool_ops_poll(req, poll);
    } else if (disk_of(req, ino, fi)) {
        if (poll)
            fuse_pollhandle_destroy(poll);
        fuse_reply_poll(req, POLLIN | POLLRDNORM);
    } else {
        handle_poll(handle_of(fi), req, poll);
    }
}

/* For a text as for any file without holes: were this left out, disks could not have it either. */
static void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                      struct fuse_file_info *fi)
{
    struct disk_file *disk = disk_of(req, ino, fi);
    struct stat st;
    int ret;

    if (disk) {
        disk_seek(disk, req, offset, whence);
        return;
    }
    ret = spool_is_inode(ino) ? spool_stat(mount_of(req)->spool, ino, &st)
                              : handle_stat(handle_of(fi), &st);
    if (ret == 0 && offset >= st.st_size)
        ret = -ENXIO;
    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_lseek(req, whence == SEEK_DATA ? offset : st.st_size);
}

/*
 * Left out altogether are only operations whose ENOSYS the kernel keeps to itself: extended
 * attributes (asked for once and never again), ioctl, locks, fallocate, copy_file_range.
 */
static void ops_init(void *opaque, struct fuse_conn_info *conn)
{
    (void)opaque;
    conn->max_background = BACKGROUND_MAX;
    conn->congestion_threshold = BACKGROUND_MAX;
}

static const struct fuse_lowlevel_ops table = {
    .init = ops_init,
    .lookup = names_lookup,
    .getattr = ops_getattr,
    .setattr = ops_setattr,
    .statfs = ops_statfs,
    .readdir = names_readdir,
    .mkdir = names_mkdir,
    .rmdir = names_rmdir,
    .open = ops_open,
    .read = ops_read,
    .write = ops_write,
    .flush = ops_flush,
    .fsync = ops_fsync,
    .release = ops_release,
    .poll = ops_poll,
    .lseek = ops_lseek,
    .create = replace_create,
    .unlink = replace_unlink,
    .rename = replace_rename,
    .mknod = names_mknod,
    .symlink = names_symlink,
    .link = names_link,
};

const struct fuse_lowlevel_ops *ops_table(void)
{
    return &table;
}

/* ---- the mount ---- */

struct caller mount_caller(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct caller caller = {.uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid};
    int n = fuse_req_getgroups(req, CALLER_GROUPS_MAX, caller.groups);

    /* More groups than there is room for are fewer rights, never other ones. */
    if (n > 0)
        caller.ngroups = n > CALLER_GROUPS_MAX ? CALLER_GROUPS_MAX : (size_t)n;
    return caller;
}

struct mount *ops_new(const struct options *options)
{
    struct mount *mount = calloc(1, sizeof *mount);

    if (!mount)
        return NULL;
    tree_init(&mount->tree, options);
    mount->answers = answers_new();
    if (mount->answers) {
        mount->lane = lane_new(mount->answers);
        mount->waits = waits_new(&mount->tree, mount->answers);
    }
    mount->spool = spool_new();
    if (mount->lane && mount->waits && mount->spool) {
        mount->handles = handles_new(&mount->tree, mount->lane, mount->waits);
        mount->disks = disks_new(&mount->tree, mount->lane, mount->answers);
    }
    if (!mount->handles || !mount->disks) {
        ops_free(mount);
        return NULL;
    }
    return mount;
}

void ops_set_session(struct mount *mount, struct fuse_session *session)
{
    mount->cache.session = session;
}

void ops_set_backend(struct mount *mount, struct backend *backend)
{
    mount->tree.backend = backend;
}

void ops_changed(void *opaque, uint64_t serial, unsigned topics)
{
    struct mount *mount = opaque;

    cache_changed(&mount->cache, serial);
    wait_changed(mount->waits, serial, topics);
    handle_changed(mount->handles, serial, topics);
}

void ops_stop(struct mount *mount)
{
    cache_stop(&mount->cache);
    handles_stop(mount->handles);
    waits_stop(mount->waits);
}

void ops_drain(struct mount *mount)
{
    lane_free(mount->lane);
    mount->lane = NULL;
    disks_free(mount->disks);
    mount->disks = NULL;
}

void ops_free(struct mount *mount)
{
    if (!mount)
        return;
    ops_drain(mount);
    handles_free(mount->handles);
    spool_free(mount->spool);
    waits_free(mount->waits);
    answers_free(mount->answers);
    free(mount);
}

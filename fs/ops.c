// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The operations that libfuse calls: each decodes its arguments, calls tree, names or handle, and
 * replies exactly once. Knows no file. Runs in the threads of FUSE's loop, which must never wait:
 * what is slow goes to the lane.
 */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "mount.h"
#include "names.h"

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* ---- attributes ---- */

static void reply_attr(fuse_req_t req, const struct tree *tree, const struct node *node)
{
    struct stat st;
    int ret = tree_stat(tree, node, &st);

    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_attr(req, &st, tree_policy(node).attr_timeout);
}

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct mount *mount = mount_of(req);
    struct node node;
    struct stat st;
    int ret = tree_node(&mount->tree, ino, &node);

    if (ret < 0) {
        fuse_reply_err(req, -ret);
        return;
    }
    if (!fi || tree_is_dir(&node)) {
        reply_attr(req, &mount->tree, &node);
        return;
    }
    ret = handle_stat(handle_of(fi), &st);
    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_attr(req, &st, tree_policy(&node).attr_timeout);
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

    if (ret < 0)
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

static void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct mount *mount = mount_of(req);
    struct rp_error e = RP_ERROR_INIT;
    struct caller caller = {0};
    struct handle *handle;
    struct node node;
    int ret = tree_node(&mount->tree, ino, &node);

    /* The text is committed for who opens the file: RELEASE no longer says who wrote it. */
    if ((fi->flags & O_ACCMODE) != O_RDONLY)
        caller = mount_caller(req);
    if (ret == 0)
        ret = handle_open(mount->handles, &node, fi->flags, &caller, &handle, &e);
    if (ret < 0) {
        fuse_reply_err(req, -ret);
        return;
    }
    fi->fh = (uintptr_t)handle;
    fi->direct_io = tree_policy(&node).direct_io;
    /* The caller was interrupted meanwhile: there will be no RELEASE. */
    if (fuse_reply_open(req, fi) == -ENOENT)
        handle_drop(handle);
}

static void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    (void)ino;
    handle_read(handle_of(fi), req, size, offset, fi->flags);
}

static void ops_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                      struct fuse_file_info *fi)
{
    (void)ino;
    handle_write(handle_of(fi), req, data, size, offset);
}

static void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_check(handle_of(fi), req);
}

static void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino, (void)datasync;
    handle_check(handle_of(fi), req);
}

static void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_close(handle_of(fi), req);
}

static void ops_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
                     struct fuse_pollhandle *poll)
{
    (void)ino;
    handle_poll(handle_of(fi), req, poll);
}

/*
 * Left out altogether are only operations whose ENOSYS the kernel keeps to itself: extended
 * attributes (asked for once and never again), ioctl, locks, fallocate, copy_file_range, lseek.
 */
static const struct fuse_lowlevel_ops table = {
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
    .create = names_create,
    .unlink = names_unlink,
    .rename = names_rename,
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
    if (mount->lane && mount->waits)
        mount->handles = handles_new(&mount->tree, mount->lane, mount->waits);
    if (!mount->handles) {
        ops_free(mount);
        return NULL;
    }
    return mount;
}

void ops_set_backend(struct mount *mount, struct backend *backend)
{
    mount->tree.backend = backend;
}

void ops_changed(void *opaque, uint64_t serial, unsigned topics)
{
    struct mount *mount = opaque;

    wait_changed(mount->waits, serial, topics);
    handle_changed(mount->handles, serial, topics);
}

void ops_stop(struct mount *mount)
{
    handles_stop(mount->handles);
    waits_stop(mount->waits);
}

void ops_drain(struct mount *mount)
{
    lane_free(mount->lane);
    mount->lane = NULL;
}

void ops_free(struct mount *mount)
{
    if (!mount)
        return;
    ops_drain(mount);
    handles_free(mount->handles);
    waits_free(mount->waits);
    answers_free(mount->answers);
    free(mount);
}

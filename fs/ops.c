// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The operations that libfuse calls: each decodes its arguments, calls tree or handle, and replies
 * exactly once. Knows no file. Runs in the threads of FUSE's loop, which must never wait: what is
 * slow goes to the lane.
 */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "handle.h"
#include "lane.h"
#include "log.h"
#include "wait.h"

struct mount {
    struct tree tree;
    struct answers *answers;
    struct lane *lane;
    struct waits *waits;
    struct handles *handles;
};

/*
 * Looking at a list that has to be fetched is bounded by a fraction of a second; an interrupt is
 * answered at once only where the wait may be long: mkdir and rmdir.
 */
#define LIST_GRACE_MS 1000

static struct mount *mount_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

static struct caller caller_of(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct caller caller = {.uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid};
    int n = fuse_req_getgroups(req, CALLER_GROUPS_MAX, caller.groups);

    /* More groups than there is room for are fewer rights, never other ones. */
    if (n > 0)
        caller.ngroups = n > CALLER_GROUPS_MAX ? CALLER_GROUPS_MAX : (size_t)n;
    return caller;
}

/* ---- names ---- */

static void reply_entry(fuse_req_t req, const struct tree *tree, const struct node *node)
{
    struct policy policy = tree_policy(node);
    struct fuse_entry_param entry = {
        .ino = tree_inode(node),
        .generation = 1, /* an inode number is never used again */
        .entry_timeout = policy.entry_timeout,
        .attr_timeout = policy.attr_timeout,
    };
    int ret = tree_stat(tree, node, &entry.attr);

    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_entry(req, &entry);
}

static void reply_lookup(fuse_req_t req, const struct tree *tree, const struct node *dir,
                         const char *name)
{
    struct node node;
    int ret = tree_lookup(tree, dir, name, &node);

    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        reply_entry(req, tree, &node);
}

/* An operation on a directory that may have to wait. */
struct dir_op {
    struct lane_op op; /* first: see the casts */
    struct mount *mount;
    struct node dir;
    struct caller caller;
    size_t size;
    off_t offset;
    char name[RP_NAME_SIZE];
};

static struct dir_op *new_op(struct mount *mount, const struct node *dir, const char *name,
                             void (*work)(struct lane_op *))
{
    struct dir_op *op = calloc(1, sizeof *op);

    if (!op)
        return NULL;
    op->op.work = work;
    op->op.droppable = true;
    op->mount = mount;
    op->dir = *dir;
    memcpy(op->name, name, strlen(name) + 1);
    return op;
}

/* `op` may be NULL: no memory. */
static void submit(fuse_req_t req, struct dir_op *op, unsigned grace_ms)
{
    if (op)
        lane_submit(op->mount->lane, NULL, &op->op, req, grace_ms);
    else
        fuse_reply_err(req, ENOMEM);
}

/* Many may have waited for the thread, and one refresh does for all. */
static void refresh_if_stale(const struct node *dir)
{
    if (tree_is_stale(dir))
        tree_refresh(dir);
}

static void work_lookup(struct lane_op *lane_op)
{
    struct dir_op *op = (struct dir_op *)lane_op;

    refresh_if_stale(&op->dir);
    if (answer_claim(&op->op.answer))
        reply_lookup(op->op.answer.req, &op->mount->tree, &op->dir, op->name);
}

static void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = mount_of(req);
    struct node dir;

    if (tree_node(&mount->tree, parent, &dir) < 0)
        fuse_reply_err(req, ENOENT);
    else if (strlen(name) >= RP_NAME_SIZE)
        fuse_reply_err(req, ENAMETOOLONG);
    else if (tree_is_stale(&dir))
        submit(req, new_op(mount, &dir, name, work_lookup), LIST_GRACE_MS);
    else
        reply_lookup(req, &mount->tree, &dir, name);
}

static void log_failure(const struct node *dir, const char *name, const struct rp_error *e)
{
    char what[512];

    tree_describe(dir, what, sizeof what);
    log_message(LOG_INFO, "%s/%s: %s", what, name, e->message);
}

static void work_mkdir(struct lane_op *lane_op)
{
    struct dir_op *op = (struct dir_op *)lane_op;
    struct rp_error e = RP_ERROR_INIT;
    uint64_t serial;
    int ret = op->dir.attr->make(&op->dir, op->name, &op->caller, &serial, &e);

    if (ret < 0)
        log_failure(&op->dir, op->name, &e);
    if (!answer_claim(&op->op.answer))
        return;
    if (ret < 0)
        fuse_reply_err(op->op.answer.req, -ret);
    else
        reply_lookup(op->op.answer.req, &op->mount->tree, &op->dir, op->name);
}

/* The mode asked for is ignored: what stands in a directory decides who may do what with it. */
static void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct mount *mount = mount_of(req);
    struct node dir;

    (void)mode;
    if (tree_node(&mount->tree, parent, &dir) < 0)
        fuse_reply_err(req, ENOENT);
    else if (!dir.attr->make)
        fuse_reply_err(req, EPERM);
    else if (strlen(name) >= RP_NAME_SIZE)
        fuse_reply_err(req, ENAMETOOLONG);
    else {
        struct dir_op *op = new_op(mount, &dir, name, work_mkdir);
        if (op)
            op->caller = caller_of(req);
        submit(req, op, 0);
    }
}

static void work_rmdir(struct lane_op *lane_op)
{
    struct dir_op *op = (struct dir_op *)lane_op;
    struct rp_error e = RP_ERROR_INIT;
    struct node node;
    int ret = tree_lookup(&op->mount->tree, &op->dir, op->name, &node);

    if (ret == 0) {
        ret = op->dir.attr->remove(&op->dir, node.serial, &e);
        if (ret < 0)
            log_failure(&op->dir, op->name, &e);
    }
    if (answer_claim(&op->op.answer))
        fuse_reply_err(op->op.answer.req, -ret);
}

static void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = mount_of(req);
    struct node dir;

    if (tree_node(&mount->tree, parent, &dir) < 0)
        fuse_reply_err(req, ENOENT);
    else if (!dir.attr->remove)
        fuse_reply_err(req, EPERM);
    else if (strlen(name) >= RP_NAME_SIZE)
        fuse_reply_err(req, ENAMETOOLONG);
    else
        submit(req, new_op(mount, &dir, name, work_rmdir), 0);
}

/* ---- listings ---- */

struct listing {
    fuse_req_t req;
    char *buffer;
    size_t size, used;
};

static bool add_entry(void *opaque, const char *name, uint64_t inode, mode_t mode, off_t next)
{
    struct listing *listing = opaque;
    struct stat st = {.st_ino = inode, .st_mode = mode};
    size_t room = listing->size - listing->used;
    size_t need =
        fuse_add_direntry(listing->req, listing->buffer + listing->used, room, name, &st, next);

    if (need > room)
        return false;
    listing->used += need;
    return true;
}

static void reply_list(fuse_req_t req, const struct tree *tree, const struct node *dir, size_t size,
                       off_t offset)
{
    struct listing listing = {.req = req, .buffer = malloc(size), .size = size};
    int ret = listing.buffer ? tree_list(tree, dir, offset, add_entry, &listing) : -ENOMEM;

    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_buf(req, listing.buffer, listing.used);
    free(listing.buffer);
}

static void work_readdir(struct lane_op *lane_op)
{
    struct dir_op *op = (struct dir_op *)lane_op;

    refresh_if_stale(&op->dir);
    if (answer_claim(&op->op.answer))
        reply_list(op->op.answer.req, &op->mount->tree, &op->dir, op->size, op->offset);
}

static void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                        struct fuse_file_info *fi)
{
    struct mount *mount = mount_of(req);
    struct dir_op *op;
    struct node dir;

    (void)fi;
    if (tree_node(&mount->tree, ino, &dir) < 0) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    /* A listing that has begun goes on with what it began with. */
    if (offset > 0 || !tree_is_stale(&dir)) {
        reply_list(req, &mount->tree, &dir, size, offset);
        return;
    }
    op = new_op(mount, &dir, "", work_readdir);
    if (op) {
        op->size = size;
        op->offset = offset;
    }
    submit(req, op, LIST_GRACE_MS);
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
        caller = caller_of(req);
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
 * ---- what there is none of ----
 *
 * Left out altogether are only operations whose ENOSYS the kernel keeps to itself: extended
 * attributes (asked for once and never again), ioctl, locks, fallocate, copy_file_range, lseek.
 */

static void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                       struct fuse_file_info *fi)
{
    (void)parent, (void)name, (void)mode, (void)fi;
    fuse_reply_err(req, EACCES);
}

static void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent, (void)name;
    fuse_reply_err(req, EACCES);
}

static void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                       const char *new_name, unsigned flags)
{
    (void)parent, (void)name, (void)new_parent, (void)new_name, (void)flags;
    fuse_reply_err(req, EACCES);
}

static void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)parent, (void)name, (void)mode, (void)rdev;
    fuse_reply_err(req, EPERM);
}

static void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    (void)target, (void)parent, (void)name;
    fuse_reply_err(req, EPERM);
}

static void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
    (void)ino, (void)new_parent, (void)new_name;
    fuse_reply_err(req, EPERM);
}

static const struct fuse_lowlevel_ops table = {
    .lookup = ops_lookup,
    .getattr = ops_getattr,
    .setattr = ops_setattr,
    .statfs = ops_statfs,
    .readdir = ops_readdir,
    .mkdir = ops_mkdir,
    .rmdir = ops_rmdir,
    .open = ops_open,
    .read = ops_read,
    .write = ops_write,
    .flush = ops_flush,
    .fsync = ops_fsync,
    .release = ops_release,
    .poll = ops_poll,
    .create = ops_create,
    .unlink = ops_unlink,
    .rename = ops_rename,
    .mknod = ops_mknod,
    .symlink = ops_symlink,
    .link = ops_link,
};

const struct fuse_lowlevel_ops *ops_table(void)
{
    return &table;
}

/* ---- the mount ---- */

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

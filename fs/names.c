// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Requests on names: looking them up, listing them, making and removing objects by mkdir and rmdir
 * (names.h). Knows rows and objects, no file. Runs in the threads of FUSE's loop, which must never
 * wait: what is slow goes to the lane.
 */
#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mount.h"
#include "spool-ops.h"

/*
 * Looking at a list that has to be fetched is bounded by a fraction of a second; an interrupt is
 * answered at once only where the wait may be long: mkdir and rmdir.
 */
#define LIST_GRACE_MS 1000

static void reply_entry(fuse_req_t req, const struct node *node)
{
    struct fuse_entry_param entry;
    int ret = mount_fill_entry(mount_of(req), node, &entry);

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

    if (ret == -ENOENT && !tree_exists(dir))
        ret = -ESTALE;
    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        reply_entry(req, &node);
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

void names_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = mount_of(req);
    struct node dir, node;

    if (tree_node(&mount->tree, parent, &dir) < 0) {
        fuse_reply_err(req, ENOENT);
    } else if (strlen(name) >= RP_NAME_SIZE) {
        fuse_reply_err(req, ENAMETOOLONG);
    } else if (!tree_is_stale(&dir)) {
        if (!spool_ops_lookup(req, parent, name))
            reply_lookup(req, &mount->tree, &dir, name);
    } else if (tree_is_whole_when_found(&dir) &&
               tree_lookup(&mount->tree, &dir, name, &node) == 0) {
        /* Only a name that is missing may be too new to be known. */
        tree_refresh_later(&dir);
        reply_entry(req, &node);
    } else {
        submit(req, new_op(mount, &dir, name, work_lookup), LIST_GRACE_MS);
    }
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

void names_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
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
            op->caller = mount_caller(req);
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

void names_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
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
    fuse_ino_t dir;
    char *buffer;
    size_t size, used;
};

static bool add_entry(void *opaque, const char *name, uint64_t inode, mode_t mode, off_t next)
{
    struct listing *listing = opaque;
    struct stat st = {.st_ino = inode, .st_mode = mode};
    size_t room = listing->size - listing->used;
    size_t need;

    if (spool_ops_hides(listing->req, listing->dir, name))
        return true;
    need = fuse_add_direntry(listing->req, listing->buffer + listing->used, room, name, &st, next);

    if (need > room)
        return false;
    listing->used += need;
    return true;
}

static void reply_list(fuse_req_t req, const struct tree *tree, const struct node *dir, size_t size,
                       off_t offset)
{
    struct listing listing = {
        .req = req,
        .dir = tree_inode(dir),
        .buffer = malloc(size),
        .size = size,
    };
    int ret = listing.buffer ? tree_list(tree, dir, offset, add_entry, &listing) : -ENOMEM;

    if (ret < 0)
        fuse_reply_err(req, -mount_stale(ret));
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

void names_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
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

/* ---- what there is none of: refused as not permitted, never as not implemented ---- */

void names_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)parent, (void)name, (void)mode, (void)rdev;
    fuse_reply_err(req, EPERM);
}

void names_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    (void)target, (void)parent, (void)name;
    fuse_reply_err(req, EPERM);
}

void names_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
    (void)ino, (void)new_parent, (void)new_name;
    fuse_reply_err(req, EPERM);
}

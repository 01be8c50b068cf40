// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * CREATE, UNLINK and RENAME (replace.h). Knows rows, and that one may have a store; not what it
 * means. FUSE's threads, but for the judging and committing of a text, which is slow: the lane.
 *
 * A file that can be written is always there in truth. Removed or renamed it is only hidden, from
 * the user who did that and for a second at most, until it is created again.
 */
#include "replace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mount.h"
#include "spool-ops.h"
#include "store.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* As for WRITE (handle.c): signals are everyday, and an interrupted rename goes on. */
#define RENAME_GRACE_MS 1000

/* What is said of a name in a directory of the tree, before spool files are asked for. */
struct place {
    struct mount *mount;
    struct node dir;
    struct spool_key key;
    bool is_row;
    struct node row;
    bool is_hidden; /* the row, from this user */
};

static int find_place(fuse_req_t req, fuse_ino_t parent, const char *name, struct place *ret_place)
{
    struct mount *mount = mount_of(req);
    struct place place = {.mount = mount, .key = spool_ops_key(req, parent, name)};
    struct stat st;
    int ret = tree_node(&mount->tree, parent, &place.dir);

    if (ret == 0)
        ret = tree_stat_sizeless(&mount->tree, &place.dir, &st);
    if (ret < 0)
        return ret;
    if (!tree_has_stores(&place.dir))
        return -EACCES;
    if (strlen(name) >= RP_NAME_SIZE)
        return -ENAMETOOLONG;
    place.is_row = tree_lookup(&mount->tree, &place.dir, name, &place.row) == 0;
    place.is_hidden = place.is_row && spool_lookup(mount->spool, &place.key, &st) == SPOOL_HIDDEN;
    *ret_place = place;
    return 0;
}

/* ---- create ---- */

static int create_row(fuse_req_t req, const struct place *place, struct fuse_file_info *fi,
                      struct fuse_entry_param *entry)
{
    int ret;

    if (!place->row.attr->store)
        return -EEXIST;
    ret = mount_fill_entry(place->mount, &place->row, entry);
    if (ret == 0)
        ret = mount_open(req, &place->row, fi);
    if (ret == 0)
        spool_show(place->mount->spool, &place->key);
    return ret;
}

void replace_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                    struct fuse_file_info *fi)
{
    struct fuse_entry_param entry;
    struct place place;
    int ret = find_place(req, parent, name, &place);

    if (ret == 0 && place.is_row)
        ret = create_row(req, &place, fi, &entry);
    else if (ret == 0)
        ret = spool_ops_create(req, &place.key, mode, fi, &entry);
    if (ret < 0)
        fuse_reply_err(req, -ret);
    else if (fuse_reply_create(req, &entry, fi) == -ENOENT)
        mount_drop(place.mount, entry.ino, fi);
}

/* ---- unlink ---- */

static int unlink_row(const struct place *place)
{
    if (!place->row.attr->store)
        return -EACCES;
    return place->is_hidden ? -ENOENT : spool_hide(place->mount->spool, &place->key);
}

void replace_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct place place;
    int ret = find_place(req, parent, name, &place);

    if (ret == 0)
        ret = place.is_row ? unlink_row(&place) : spool_unlink(place.mount->spool, &place.key);
    fuse_reply_err(req, -ret);
}

/* ---- rename ---- */

/* A spool file's text written to a row: what open, write, fsync and close would be, in one. */
struct rename_op {
    struct lane_op op; /* first: see the casts */
    struct mount *mount;
    struct node target;
    struct spool_key from, to;
    struct caller caller;
    char names[];
};

/* What is too long for the row is not even copied. */
static int take(const struct rename_op *op, struct rp_error *e)
{
    const struct node *target = &op->target;
    struct spool *spool = op->mount->spool;
    struct spool_file *file;
    size_t length;
    char *text;
    int ret = spool_take(spool, &op->from, target->attr->store->max, &file, &text, &length);

    if (ret == -EFBIG) {
        ret = store_too_long(target, e);
        store_refuse(target, e);
    }
    if (ret < 0)
        return ret;
    ret = store_take(target, text, length, &op->caller, e);
    spool_settle(spool, file, ret == 0);
    free(text);
    return ret;
}

static void work_rename(struct lane_op *lane_op)
{
    struct rename_op *op = (struct rename_op *)lane_op;
    struct rp_error e = RP_ERROR_INIT;
    int ret = take(op, &e);

    /* Refused, too: nobody else is about to make the name again. */
    spool_show(op->mount->spool, &op->to);
    if (answer_claim(&op->op.answer))
        fuse_reply_err(op->op.answer.req, -ret);
}

static void rename_onto_row(fuse_req_t req, const struct place *from, const struct place *to)
{
    size_t length = strlen(from->key.name) + 1, to_length = strlen(to->key.name) + 1;
    struct rename_op *op = calloc(1, sizeof *op + length + to_length);

    if (!op) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    op->op.work = work_rename;
    op->mount = from->mount;
    op->target = to->row;
    op->caller = mount_caller(req);
    op->from = from->key;
    op->to = to->key;
    op->from.name = memcpy(op->names, from->key.name, length);
    op->to.name = memcpy(op->names + length, to->key.name, to_length);
    lane_submit(op->mount->lane, NULL, &op->op, req, RENAME_GRACE_MS);
}

/* The backup that is made of a file before it is saved: what it reads now, under the new name. */
static int rename_row(fuse_req_t req, const struct place *from, const struct place *to, bool keep)
{
    struct spool *spool = from->mount->spool;
    struct spool_file *file;
    size_t length;
    char *text;
    int ret;

    if (from->is_hidden)
        return -ENOENT;
    if (!from->row.attr->store || to->is_row)
        return -EACCES;
    ret = tree_render(&from->row, &text, &length, NULL);
    if (ret < 0)
        return ret;
    if (!keep)
        spool_unlink(spool, &to->key);
    ret = spool_create(spool, &to->key, 0600, fuse_req_ctx(req)->gid, &file);
    if (ret == 0) {
        ret = spool_write(spool, file, text, length, 0);
        if (ret == 0)
            ret = spool_hide(spool, &from->key);
        if (ret < 0)
            spool_unlink(spool, &to->key);
        spool_close(spool, file);
    }
    free(text);
    return ret;
}

/* 0, or the errno that the rename of a spool file onto this row is refused with. */
static int check_onto_row(const struct place *from, const struct place *to, bool keep)
{
    struct stat st;

    if (spool_lookup(from->mount->spool, &from->key, &st) != SPOOL_FILE)
        return -ENOENT;
    if (!to->row.attr->store)
        return -EACCES;
    return keep && !to->is_hidden ? -EEXIST : 0;
}

void replace_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                    const char *new_name, unsigned flags)
{
    bool keep = flags & RENAME_NOREPLACE;
    struct place from, to;
    int ret = find_place(req, parent, name, &from);

    if (ret == 0)
        ret = find_place(req, new_parent, new_name, &to);
    if (ret == 0 && (flags & ~RENAME_NOREPLACE))
        ret = -EINVAL;
    /* mv(1) then copies. */
    if (ret == 0 && parent != new_parent)
        ret = -EXDEV;
    if (ret == 0 && from.is_row)
        ret = rename_row(req, &from, &to, keep);
    else if (ret == 0 && !to.is_row)
        ret = spool_rename(from.mount->spool, &from.key, new_name, keep);
    else if (ret == 0) {
        ret = check_onto_row(&from, &to, keep);
        if (ret == 0) {
            rename_onto_row(req, &from, &to);
            return;
        }
    }
    fuse_reply_err(req, -ret);
}

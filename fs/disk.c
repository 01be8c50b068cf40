// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Open files of held disks (disk.h). Owns them and the buffers of reads; knows nothing of where the
 * bytes come from. FUSE's threads begin reads, which the backend's threads answer in whatever order
 * they come; what may wait (opening, closing, seeking) runs in the lane.
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "options.h"
#include "readahead.h"

/*
 * An interrupted operation is answered EINTR only after this long: for a file on a disk nobody
 * expects it, but on a server that does not answer, Ctrl-C must work.
 */
#define GRACE_MS 1000

struct disk_file {
    struct disks *disks;
    struct node node;
    struct disk *disk;
    uint64_t size;
    struct disk_file *next, **link; /* protected by disks->lock */
};

struct disks {
    const struct tree *tree;
    struct lane *lane;
    struct answers *answers;
    pthread_mutex_t lock; /* protects what follows */
    struct disk_file *files;
    bool has_readahead;
};

static bool is_data(const struct disk_file *file)
{
    return file->node.attr->blob->is_data;
}

/* ---- open files ---- */

struct disks *disks_new(const struct tree *tree, struct lane *lane, struct answers *answers)
{
    struct disks *disks = calloc(1, sizeof *disks);

    if (!disks)
        return NULL;
    disks->tree = tree;
    disks->lane = lane;
    disks->answers = answers;
    pthread_mutex_init(&disks->lock, NULL);
    return disks;
}

static void enlist(struct disk_file *file)
{
    struct disks *disks = file->disks;

    pthread_mutex_lock(&disks->lock);
    file->next = disks->files;
    file->link = &disks->files;
    if (file->next)
        file->next->link = &file->next;
    disks->files = file;
    pthread_mutex_unlock(&disks->lock);
}

/* Slow. */
static void free_file(struct disk_file *file)
{
    pthread_mutex_lock(&file->disks->lock);
    *file->link = file->next;
    if (file->next)
        file->next->link = file->link;
    pthread_mutex_unlock(&file->disks->lock);
    backend_disk_close(file->disk, is_data(file));
    free(file);
}

void disks_free(struct disks *disks)
{
    if (!disks)
        return;
    while (disks->files)
        free_file(disks->files);
    pthread_mutex_destroy(&disks->lock);
    free(disks);
}

int disk_stat(struct disk_file *file, struct stat *ret_stat)
{
    struct disk_info info;
    struct stat st;
    int ret = backend_disk_look(file->disk, &info);

    if (ret == 0)
        ret = tree_stat_sizeless(file->disks->tree, &file->node, &st);
    if (ret == 0)
        ret = file->node.attr->blob->measure(&info, &st);
    /* What is open and not held is no disk any more: it is not that its name is not found. */
    if (ret == -ENOENT)
        ret = -ENODEV;
    if (ret == 0)
        *ret_stat = st;
    return ret;
}

/* ---- operations that may wait ---- */

struct disk_op {
    struct lane_op op; /* first: see the casts */
    struct disks *disks;
    struct disk_file *file;
    struct node node;
    struct fuse_file_info fi;
    off_t offset;
    bool hole;
};

static struct disk_op *new_op(struct disks *disks, void (*work)(struct lane_op *))
{
    struct disk_op *op = calloc(1, sizeof *op);

    if (op) {
        op->op.work = work;
        op->disks = disks;
    }
    return op;
}

/* Before the first is open, as each takes it over when it is. */
static void raise_readahead(struct disks *disks)
{
    bool first;

    pthread_mutex_lock(&disks->lock);
    first = !disks->has_readahead;
    disks->has_readahead = true;
    pthread_mutex_unlock(&disks->lock);
    if (first)
        readahead_raise(disks->tree->options->mountpoint);
}

static int open_file(const struct disk_op *op, struct disk_file **ret_file, struct rp_error *e)
{
    struct disk_file *file = calloc(1, sizeof *file);
    struct stat st;
    int ret;

    if (!file)
        return rp_fail_memory(e);
    raise_readahead(op->disks);
    file->disks = op->disks;
    file->node = op->node;
    ret = backend_disk_open(op->node.backend, op->node.serial, is_data(file), &file->disk, e);
    if (ret < 0) {
        free(file);
        return ret;
    }
    enlist(file);
    ret = disk_stat(file, &st);
    if (ret < 0) {
        free_file(file);
        return rp_fail_errno(e, -ret, "the disk is not held any more");
    }
    file->size = (uint64_t)st.st_size;
    *ret_file = file;
    return 0;
}

static void work_open(struct lane_op *lane_op)
{
    struct disk_op *op = (struct disk_op *)lane_op;
    struct rp_error e = RP_ERROR_INIT;
    struct disk_file *file = NULL;
    char what[512];
    int ret = open_file(op, &file, &e);

    if (ret < 0) {
        tree_describe(&op->node, what, sizeof what);
        log_message(LOG_INFO, "%s: %s", what, e.message);
        if (answer_claim(&op->op.answer))
            fuse_reply_err(op->op.answer.req, -ret);
        return;
    }
    op->fi.fh = (uintptr_t)file;
    op->fi.keep_cache = tree_policy(&op->node).keep_pages;
    op->fi.noflush = 1;
    /* A caller that was interrupted meanwhile will not release it. */
    if (!answer_claim(&op->op.answer) || fuse_reply_open(op->op.answer.req, &op->fi) == -ENOENT)
        free_file(file);
}

void disk_open(struct disks *disks, fuse_req_t req, const struct node *node,
               const struct fuse_file_info *fi)
{
    struct disk_op *op;

    /* root passes the kernel's look at the mode. */
    if ((fi->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(req, EACCES);
        return;
    }
    op = new_op(disks, work_open);
    if (!op) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    op->op.droppable = true;
    op->node = *node;
    op->fi = *fi;
    lane_submit(disks->lane, NULL, &op->op, req, GRACE_MS);
}

static void work_close(struct lane_op *lane_op)
{
    struct disk_op *op = (struct disk_op *)lane_op;

    free_file(op->file);
    if (answer_claim(&op->op.answer))
        fuse_reply_err(op->op.answer.req, 0);
}

void disk_close(struct disk_file *file, fuse_req_t req)
{
    struct disk_op *op = new_op(file->disks, work_close);

    /* Without memory for a better place it is done here. */
    if (!op) {
        free_file(file);
        fuse_reply_err(req, 0);
        return;
    }
    op->file = file;
    lane_submit(file->disks->lane, NULL, &op->op, req, GRACE_MS);
}

static void work_seek(struct lane_op *lane_op)
{
    struct disk_op *op = (struct disk_op *)lane_op;
    uint64_t found;
    int ret = backend_disk_seek(op->file->disk, (uint64_t)op->offset, op->hole, &found, NULL);

    if (!answer_claim(&op->op.answer))
        return;
    if (ret < 0)
        fuse_reply_err(op->op.answer.req, -ret);
    else
        fuse_reply_lseek(op->op.answer.req, (off_t)found);
}

void disk_seek(struct disk_file *file, fuse_req_t req, off_t offset, int whence)
{
    struct disk_op *op = new_op(file->disks, work_seek);

    if (!op) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    op->file = file;
    op->offset = offset;
    op->hole = whence == SEEK_HOLE;
    lane_submit(file->disks->lane, NULL, &op->op, req, GRACE_MS);
}

/* ---- reading ---- */

struct read_op {
    struct answer answer; /* first: see release_read() */
    struct disk_read read;
    char data[];
};

static void release_read(struct answer *answer)
{
    free(answer);
}

/* Runs in a thread of the backend's. The file may be gone as soon as the kernel has its answer. */
static void on_read(struct disk_read *read, int err)
{
    struct read_op *op = (struct read_op *)((char *)read - offsetof(struct read_op, read));

    if (answer_claim(&op->answer)) {
        if (err)
            fuse_reply_err(op->answer.req, err);
        else
            fuse_reply_buf(op->answer.req, op->data, read->length);
    }
    answer_unref(&op->answer);
}

static void read_data(struct disk_file *file, fuse_req_t req, size_t size, uint64_t offset)
{
    struct read_op *op = malloc(sizeof *op + size);

    if (!op) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    op->read =
        (struct disk_read){.buffer = op->data, .length = size, .offset = offset, .done = on_read};
    answer_init(file->disks->answers, &op->answer, req, GRACE_MS, NULL, release_read);
    backend_disk_read(file->disk, &op->read);
}

static void read_map(struct disk_file *file, fuse_req_t req, size_t size, uint64_t offset)
{
    char *text = malloc(size);
    size_t length;
    int ret = text ? backend_disk_print_map(file->disk, offset, text, size, &length) : -ENOMEM;

    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_buf(req, text, length);
    free(text);
}

void disk_read(struct disk_file *file, fuse_req_t req, size_t size, off_t offset)
{
    uint64_t left = (uint64_t)offset < file->size ? file->size - (uint64_t)offset : 0;

    if (size > left)
        size = (size_t)left;
    if (size == 0)
        fuse_reply_buf(req, NULL, 0);
    else if (is_data(file))
        read_data(file, req, size, (uint64_t)offset);
    else
        read_map(file, req, size, (uint64_t)offset);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Open files (handle.h). Owns their snapshots, the texts being written and the poll handles; knows
 * of a file only its row. FUSE's threads read and poll, each alone on its request; everything that
 * touches a text runs in the lane, one operation of a file after the other; the backend's threads
 * call handle_changed().
 *
 * A refused text. The first refusal in a WRITE poisons the handle: shells go on with their next
 * line and programs repeat the refused one, and neither may lead to half a text being taken. A
 * refusal in FLUSH does not: it comes at every close of a duplicate, long before the last word.
 */
#include "handle.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"
#include "store.h"

#define BUCKETS 1024

/*
 * An interrupted operation on a text is answered EINTR only after this long. bash's builtins
 * report a failed write when a child happens to end meanwhile, so EINTR must be no everyday
 * answer; but on a server that does not respond, Ctrl-C must work. Repeating the WRITE is safe: it
 * waits for the first and finds its text in place.
 */
#define TEXT_GRACE_MS 1000

/* Who waits in poll(2); on a list only while being told. */
struct poller {
    struct fuse_pollhandle *poll;
    struct poller *next;
};

struct text_op;

struct handle {
    struct handles *handles;
    struct node node;
    int flags;
    struct caller caller;
    bool is_kept; /* read through the kernel's pages: its snapshot is the last one */

    /* Protected by handles->lock. */
    struct handle *next, **link; /* in its bucket */
    struct snapshot *snapshot;   /* NULL: not open for reading, or `wait` */
    _Atomic uint64_t ended;      /* of job/wait: whose result was read, 0 before; see wait_read() */
    bool was_read;               /* from offset 0: the next read there renders afresh */
    bool changed;                /* since what was read was rendered */
    struct poller *poller;

    struct text_op *closing; /* made at open, so that closing cannot fail for want of memory */

    /* Only operations of `queue` touch these. */
    struct lane_queue queue;
    char *text;
    size_t length, room;
    bool has_base;
    off_t base;        /* O_APPEND: offset of the first byte */
    size_t last_start; /* of the newest WRITE, to know it when it is repeated */
    off_t last_offset;
    bool committed; /* a single value */
    bool is_receiving;
    bool poisoned;
    struct rp_error poison;
};

struct text_op {
    struct lane_op op; /* first: see the casts */
    struct handle *handle;
    off_t offset; /* of a WRITE; the new size for a truncation */
    size_t size;
    char data[];
};

struct handles {
    const struct tree *tree;
    struct lane *lane;
    struct waits *waits;
    /* Protects the lists and the members of struct handle that say so. Never held while the
     * backend or libfuse is called. */
    pthread_mutex_t lock;
    bool stopped;
    struct handle *buckets[BUCKETS];
};

static bool is_for_reading(const struct handle *handle)
{
    return (handle->flags & O_ACCMODE) != O_WRONLY;
}

static bool is_for_writing(const struct handle *handle)
{
    return (handle->flags & O_ACCMODE) != O_RDONLY;
}

/* ---- snapshots ---- */

static struct snapshot *current_snapshot(struct handle *handle)
{
    struct snapshot *snapshot;

    pthread_mutex_lock(&handle->handles->lock);
    snapshot = handle->snapshot ? snapshot_ref(handle->snapshot) : NULL;
    pthread_mutex_unlock(&handle->handles->lock);
    return snapshot;
}

static int render_again(struct handle *handle)
{
    struct snapshot *fresh, *stale;
    int ret;

    /* Before rendering: what changes meanwhile may be in it or not, and must be told. */
    pthread_mutex_lock(&handle->handles->lock);
    handle->changed = false;
    pthread_mutex_unlock(&handle->handles->lock);
    ret = snapshot_new(handle->handles->tree, &handle->node, &fresh, NULL);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&handle->handles->lock);
    stale = handle->snapshot;
    handle->snapshot = fresh;
    pthread_mutex_unlock(&handle->handles->lock);
    snapshot_unref(stale);
    return 0;
}

/* ---- the list of open files ---- */

static void enlist(struct handle *handle)
{
    struct handles *handles = handle->handles;
    struct handle **bucket = &handles->buckets[(handle->node.serial >> RP_KIND_BITS) % BUCKETS];

    pthread_mutex_lock(&handles->lock);
    handle->next = *bucket;
    handle->link = bucket;
    if (handle->next)
        handle->next->link = &handle->next;
    *bucket = handle;
    pthread_mutex_unlock(&handles->lock);
}

static void free_poller(struct poller *poller)
{
    if (poller)
        fuse_pollhandle_destroy(poller->poll);
    free(poller);
}

static void free_handle(struct handle *handle)
{
    pthread_mutex_lock(&handle->handles->lock);
    *handle->link = handle->next;
    if (handle->next)
        handle->next->link = handle->link;
    pthread_mutex_unlock(&handle->handles->lock);
    free_poller(handle->poller);
    snapshot_unref(handle->snapshot);
    free(handle->closing);
    free(handle->text);
    free(handle);
}

struct handles *handles_new(const struct tree *tree, struct lane *lane, struct waits *waits)
{
    struct handles *handles = calloc(1, sizeof *handles);

    if (!handles)
        return NULL;
    handles->tree = tree;
    handles->lane = lane;
    handles->waits = waits;
    pthread_mutex_init(&handles->lock, NULL);
    return handles;
}

void handles_stop(struct handles *handles)
{
    pthread_mutex_lock(&handles->lock);
    handles->stopped = true;
    pthread_mutex_unlock(&handles->lock);
}

void handles_free(struct handles *handles)
{
    if (!handles)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (handles->buckets[i])
            free_handle(handles->buckets[i]);
    pthread_mutex_destroy(&handles->lock);
    free(handles);
}

/* ---- reading ---- */

int handle_stat(struct handle *handle, struct stat *ret_stat)
{
    struct snapshot *snapshot = current_snapshot(handle);
    /* The kernel reads its pages by the size it was told last, whoever asked. */
    bool is_shared = tree_policy(&handle->node).keep_pages;
    int ret = 0;

    if (!snapshot || is_shared)
        ret = tree_stat(handle->handles->tree, &handle->node, ret_stat);
    if (snapshot && (ret == -ENOENT || !is_shared)) {
        /* Times included: tar compares them before and after reading. And what was opened can be
         * read to its end although its object has gone. */
        *ret_stat = snapshot->st;
        ret = 0;
    }
    snapshot_unref(snapshot);
    return ret;
}

static void read_wait(struct handle *handle, fuse_req_t req, size_t size, off_t offset, int flags)
{
    if (offset > 0)
        wait_read_on(req, &handle->node, atomic_load(&handle->ended), size, offset);
    else
        wait_read(handle->handles->waits, req, &handle->node, size, flags & O_NONBLOCK,
                  &handle->ended);
}

static int read_text(struct handle *handle, off_t offset, struct snapshot **ret_snapshot)
{
    bool again = false;
    int ret = 0;

    if (offset == 0 && !handle->is_kept) {
        pthread_mutex_lock(&handle->handles->lock);
        again = handle->was_read;
        handle->was_read = true;
        pthread_mutex_unlock(&handle->handles->lock);
    }
    if (again)
        ret = render_again(handle);
    if (ret < 0)
        return ret;
    *ret_snapshot = current_snapshot(handle);
    return *ret_snapshot ? 0 : -EBADF;
}

void handle_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, int flags)
{
    struct snapshot *snapshot = NULL;
    int ret;

    if (handle->node.attr->flags & ATTR_WAIT) {
        read_wait(handle, req, size, offset, flags);
        return;
    }
    ret = read_text(handle, offset, &snapshot);
    /* From here on `handle` may be gone: the kernel closes it as soon as it has the reply. */
    if (ret < 0)
        fuse_reply_err(req, -ret);
    else if ((size_t)offset >= snapshot->length)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_buf(
            req, snapshot->text + offset,
            size < snapshot->length - (size_t)offset ? size : snapshot->length - (size_t)offset);
    snapshot_unref(snapshot);
}

/* ---- poll ---- */

/* Detaches those who have to be told. */
static struct poller *take_pollers(struct handles *handles, uint64_t serial, unsigned topics)
{
    struct poller *all = NULL;

    pthread_mutex_lock(&handles->lock);
    struct handle *handle =
        handles->stopped ? NULL : handles->buckets[(serial >> RP_KIND_BITS) % BUCKETS];
    for (; handle; handle = handle->next) {
        if (handle->node.serial != serial || !(handle->node.attr->topics & topics))
            continue;
        handle->changed = true;
        if (handle->poller) {
            handle->poller->next = all;
            all = handle->poller;
            handle->poller = NULL;
        }
    }
    pthread_mutex_unlock(&handles->lock);
    return all;
}

void handle_changed(struct handles *handles, uint64_t serial, unsigned topics)
{
    /* An object that goes takes all its files along. */
    struct poller *poller = take_pollers(handles, serial, topics & TOPIC_GONE ? ~0u : topics);

    while (poller) {
        struct poller *next = poller->next;
        fuse_lowlevel_notify_poll(poller->poll);
        free_poller(poller);
        poller = next;
    }
}

static struct poller *poller_new(struct fuse_pollhandle *poll)
{
    struct poller *poller = poll ? calloc(1, sizeof *poller) : NULL;

    if (poller)
        poller->poll = poll;
    else if (poll)
        fuse_pollhandle_destroy(poll);
    return poller;
}

void handle_poll(struct handle *handle, fuse_req_t req, struct fuse_pollhandle *poll)
{
    struct poller *poller = poller_new(poll), *stale = NULL;
    unsigned events = POLLIN | POLLRDNORM;

    pthread_mutex_lock(&handle->handles->lock);
    if (poller) {
        stale = handle->poller;
        handle->poller = poller;
    }
    /* Without POLLERR, unlike sysfs: many programs take that for a broken file. */
    if (handle->changed)
        events |= POLLPRI;
    pthread_mutex_unlock(&handle->handles->lock);
    free_poller(stale);
    /* Asked only now, when a change would already be told. */
    if ((handle->node.attr->flags & ATTR_WAIT) && !wait_has_ended(&handle->node))
        events = 0;
    if (is_for_writing(handle))
        events |= POLLOUT | POLLWRNORM;
    fuse_reply_poll(req, events);
}

/* ---- writing: all of it in the lane, one operation of a file after the other ---- */

static struct text_op *new_op(struct handle *handle, void (*work)(struct lane_op *), size_t size)
{
    struct text_op *op = malloc(sizeof *op + size);

    if (op) {
        memset(op, 0, sizeof *op);
        op->op.work = work;
        op->handle = handle;
        op->size = size;
    }
    return op;
}

/* `op` may be NULL: no memory. */
static void submit(struct handle *handle, fuse_req_t req, struct text_op *op)
{
    if (op)
        lane_submit(handle->handles->lane, &handle->queue, &op->op, req, TEXT_GRACE_MS);
    else
        fuse_reply_err(req, ENOMEM);
}

static void reply_err(struct text_op *op, int ret)
{
    if (answer_claim(&op->op.answer))
        fuse_reply_err(op->op.answer.req, -ret);
}

static void set_receiving(struct handle *handle, bool receiving)
{
    const struct store *store = handle->node.attr->store;

    if (handle->is_receiving == receiving)
        return;
    handle->is_receiving = receiving;
    if (store->receiving)
        store->receiving(&handle->node, receiving ? 1 : -1);
}

/* The refusal is remembered first, so that the state passes straight from receiving to it. */
static int poison(struct handle *handle, const struct rp_error *e)
{
    handle->poisoned = true;
    handle->poison = *e;
    store_refuse(&handle->node, e);
    set_receiving(handle, false);
    return -e->err;
}

/*
 * Where in the text a WRITE belongs. Appending starts at what the kernel took for the file's size,
 * that of the template, and returns to it whenever somebody asked for the file's attributes in
 * between; so only a WRITE that repeats the last one in place and words is placed by its offset.
 */
static size_t place(struct handle *handle, const struct text_op *op)
{
    if (!(handle->flags & O_APPEND))
        return (size_t)op->offset;
    if (handle->has_base && op->size > 0 && op->offset == handle->last_offset &&
        handle->last_start + op->size == handle->length &&
        memcmp(handle->text + handle->last_start, op->data, op->size) == 0)
        return handle->last_start;
    handle->has_base = true;
    return handle->length;
}

/* Puts the data in its place; a gap is filled with NULs, which no check accepts in the end. */
static int gather(struct handle *handle, const struct text_op *op, struct rp_error *e)
{
    size_t max = handle->node.attr->store->max;

    if (op->offset < 0 || (!(handle->flags & O_APPEND) && (size_t)op->offset > max))
        return store_too_long(&handle->node, e);
    size_t start = place(handle, op);
    if (start > max || op->size > max - start)
        return store_too_long(&handle->node, e);
    size_t end = start + op->size;
    if (end > handle->room) {
        size_t room = end < 4096 ? 4096 : max;
        char *text = realloc(handle->text, room);
        if (!text)
            return rp_fail_memory(e);
        handle->text = text;
        handle->room = room;
    }
    if (start > handle->length)
        memset(handle->text + handle->length, 0, start - handle->length);
    if (op->size > 0)
        memcpy(handle->text + start, op->data, op->size);
    if (end > handle->length)
        handle->length = end;
    handle->last_start = start;
    handle->last_offset = op->offset;
    return 0;
}

static int check(struct handle *handle, enum text_state state, unsigned *ret_values,
                 struct rp_error *e)
{
    size_t length = handle->length;

    /* What another thread of the writer has yet to fill in is no reason to refuse. */
    if (state != TEXT_WHOLE && length > 0) {
        const char *gap = memchr(handle->text, 0, length);
        if (gap)
            length = (size_t)(gap - handle->text);
    }
    return handle->node.attr->store->check(&handle->node, handle->text, length, state,
                                           &handle->caller, ret_values, e);
}

static int commit(struct handle *handle, struct rp_error *e)
{
    int ret = handle->node.attr->store->commit(&handle->node, handle->text, handle->length,
                                               &handle->caller, e);

    if (ret > 0)
        handle->is_receiving = false;
    return ret < 0 ? ret : 0;
}

/*
 * Shells see the errors of write(2) alone. One that gives several lines to a single write has most
 * likely written all of them (dash's printf, cat); bash gives each line to a write of its own.
 */
static enum text_state state_after(const struct handle *handle, const struct text_op *op)
{
    const char *text = handle->text;
    const char *first = op->size > 0 ? memchr(text, '\n', op->size) : NULL;

    return handle->length == op->size && first && first < text + op->size - 1 &&
                   text[op->size - 1] == '\n'
               ? TEXT_SEEMS_WHOLE
               : TEXT_GROWING;
}

static int take_text(struct handle *handle, const struct text_op *op, struct rp_error *e)
{
    unsigned values = 0;
    int ret = gather(handle, op, e);

    if (ret == 0)
        ret = check(handle, state_after(handle, op), &values, e);
    if (ret == 0 && handle->node.attr->store->at_write && values > 0 && !handle->committed) {
        ret = commit(handle, e);
        handle->committed = ret == 0;
    }
    return ret;
}

static void work_write(struct lane_op *lane_op)
{
    struct text_op *op = (struct text_op *)lane_op;
    struct handle *handle = op->handle;
    struct rp_error e = RP_ERROR_INIT;
    int ret;

    if (handle->poisoned) {
        ret = -handle->poison.err;
    } else {
        set_receiving(handle, true);
        ret = take_text(handle, op, &e);
        if (ret < 0)
            poison(handle, &e);
    }
    if (!answer_claim(&op->op.answer))
        return;
    if (ret < 0)
        fuse_reply_err(op->op.answer.req, -ret);
    else
        fuse_reply_write(op->op.answer.req, op->size);
}

void handle_write(struct handle *handle, fuse_req_t req, const char *data, size_t size,
                  off_t offset)
{
    struct text_op *op = new_op(handle, work_write, size);

    if (op) {
        op->offset = offset;
        memcpy(op->data, data, size);
    }
    submit(handle, req, op);
}

static void work_check(struct lane_op *lane_op)
{
    struct text_op *op = (struct text_op *)lane_op;
    struct handle *handle = op->handle;
    struct rp_error e = RP_ERROR_INIT;
    unsigned values;
    int ret = 0;

    if (handle->poisoned) {
        ret = -handle->poison.err;
    } else if (handle->length > 0 && !handle->committed) {
        ret = check(handle, TEXT_WHOLE, &values, &e);
        if (ret < 0)
            store_refuse(&handle->node, &e);
    }
    reply_err(op, ret);
}

void handle_check(struct handle *handle, fuse_req_t req)
{
    if (is_for_writing(handle))
        submit(handle, req, new_op(handle, work_check, 0));
    else
        fuse_reply_err(req, 0);
}

static void cut(struct handle *handle, off_t size)
{
    if (size > 0) {
        if ((size_t)size < handle->length)
            handle->length = (size_t)size;
        return;
    }
    handle->length = 0;
    handle->has_base = false;
    handle->committed = false;
    handle->poisoned = false;
    set_receiving(handle, false);
}

static void reply_stat(struct handle *handle, fuse_req_t req)
{
    struct stat st;
    int ret = handle_stat(handle, &st);

    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_attr(req, &st, tree_policy(&handle->node).attr_timeout);
}

static void work_truncate(struct lane_op *lane_op)
{
    struct text_op *op = (struct text_op *)lane_op;

    cut(op->handle, op->offset);
    if (answer_claim(&op->op.answer))
        reply_stat(op->handle, op->op.answer.req);
}

void handle_truncate(struct handle *handle, fuse_req_t req, off_t size)
{
    struct text_op *op;

    /* O_RDONLY | O_TRUNC: no text to cut, and such a file is freed without a look at the lane. */
    if (!is_for_writing(handle)) {
        reply_stat(handle, req);
        return;
    }
    op = new_op(handle, work_truncate, 0);
    if (op)
        op->offset = size;
    submit(handle, req, op);
}

/* ---- closing ---- */

static void work_close(struct lane_op *lane_op)
{
    struct text_op *op = (struct text_op *)lane_op;
    struct handle *handle = op->handle;
    struct rp_error e = RP_ERROR_INIT;

    /* The backend remembers a refusal by itself; nobody else is left to hear of it. */
    if (handle->length > 0 && !handle->poisoned && !handle->node.attr->store->at_write &&
        commit(handle, &e) < 0)
        store_log(&handle->node, &e);
    set_receiving(handle, false);
    reply_err(op, 0);
}

static void release_close(struct lane_op *lane_op)
{
    free_handle(((struct text_op *)lane_op)->handle);
}

void handle_close(struct handle *handle, fuse_req_t req)
{
    if (is_for_writing(handle)) {
        struct text_op *op = handle->closing;
        handle->closing = NULL;
        submit(handle, req, op);
        return;
    }
    free_handle(handle);
    fuse_reply_err(req, 0);
}

/* ---- opening ---- */

static int check_access(const struct handle *handle, struct rp_error *e)
{
    const struct attr *attr = handle->node.attr;

    /* root passes the kernel's look at the mode, so the row is asked, too. */
    if ((is_for_writing(handle) && !attr->store) || (is_for_reading(handle) && !attr->show))
        return rp_fail(e, RESULT_ACCESS_DENIED, "%s cannot be opened that way", attr->path);
    return 0;
}

static int begin_writing(struct handle *handle, struct rp_error *e)
{
    handle->closing = new_op(handle, work_close, 0);
    if (!handle->closing)
        return rp_fail_memory(e);
    handle->closing->op.release = release_close;
    return store_begin(&handle->node, e);
}

void handle_set_mode(const struct handle *handle, struct fuse_file_info *fi)
{
    fi->direct_io = !handle->is_kept;
    fi->keep_cache = handle->is_kept;
    /* There is nothing to check when it is closed. */
    fi->noflush = !is_for_writing(handle);
}

int handle_open(struct handles *handles, const struct node *node, int flags,
                const struct caller *caller, struct handle **ret_handle, struct rp_error *e)
{
    struct handle *handle = calloc(1, sizeof *handle);
    int ret;

    if (!handle)
        return rp_fail_memory(e);
    handle->handles = handles;
    handle->node = *node;
    handle->flags = flags;
    handle->caller = *caller;
    ret = check_access(handle, e);
    if (ret == 0 && is_for_writing(handle))
        ret = begin_writing(handle, e);
    /* Asked before it is rendered: what is kept must be its last text. */
    handle->is_kept = !is_for_writing(handle) && tree_policy(node).keep_pages;
    /* Listed before it is rendered, so that no change falls between the two. */
    enlist(handle);
    if (ret == 0 && is_for_reading(handle) && !(node->attr->flags & ATTR_WAIT))
        ret = snapshot_new(handles->tree, node, &handle->snapshot, e);
    if (ret < 0) {
        free_handle(handle);
        return ret;
    }
    *ret_handle = handle;
    return 0;
}

void handle_drop(struct handle *handle)
{
    free_handle(handle);
}

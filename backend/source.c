// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A disk read over NBD: connections, reads, block status. Owns the libnbd handles and is the only
 * file that knows libnbd; knows nothing of files or formats. Everything runs in the thread that
 * has the source, callbacks included.
 *
 * libnbd calls back while it holds the handle's lock, so that a callback may not call libnbd. The
 * completion callback therefore only queues its slot, and source_wait() retires what is queued
 * once libnbd has returned. Retiring by nbd_aio_command_completed(), not by the callback's return
 * value, also makes libnbd check that the reply was long enough.
 */
#include "source.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

/* QEMU serves at most 16 requests of one client at a time; more would only wait in the socket. */
#define DEPTH 16u

/* The protocol's limit for servers that state none. */
#define READ_MAX_BYTES (32u << 20)

/* Cancel is noticed at least this often. */
#define TICK_MS 100

/* Of a server whose queue of connections is full: how long until the next try. */
#define CONNECT_RETRY_MS 20

#define BITMAP_PREFIX "qemu:dirty-bitmap:"

struct conn {
    struct nbd_handle *nbd; /* NULL: not open */
    unsigned in_flight;
    size_t bytes_in_flight;
    int handshake_err; /* what the server answered to NBD_OPT_GO */
};

/* One request under way. */
struct slot {
    struct source *source;
    struct conn *conn;
    int64_t cookie;
    uint64_t offset; /* for messages */
    size_t length, received;
    int err;
    const char *context; /* of block status, like `extents` */
    void (*extents)(void *opaque, const uint32_t *pairs, size_t count);
    void (*done)(void *opaque, int err);
    void *opaque;
    struct slot *next; /* in the list of free or of finished ones */
};

struct source {
    char *socket_path, *export_name;
    char *bitmap_context; /* NULL: full export */
    unsigned timeout_ms;
    bool (*cancelled)(void *opaque);
    void *opaque;

    uint64_t size_bytes;
    size_t max_read_bytes, unit_bytes;
    bool has_allocation, may_not_fragment, is_plain, allows_several, dead, lost;
    unsigned connections; /* of `conns`: those that carry reads */
    struct conn conns[SOURCE_CONNECTIONS_MAX];
    struct conn bitmap_conn; /* knows the bitmap alone; see open_bitmap() */

    unsigned in_flight;
    uint64_t answered_ms; /* the last answer, or the first request after a time with none */
    struct slot *slots, *free_slots, *finished;
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int source_check_cancelled(const struct source *s, struct rp_error *e)
{
    if (s->cancelled && s->cancelled(s->opaque))
        return rp_fail(e, RESULT_FAILED, "cancelled");
    return 0;
}

static int fail_dead(struct rp_error *e)
{
    return rp_fail(e, RESULT_FAILED, "the connection to the server was dropped before");
}

static int check_params(const struct source_params *params, struct rp_error *e)
{
    if (params->connections < 1 || params->connections > SOURCE_CONNECTIONS_MAX)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%u connections: 1 to %u are possible",
                       params->connections, SOURCE_CONNECTIONS_MAX);
    if (params->timeout_ms == 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "a server needs time to answer");
    return 0;
}

static int source_new(const struct source_params *params, struct source **ret_source,
                      struct rp_error *e)
{
    struct source *s = calloc(1, sizeof *s);
    int rc = 0;

    if (!s)
        return rp_fail_memory(e);
    s->timeout_ms = params->timeout_ms;
    s->is_plain = params->is_plain;
    s->cancelled = params->cancelled;
    s->opaque = params->opaque;
    s->socket_path = strdup(params->socket_path);
    s->export_name = strdup(params->export_name);
    if (params->bitmap)
        rc = asprintf(&s->bitmap_context, BITMAP_PREFIX "%s", params->bitmap);
    if (rc < 0)
        s->bitmap_context = NULL; /* undefined after a failure */
    if (rc < 0 || !s->socket_path || !s->export_name) {
        source_close(s);
        return rp_fail_memory(e);
    }
    *ret_source = s;
    return 0;
}

static void conn_close(struct conn *conn)
{
    nbd_close(conn->nbd);
    *conn = (struct conn){.nbd = NULL};
}

void source_drop(struct source *s)
{
    for (unsigned i = 0; i < SOURCE_CONNECTIONS_MAX; i++)
        conn_close(&s->conns[i]);
    conn_close(&s->bitmap_conn);
    s->dead = true;
    s->in_flight = 0;
    s->finished = NULL;
    s->free_slots = NULL;
}

void source_close(struct source *s)
{
    if (!s)
        return;
    /* A word of goodbye, if it can be said without waiting: else servers log a lost client. */
    for (unsigned i = 0; i < s->connections && s->in_flight == 0 && !s->dead; i++)
        if (s->conns[i].nbd) /* not when opening it failed half-way */
            (void)nbd_aio_disconnect(s->conns[i].nbd, 0);
    source_drop(s);
    free(s->slots);
    free(s->socket_path);
    free(s->export_name);
    free(s->bitmap_context);
    free(s);
}

/* ---- letting the connections work ---- */

/* What to poll(2) a connection for; a connection that is not open is skipped by its fd of -1. */
static struct pollfd conn_pollfd(const struct conn *conn)
{
    struct pollfd fd = {.fd = -1};
    unsigned direction;

    if (!conn->nbd)
        return fd;
    direction = nbd_aio_get_direction(conn->nbd);
    fd.fd = nbd_aio_get_fd(conn->nbd);
    fd.events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                        (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    return fd;
}

/*
 * Only one of the two: the first may change what the connection waits for. Returns -1 with
 * libnbd's error set when the connection broke.
 */
static int conn_notify(struct conn *conn, short revents)
{
    if (revents & (POLLIN | POLLHUP))
        return nbd_aio_notify_read(conn->nbd);
    if (revents & (POLLOUT | POLLERR))
        return nbd_aio_notify_write(conn->nbd);
    return 0;
}

static bool conn_is_lost(const struct conn *conn)
{
    return nbd_aio_is_dead(conn->nbd) || nbd_aio_is_closed(conn->nbd);
}

/* ---- handshake ---- */

static int fail_connect(const struct source *s, struct rp_error *e)
{
    int err = nbd_get_errno();

    if (err == ENOENT || err == ECONNREFUSED)
        return rp_fail(e, RESULT_NOT_AVAILABLE, "no NBD server listens on %s", s->socket_path);
    if (err == 0)
        return rp_fail(e, RESULT_NOT_AVAILABLE, "connecting to %s: %s", s->socket_path,
                       nbd_get_error());
    return rp_fail_errno(e, err, "connecting to %s", s->socket_path);
}

static int fail_handshake(const struct source *s, struct rp_error *e)
{
    const char *text = nbd_get_error();

    return rp_fail(e, RESULT_NOT_AVAILABLE, "the server at %s broke off the handshake: %s",
                   s->socket_path, text ? text : "connection closed");
}

static int fail_export(const struct source *s, int err, struct rp_error *e)
{
    if (err == ENOENT)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "the server at %s does not know export '%s'",
                       s->socket_path, s->export_name);
    return rp_fail_errno(e, err, "the server at %s refuses export '%s'", s->socket_path,
                         s->export_name);
}

/* Lets the handshake go on until it waits for us, is over, or broke. */
static int conn_handshake(struct source *s, struct conn *conn, uint64_t deadline_ms,
                          struct rp_error *e)
{
    while (nbd_aio_is_connecting(conn->nbd)) {
        struct pollfd fd = conn_pollfd(conn);
        int rc = source_check_cancelled(s, e);

        if (rc < 0)
            return rc;
        if (now_ms() >= deadline_ms)
            return rp_fail(e, RESULT_TIMEOUT, "the server at %s did not finish the handshake",
                           s->socket_path);
        if (poll(&fd, 1, TICK_MS) > 0 && conn_notify(conn, fd.revents) < 0)
            return fail_handshake(s, e);
    }
    return conn_is_lost(conn) ? fail_handshake(s, e) : 0;
}

static int note_handshake(void *opaque, int *error)
{
    struct conn *conn = opaque;

    conn->handshake_err = *error;
    return 1;
}

static int conn_prepare(struct source *s, struct conn *conn, const char *const *contexts,
                        struct rp_error *e)
{
    conn->nbd = nbd_create();
    if (!conn->nbd)
        return rp_fail_memory(e);
    /* Option mode tells "unknown export" from "connection lost". Buffers are not zeroed before
     * each read: those of a failed read are never looked at. */
    if (nbd_set_opt_mode(conn->nbd, true) < 0 || nbd_set_tls(conn->nbd, LIBNBD_TLS_DISABLE) < 0 ||
        nbd_set_pread_initialize(conn->nbd, false) < 0 ||
        nbd_set_export_name(conn->nbd, s->export_name) < 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s", nbd_get_error());
    if (s->is_plain && nbd_set_request_structured_replies(conn->nbd, false) < 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s", nbd_get_error());
    for (; *contexts && !s->is_plain; contexts++)
        if (nbd_add_meta_context(conn->nbd, *contexts) < 0)
            return rp_fail(e, RESULT_INVALID_PARAMETER, "%s", nbd_get_error());
    return 0;
}

/* Connects, trying again while the server's queue of connections is full. */
static int conn_connect(struct source *s, struct conn *conn, const char *const *contexts,
                        uint64_t deadline_ms, struct rp_error *e)
{
    for (;;) {
        int rc = conn_prepare(s, conn, contexts, e);

        if (rc < 0)
            return rc;
        if (nbd_aio_connect_unix(conn->nbd, s->socket_path) == 0)
            return 0;
        if (nbd_get_errno() != EAGAIN)
            return fail_connect(s, e);
        conn_close(conn);
        rc = source_check_cancelled(s, e);
        if (rc < 0)
            return rc;
        if (now_ms() >= deadline_ms)
            return rp_fail(e, RESULT_TIMEOUT, "the server at %s accepts no connection",
                           s->socket_path);
        poll(NULL, 0, CONNECT_RETRY_MS);
    }
}

/* `contexts` ends in NULL. */
static int conn_open(struct source *s, struct conn *conn, const char *const *contexts,
                     struct rp_error *e)
{
    uint64_t deadline_ms = now_ms() + s->timeout_ms;
    nbd_completion_callback noted = {.callback = note_handshake, .user_data = conn};
    int rc = conn_connect(s, conn, contexts, deadline_ms, e);

    if (rc == 0)
        rc = conn_handshake(s, conn, deadline_ms, e);
    if (rc < 0 || !nbd_aio_is_negotiating(conn->nbd))
        return rc; /* a server of the old style has nothing to negotiate */
    if (nbd_aio_opt_go(conn->nbd, noted) < 0)
        return fail_handshake(s, e);
    rc = conn_handshake(s, conn, deadline_ms, e);
    if (rc == 0 && conn->handshake_err)
        rc = fail_export(s, conn->handshake_err, e);
    return rc;
}

/* What the first connection says about the disk. */
static int read_limits(struct source *s, struct nbd_handle *nbd, struct rp_error *e)
{
    int64_t size = nbd_get_size(nbd);
    int64_t max = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);
    int64_t unit = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);

    if (size < 0)
        return rp_fail(e, RESULT_FAILED, "the server gives no size: %s", nbd_get_error());
    s->size_bytes = (uint64_t)size;
    s->unit_bytes = unit > 0 ? (size_t)unit : 1;
    s->max_read_bytes = max > 0 && max < READ_MAX_BYTES ? (size_t)max : READ_MAX_BYTES;
    s->max_read_bytes -= s->max_read_bytes % s->unit_bytes;
    if (s->max_read_bytes == 0)
        return rp_fail(e, RESULT_FAILED, "the server's limits leave no read possible");
    s->has_allocation = nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
    s->may_not_fragment = nbd_can_df(nbd) > 0;
    if (s->bitmap_context && nbd_can_meta_context(nbd, s->bitmap_context) <= 0)
        return rp_fail(e, RESULT_INVALID_STATE, "the server does not offer bitmap '%s' of '%s'",
                       s->bitmap_context + strlen(BITMAP_PREFIX), s->export_name);
    return 0;
}

static int open_more(struct source *s, struct conn *conn, const char *context, struct rp_error *e)
{
    const char *contexts[] = {context, NULL};
    int rc = conn_open(s, conn, contexts, e);

    if (rc == 0 && nbd_get_size(conn->nbd) != (int64_t)s->size_bytes)
        rc = rp_fail(e, RESULT_FAILED, "the server gives export '%s' two different sizes",
                     s->export_name);
    return rc;
}

/*
 * The first connection knows both contexts, and the server computes both for each request. For the
 * bitmap, which is asked for over the whole disk, that would mean its allocation over the whole
 * disk too: so it has a connection of its own, where several are allowed.
 */
static int open_conns(struct source *s, unsigned wanted, struct rp_error *e)
{
    const char *contexts[] = {LIBNBD_CONTEXT_BASE_ALLOCATION, s->bitmap_context, NULL};
    int rc = conn_open(s, &s->conns[0], contexts, e);

    if (rc == 0)
        rc = read_limits(s, s->conns[0].nbd, e);
    if (rc < 0)
        return rc;
    s->connections = 1;
    s->allows_several = nbd_can_multi_conn(s->conns[0].nbd) > 0;
    if (!s->allows_several)
        return 0;
    for (; rc == 0 && s->connections < wanted; s->connections++)
        rc = open_more(s, &s->conns[s->connections], NULL, e);
    if (rc == 0 && s->bitmap_context)
        rc = open_more(s, &s->bitmap_conn, s->bitmap_context, e);
    return rc;
}

static int make_slots(struct source *s, struct rp_error *e)
{
    unsigned count = s->connections * DEPTH;

    s->slots = calloc(count, sizeof *s->slots);
    if (!s->slots)
        return rp_fail_memory(e);
    for (unsigned i = 0; i < count; i++) {
        s->slots[i].source = s;
        s->slots[i].next = s->free_slots;
        s->free_slots = &s->slots[i];
    }
    return 0;
}

int source_open(const struct source_params *params, struct source **ret_source, struct rp_error *e)
{
    struct source *s = NULL;
    int rc = check_params(params, e);

    if (rc == 0)
        rc = source_new(params, &s, e);
    if (rc < 0)
        return rc;
    rc = open_conns(s, params->connections, e);
    if (rc == 0)
        rc = make_slots(s, e);
    if (rc < 0) {
        source_close(s);
        return rc;
    }
    *ret_source = s;
    return 0;
}

uint64_t source_size_bytes(const struct source *s)
{
    return s->size_bytes;
}

unsigned source_slots(const struct source *s)
{
    return s->connections * DEPTH;
}

unsigned source_connections(const struct source *s)
{
    return s->connections;
}

bool source_allows_several(const struct source *s)
{
    return s->allows_several;
}

size_t source_max_read_bytes(const struct source *s)
{
    return s->max_read_bytes;
}

size_t source_read_unit_bytes(const struct source *s)
{
    return s->unit_bytes;
}

unsigned source_in_flight(const struct source *s)
{
    return s->in_flight;
}

/* ---- requests ---- */

/* Runs inside libnbd: queues, no more. */
static int note_finished(void *opaque, int *error)
{
    struct slot *slot = opaque;

    slot->err = *error;
    slot->next = slot->source->finished;
    slot->source->finished = slot;
    return 0; /* not retired yet */
}

static struct slot *slot_take(struct source *s, struct conn *conn, uint64_t offset, size_t length)
{
    struct slot *slot = s->free_slots;

    if (!slot)
        return NULL;
    s->free_slots = slot->next;
    slot->conn = conn;
    slot->offset = offset;
    slot->length = length;
    slot->extents = NULL;
    if (s->in_flight++ == 0)
        s->answered_ms = now_ms();
    conn->in_flight++;
    conn->bytes_in_flight += length;
    return slot;
}

static void slot_release(struct slot *slot)
{
    slot->source->in_flight--;
    slot->conn->in_flight--;
    slot->conn->bytes_in_flight -= slot->length;
    slot->conn = NULL;
    slot->next = slot->source->free_slots;
    slot->source->free_slots = slot;
}

/* Retires a finished request; what became of it. */
static int slot_finish(struct slot *slot)
{
    int completed = nbd_aio_command_completed(slot->conn->nbd, (uint64_t)slot->cookie);
    int err = slot->err;

    if (!err && completed != 1)
        err = nbd_get_errno() > 0 ? nbd_get_errno() : EIO;
    if (!err && !slot->extents && slot->received != slot->length)
        err = EPROTO;
    slot_release(slot);
    return err;
}

bool source_take_done(struct source *s, void (**ret_done)(void *opaque, int err), void **ret_opaque,
                      int *ret_err)
{
    struct slot *slot = s->finished;

    if (!slot)
        return false;
    s->finished = slot->next;
    *ret_done = slot->done;
    *ret_opaque = slot->opaque;
    *ret_err = slot_finish(slot);
    return true;
}

static bool finish_slots(struct source *s)
{
    void (*done)(void *opaque, int err);
    bool any = false;
    void *opaque;
    int err;

    for (; source_take_done(s, &done, &opaque, &err); any = true)
        done(opaque, err);
    return any;
}

/* The connection with the least to do that takes one more. */
static struct conn *conn_choose(struct source *s)
{
    struct conn *best = NULL;

    for (unsigned i = 0; i < s->connections; i++) {
        struct conn *conn = &s->conns[i];

        if (conn->in_flight < DEPTH && (!best || conn->bytes_in_flight < best->bytes_in_flight))
            best = conn;
    }
    return best;
}

/*
 * Runs inside libnbd, for each part of a reply. libnbd adds up their lengths, but would let bytes
 * that came twice stand for bytes that never came; then the buffer's old contents would pass for
 * the disk's. Servers send the parts in order, and only one where we may ask for it: which also
 * spares them the search for zeros in what is known to be data.
 */
static int note_chunk(void *opaque, const void *part, size_t length, uint64_t offset,
                      unsigned status, int *error)
{
    struct slot *slot = opaque;

    (void)part;
    if (status == LIBNBD_READ_ERROR)
        return 0;
    if (offset != slot->offset + slot->received) {
        *error = EPROTO;
        return -1;
    }
    slot->received += length;
    return 0;
}

int source_read(struct source *s, void *buffer, size_t length, uint64_t offset,
                void (*done)(void *opaque, int err), void *opaque, struct rp_error *e)
{
    struct conn *conn = conn_choose(s);
    struct slot *slot;

    if (s->dead || !conn)
        return s->dead ? fail_dead(e) : rp_fail(e, RESULT_FAILED, "too many reads at once");
    slot = slot_take(s, conn, offset, length);
    slot->done = done;
    slot->opaque = opaque;
    slot->received = 0;
    slot->cookie = nbd_aio_pread_structured(
        conn->nbd, buffer, length, offset,
        (nbd_chunk_callback){.callback = note_chunk, .user_data = slot},
        (nbd_completion_callback){.callback = note_finished, .user_data = slot},
        s->may_not_fragment ? LIBNBD_CMD_FLAG_DF : 0);
    if (slot->cookie < 0) {
        slot_release(slot);
        return rp_fail(e, RESULT_FAILED, "reading at %llu: %s", (unsigned long long)offset,
                       nbd_get_error());
    }
    return 0;
}

/* The first byte still asked for, of one connection or (NULL) of all: for messages. */
static uint64_t lowest_offset(const struct source *s, const struct conn *conn)
{
    uint64_t lowest = UINT64_MAX;

    for (unsigned i = 0; i < source_slots(s); i++) {
        const struct slot *slot = &s->slots[i];

        if (slot->conn && (!conn || slot->conn == conn) && slot->offset < lowest)
            lowest = slot->offset;
    }
    return lowest == UINT64_MAX ? 0 : lowest;
}

static int fail_lost(struct source *s, const struct conn *conn, struct rp_error *e)
{
    /* Without an error the server just closed; an older error text must not explain it. */
    const char *text = nbd_aio_is_dead(conn->nbd) ? nbd_get_error() : NULL;
    int rc = rp_fail(e, RESULT_FAILED, "the connection to %s was lost while reading at %llu%s%s",
                     s->socket_path, (unsigned long long)lowest_offset(s, conn), text ? ": " : "",
                     text ? text : "");

    s->lost = true;
    source_drop(s);
    return rc;
}

bool source_is_lost(const struct source *s)
{
    return s->lost;
}

static int fail_silent(struct source *s, struct rp_error *e)
{
    int rc = rp_fail(e, RESULT_TIMEOUT, "the server did not answer for %u ms while reading at %llu",
                     s->timeout_ms, (unsigned long long)lowest_offset(s, NULL));

    source_drop(s);
    return rc;
}

/* The connections in the order of their descriptors; `index` is past them for the bitmap's. */
static struct conn *conn_at(struct source *s, unsigned index)
{
    return index < s->connections ? &s->conns[index] : &s->bitmap_conn;
}

unsigned source_poll_begin(const struct source *s, struct pollfd *ret_fds)
{
    unsigned count = 0;

    for (; count < s->connections; count++)
        ret_fds[count] = conn_pollfd(&s->conns[count]);
    ret_fds[count++] = conn_pollfd(&s->bitmap_conn);
    return count;
}

int source_poll_end(struct source *s, const struct pollfd *fds, struct rp_error *e)
{
    if (s->dead)
        return fail_dead(e);
    for (unsigned i = 0; i <= s->connections; i++) {
        struct conn *conn = conn_at(s, i);

        if (conn->nbd && (conn_notify(conn, fds[i].revents) < 0 || conn_is_lost(conn)))
            return fail_lost(s, conn, e);
    }
    if (s->finished)
        s->answered_ms = now_ms();
    if (s->in_flight > 0 && now_ms() - s->answered_ms >= s->timeout_ms)
        return fail_silent(s, e);
    return 0;
}

bool source_needs_poll(const struct source *s)
{
    for (unsigned i = 0; i < s->connections; i++)
        if (nbd_aio_get_direction(s->conns[i].nbd) & LIBNBD_AIO_DIRECTION_WRITE)
            return true;
    return false;
}

int source_wait(struct source *s, int wake_fd, int timeout_ms, struct rp_error *e)
{
    uint64_t now = now_ms();
    uint64_t deadline_ms = now + (timeout_ms > 0 ? (unsigned)timeout_ms : 0);
    struct pollfd fds[SOURCE_FDS_MAX + 1];

    if (s->dead)
        return fail_dead(e);
    for (;;) {
        unsigned count = source_poll_begin(s, fds);
        int rc;

        fds[count] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
        /* Nothing yet, or EINTR, is no more than that. */
        if (poll(fds, count + 1, (int)(deadline_ms - now)) <= 0)
            for (unsigned i = 0; i <= count; i++)
                fds[i].revents = 0;
        rc = source_poll_end(s, fds, e);
        if (rc < 0)
            return rc;
        if (finish_slots(s) || fds[count].revents)
            return 0;
        now = now_ms();
        if (now >= deadline_ms)
            return 0;
    }
}

/* ---- block status ---- */

bool source_offers(const struct source *s, enum source_context context)
{
    return context == SOURCE_BITMAP ? s->bitmap_context != NULL : s->has_allocation;
}

static const char *context_name(const struct source *s, enum source_context context)
{
    return context == SOURCE_BITMAP ? s->bitmap_context : LIBNBD_CONTEXT_BASE_ALLOCATION;
}

/* Runs inside libnbd, once per context that the connection knows: not only for the one meant. */
static int note_extents(void *opaque, const char *name, uint64_t offset, uint32_t *entries,
                        size_t count, int *error)
{
    struct slot *slot = opaque;

    (void)error;
    if (strcmp(name, slot->context) == 0 && offset == slot->offset)
        slot->extents(slot->opaque, entries, count / 2);
    return 0;
}

int source_status(struct source *s, enum source_context context, uint64_t offset, uint64_t length,
                  void (*extents)(void *opaque, const uint32_t *pairs, size_t count),
                  void (*done)(void *opaque, int err), void *opaque, struct rp_error *e)
{
    bool own = context == SOURCE_BITMAP && s->bitmap_conn.nbd;
    struct conn *conn = own ? &s->bitmap_conn : &s->conns[0];
    struct slot *slot = s->dead ? NULL : slot_take(s, conn, offset, 0);

    if (!slot)
        return s->dead ? fail_dead(e) : rp_fail(e, RESULT_FAILED, "too many requests at once");
    slot->context = context_name(s, context);
    slot->extents = extents;
    slot->done = done;
    slot->opaque = opaque;
    slot->cookie = nbd_aio_block_status(
        conn->nbd, length, offset,
        (nbd_extent_callback){.callback = note_extents, .user_data = slot},
        (nbd_completion_callback){.callback = note_finished, .user_data = slot}, 0);
    if (slot->cookie < 0) {
        slot_release(slot);
        return rp_fail(e, RESULT_FAILED, "block status at %llu: %s", (unsigned long long)offset,
                       nbd_get_error());
    }
    return 0;
}

void source_end_bitmap(struct source *s)
{
    conn_close(&s->bitmap_conn);
}

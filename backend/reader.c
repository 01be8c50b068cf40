// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The threads of a reader (reader.h), each with a source, whose answers it waits for. Requests are
 * sent by whoever asks. Knows nothing of holds or files.
 */
#include "reader.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "source.h"

/* A thread is woken for all it has to know, but for the time that a server is silent. */
#define TICK_MS 1000

enum worker_state { WORKER_NONE, WORKER_CONNECTS, WORKER_SERVES, WORKER_DEAD };

struct worker {
    struct reader *reader;
    pthread_t thread;
    int wake_fd;
    atomic_size_t bytes; /* asked for and not answered: what its load is judged by */

    /* Protects all below. The thread lets go of it for poll(2), and when it tells of what is done.
     */
    pthread_mutex_t lock;
    pthread_cond_t connected;
    enum worker_state state;
    struct rp_error failure; /* to connect */
    uint64_t size_bytes;     /* once connected, like the next */
    bool allows_several;
    struct source *source;
    struct disk_read *active;       /* begun, linked both ways */
    struct disk_read *first, *last; /* queued while the connections take no more, linked by next */
};

struct reader {
    struct reader_params params; /* the strings are used while connecting only */
    uint64_t size_bytes;
    atomic_bool is_closing, is_unsound;
    unsigned nworkers; /* started */
    struct worker workers[READER_THREADS_MAX];
};

/* ---- reads; `_locked`: the worker's lock is held ---- */

static void activate_locked(struct worker *worker, struct disk_read *read)
{
    read->owner = worker;
    read->previous = NULL;
    read->next = worker->active;
    if (read->next)
        read->next->previous = read;
    worker->active = read;
}

static void deactivate_locked(struct disk_read *read)
{
    struct worker *worker = read->owner;

    if (read->previous)
        read->previous->next = read->next;
    else
        worker->active = read->next;
    if (read->next)
        read->next->previous = read->previous;
    atomic_fetch_sub(&worker->bytes, read->length);
}

/* What a read was begun with; called without the lock. Whoever is told may free the read. */
static void on_done(void *opaque, int err)
{
    struct disk_read *read = opaque;
    struct reader *reader = ((struct worker *)read->owner)->reader;

    if (!err && reader->params.is_sound && !reader->params.is_sound(reader->params.opaque)) {
        atomic_store(&reader->is_unsound, true);
        err = ENODEV;
    }
    read->done(read, err);
}

static int begin_locked(struct worker *worker, struct disk_read *read, struct rp_error *e)
{
    int rc;

    activate_locked(worker, read);
    rc = source_read(worker->source, read->buffer, read->length, read->offset, on_done, read, e);
    if (rc < 0)
        deactivate_locked(read);
    return rc;
}

static bool has_room_locked(const struct worker *worker)
{
    return source_in_flight(worker->source) < source_slots(worker->source);
}

/* Begins what had to wait. */
static int begin_queued_locked(struct worker *worker, struct rp_error *e)
{
    while (worker->first && has_room_locked(worker)) {
        struct disk_read *read = worker->first;
        int rc;

        worker->first = read->next;
        if (!worker->first)
            worker->last = NULL;
        rc = begin_locked(worker, read, e);
        if (rc < 0) {
            /* It fails with the others. */
            activate_locked(worker, read);
            atomic_fetch_add(&worker->bytes, read->length);
            return rc;
        }
    }
    return 0;
}

/* Tells of what is done, letting go of the lock for each. */
static void tell_locked(struct worker *worker)
{
    void (*done)(void *opaque, int err);
    void *opaque;
    int err;

    while (source_take_done(worker->source, &done, &opaque, &err)) {
        deactivate_locked(opaque);
        pthread_mutex_unlock(&worker->lock);
        done(opaque, err);
        pthread_mutex_lock(&worker->lock);
    }
}

static bool is_over(const struct reader *reader)
{
    return atomic_load(&reader->is_closing) || atomic_load(&reader->is_unsound);
}

static int wait_locked(struct worker *worker, struct rp_error *e)
{
    struct pollfd fds[SOURCE_FDS_MAX + 1];
    unsigned count = source_poll_begin(worker->source, fds);
    int ready;

    fds[count] = (struct pollfd){.fd = worker->wake_fd, .events = POLLIN};
    pthread_mutex_unlock(&worker->lock);
    ready = poll(fds, count + 1, TICK_MS);
    if (ready > 0 && fds[count].revents) {
        eventfd_t ignored;
        eventfd_read(worker->wake_fd, &ignored);
    }
    for (unsigned i = 0; i < count && ready <= 0; i++)
        fds[i].revents = 0;
    pthread_mutex_lock(&worker->lock);
    return source_poll_end(worker->source, fds, e);
}

static int serve(struct worker *worker, struct rp_error *e)
{
    int rc = 0;

    pthread_mutex_lock(&worker->lock);
    while (rc == 0 && !is_over(worker->reader)) {
        rc = wait_locked(worker, e);
        if (rc == 0)
            rc = begin_queued_locked(worker, e);
        if (rc == 0)
            tell_locked(worker);
    }
    /* Before the reads fail: from here on nothing writes to their buffers, and none is begun. */
    worker->state = WORKER_DEAD;
    source_drop(worker->source);
    pthread_mutex_unlock(&worker->lock);
    return rc;
}

/* Of a worker that is dead: nobody adds to its reads any more. */
static void fail_all(struct worker *worker, int err)
{
    while (worker->active) {
        struct disk_read *read = worker->active;

        deactivate_locked(read);
        read->done(read, err);
    }
    while (worker->first) {
        struct disk_read *read = worker->first;

        worker->first = read->next;
        read->done(read, err);
    }
}

/* ---- connecting ---- */

static bool is_cancelled(void *opaque)
{
    const struct reader *reader = opaque;

    return is_over(reader) ||
           (reader->params.cancelled && reader->params.cancelled(reader->params.opaque));
}

static int connect_source(struct worker *worker, struct source **ret_source, struct rp_error *e)
{
    const struct reader *reader = worker->reader;
    const struct source_params params = {
        .socket_path = reader->params.socket_path,
        .export_name = reader->params.export_name,
        .is_plain = true,
        .connections = 1,
        .timeout_ms = reader->params.timeout_ms,
        .cancelled = is_cancelled,
        .opaque = worker->reader,
    };

    return source_open(&params, ret_source, e);
}

static void *work(void *opaque)
{
    struct worker *worker = opaque;
    struct rp_error e = RP_ERROR_INIT;
    struct source *source = NULL;
    int rc = connect_source(worker, &source, &e);

    pthread_mutex_lock(&worker->lock);
    worker->source = source;
    worker->failure = e;
    if (rc == 0) {
        worker->size_bytes = source_size_bytes(source);
        worker->allows_several = source_allows_several(source);
    }
    worker->state = rc < 0 ? WORKER_DEAD : WORKER_SERVES;
    pthread_cond_broadcast(&worker->connected);
    pthread_mutex_unlock(&worker->lock);
    if (rc == 0)
        rc = serve(worker, &e);
    fail_all(worker, e.result == RESULT_TIMEOUT ? ETIMEDOUT : ENODEV);
    source_close(source);
    return NULL;
}

/* Returns when it is connected, or failed to be. */
static int start_worker(struct reader *reader, struct rp_error *e)
{
    struct worker *worker = &reader->workers[reader->nworkers];
    int rc = 0;

    worker->reader = reader;
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->wake_fd < 0)
        return rp_fail_errno(e, errno, "cannot make an eventfd");
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->connected, NULL);
    worker->state = WORKER_CONNECTS;
    rc = -pthread_create(&worker->thread, NULL, work, worker);
    if (rc < 0) {
        close(worker->wake_fd);
        return rp_fail_errno(e, -rc, "cannot start a thread");
    }
    reader->nworkers++;
    pthread_mutex_lock(&worker->lock);
    while (worker->state == WORKER_CONNECTS)
        pthread_cond_wait(&worker->connected, &worker->lock);
    if (worker->failure.err) {
        rc = -worker->failure.err;
        *e = worker->failure;
    }
    pthread_mutex_unlock(&worker->lock);
    return rc;
}

int reader_open(const struct reader_params *params, struct reader **ret_reader, struct rp_error *e)
{
    struct reader *reader = calloc(1, sizeof *reader);
    int rc;

    if (!reader)
        return rp_fail_memory(e);
    reader->params = *params;
    rc = start_worker(reader, e);
    while (rc == 0 && reader->workers[0].allows_several && reader->nworkers < params->threads &&
           reader->nworkers < READER_THREADS_MAX)
        rc = start_worker(reader, e);
    for (unsigned i = 1; rc == 0 && i < reader->nworkers; i++)
        if (reader->workers[i].size_bytes != reader->workers[0].size_bytes)
            rc = rp_fail(e, RESULT_FAILED, "the server gives export '%s' two different sizes",
                         params->export_name);
    if (rc < 0) {
        reader_close(reader);
        return rc;
    }
    reader->size_bytes = reader->workers[0].size_bytes;
    *ret_reader = reader;
    return 0;
}

uint64_t reader_size_bytes(const struct reader *reader)
{
    return reader->size_bytes;
}

/* ---- any thread ---- */

static struct worker *choose(struct reader *reader)
{
    struct worker *best = &reader->workers[0];

    for (unsigned i = 1; i < reader->nworkers; i++)
        if (atomic_load(&reader->workers[i].bytes) < atomic_load(&best->bytes))
            best = &reader->workers[i];
    return best;
}

static void append_locked(struct worker *worker, struct disk_read *read)
{
    read->next = NULL;
    if (worker->last)
        worker->last->next = read;
    else
        worker->first = read;
    worker->last = read;
}

/*
 * Where there is room the caller itself sends the request: handing it over would cost both threads
 * a switch, which is as much as all the rest of a short read.
 */
bool reader_read(struct reader *reader, struct disk_read *read)
{
    struct worker *worker = choose(reader);
    bool wake = false, taken;

    pthread_mutex_lock(&worker->lock);
    taken = worker->state == WORKER_SERVES && !is_over(reader);
    if (taken) {
        atomic_fetch_add(&worker->bytes, read->length);
        if (worker->first || !has_room_locked(worker)) {
            append_locked(worker, read);
        } else {
            taken = begin_locked(worker, read, NULL) == 0;
            wake = !taken || source_needs_poll(worker->source);
        }
    }
    pthread_mutex_unlock(&worker->lock);
    if (wake)
        eventfd_write(worker->wake_fd, 1);
    return taken;
}

bool reader_is_dead(struct reader *reader)
{
    bool dead = false;

    for (unsigned i = 0; i < reader->nworkers; i++) {
        pthread_mutex_lock(&reader->workers[i].lock);
        dead |= reader->workers[i].state == WORKER_DEAD;
        pthread_mutex_unlock(&reader->workers[i].lock);
    }
    return dead;
}

void reader_close(struct reader *reader)
{
    if (!reader)
        return;
    atomic_store(&reader->is_closing, true);
    for (unsigned i = 0; i < reader->nworkers; i++)
        eventfd_write(reader->workers[i].wake_fd, 1);
    for (unsigned i = 0; i < reader->nworkers; i++) {
        struct worker *worker = &reader->workers[i];

        pthread_join(worker->thread, NULL);
        close(worker->wake_fd);
        pthread_cond_destroy(&worker->connected);
        pthread_mutex_destroy(&worker->lock);
    }
    free(reader);
}

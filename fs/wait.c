// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Who waits for which job (wait.h). Owns the waiting requests; knows of files only how a result is
 * printed (the row's show). FUSE's threads add waiters, the backend's threads answer them, the
 * watch of answer.c takes interrupted ones away.
 *
 * A waiter stands under the serial of the job it waits for. Under that of the job's owner it
 * stands only while settings are being written, when there is no job yet; once there is, it moves.
 */
#include "wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "rows.h"

#define BUCKETS 256

struct waiter {
    struct answer answer; /* first: see release_waiter() */
    struct waits *waits;
    struct node node;
    size_t size;
    _Atomic uint64_t *ended;
    struct group *group; /* NULL once it is no longer listed */
    struct waiter *prev, *next;
};

/* All who wait for one serial, so that an event costs the same however many others wait. */
struct group {
    uint64_t serial;
    struct waiter *waiters;
    struct group *next;
};

struct waits {
    const struct tree *tree;
    struct answers *answers;
    /* Protects everything below, and group, prev and next of every waiter. Never held while the
     * backend or libfuse is called; the lock of answers may be taken inside it. */
    pthread_mutex_t lock;
    bool stopped;
    struct group *buckets[BUCKETS];
};

static struct group **bucket_of(struct waits *waits, uint64_t serial)
{
    /* The low bits say the kind, and here it is nearly always a job. */
    return &waits->buckets[(serial >> RP_KIND_BITS) % BUCKETS];
}

static struct group **find_locked(struct waits *waits, uint64_t serial)
{
    struct group **link = bucket_of(waits, serial);

    while (*link && (*link)->serial != serial)
        link = &(*link)->next;
    return link;
}

static int enlist_locked(struct waits *waits, struct waiter *waiter, uint64_t serial)
{
    struct group **link = find_locked(waits, serial);

    if (!*link) {
        struct group *group = calloc(1, sizeof *group);
        if (!group)
            return -ENOMEM;
        group->serial = serial;
        *link = group;
    }
    waiter->group = *link;
    waiter->prev = NULL;
    waiter->next = (*link)->waiters;
    if (waiter->next)
        waiter->next->prev = waiter;
    (*link)->waiters = waiter;
    return 0;
}

static void delist_locked(struct waits *waits, struct waiter *waiter)
{
    struct group *group = waiter->group;

    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        group->waiters = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    waiter->group = NULL;
    if (!group->waiters) {
        *find_locked(waits, group->serial) = group->next;
        free(group);
    }
}

/* All who wait for `serial`, off the list; linked by next. They are the caller's to answer. */
static struct waiter *take_all(struct waits *waits, uint64_t serial)
{
    struct waiter *all = NULL;

    pthread_mutex_lock(&waits->lock);
    struct group **link = find_locked(waits, serial), *group = *link;
    if (group) {
        *link = group->next;
        all = group->waiters;
        free(group);
    }
    for (struct waiter *waiter = all; waiter; waiter = waiter->next)
        waiter->group = NULL;
    pthread_mutex_unlock(&waits->lock);
    return all;
}

static bool is_awaited(struct waits *waits, uint64_t serial)
{
    bool awaited;

    pthread_mutex_lock(&waits->lock);
    awaited = *find_locked(waits, serial) != NULL;
    pthread_mutex_unlock(&waits->lock);
    return awaited;
}

/* No more than was asked for: the kernel takes a longer answer for an I/O error. */
static void reply_result(fuse_req_t req, const struct node *node, size_t size, size_t offset)
{
    char *text;
    size_t length;
    int ret = tree_render(node, &text, &length, NULL);

    if (ret < 0) {
        fuse_reply_err(req, -ret);
        return;
    }
    offset = offset < length ? offset : length;
    fuse_reply_buf(req, text + offset, length - offset < size ? length - offset : size);
    free(text);
}

/* What was waited for has ended under `serial`, or is gone. */
static void answer_all(struct waiter *waiters, uint64_t serial)
{
    while (waiters) {
        struct waiter *waiter = waiters;
        waiters = waiter->next;
        /* The job's own result: its owner may have started another one by now. */
        waiter->node.serial = serial;
        if (answer_claim(&waiter->answer)) {
            atomic_store(waiter->ended, serial);
            reply_result(waiter->answer.req, &waiter->node, waiter->size, 0);
        }
        answer_unref(&waiter->answer);
    }
}

static void fail_all(struct waiter *waiters, int err)
{
    while (waiters) {
        struct waiter *waiter = waiters;
        waiters = waiter->next;
        if (answer_claim(&waiter->answer))
            fuse_reply_err(waiter->answer.req, err);
        answer_unref(&waiter->answer);
    }
}

/* The serial under which a job will be seen to end: the job's own as soon as it has one. */
static uint64_t serial_to_await(struct backend *backend, uint64_t serial)
{
    uint64_t job;

    return backend_job_of(backend, serial, &job) == 0 ? job : serial;
}

static bool has_ended(struct backend *backend, uint64_t serial)
{
    enum job_state state;
    int result;

    return backend_job_state(backend, serial, &state, &result) < 0 || job_state_has_ended(state);
}

/* The settings were taken, so those who waited for a job to come now wait for that job. */
static void move_all(struct waits *waits, uint64_t from, uint64_t to)
{
    struct waiter *waiter = take_all(waits, from), *next;
    struct waiter *lost = NULL;

    pthread_mutex_lock(&waits->lock);
    for (; waiter; waiter = next) {
        next = waiter->next;
        if (answer_is_claimed(&waiter->answer) || enlist_locked(waits, waiter, to) < 0) {
            waiter->next = lost;
            lost = waiter;
        }
    }
    pthread_mutex_unlock(&waits->lock);
    fail_all(lost, ENOMEM);
}

void wait_changed(struct waits *waits, uint64_t serial, unsigned topics)
{
    struct backend *backend;

    if (!(topics & (TOPIC_JOB | TOPIC_GONE)) || !is_awaited(waits, serial))
        return;
    backend = waits->tree->backend;
    uint64_t job = serial_to_await(backend, serial);
    if (job != serial) {
        move_all(waits, serial, job);
        serial = job;
    }
    if (has_ended(backend, serial))
        answer_all(take_all(waits, serial), serial);
}

static void release_waiter(struct answer *answer)
{
    free(answer);
}

static void on_interrupt(struct answer *answer)
{
    struct waiter *waiter = (struct waiter *)answer;
    struct waits *waits = waiter->waits;
    bool listed;

    pthread_mutex_lock(&waits->lock);
    listed = waiter->group != NULL;
    if (listed)
        delist_locked(waits, waiter);
    pthread_mutex_unlock(&waits->lock);
    if (listed)
        answer_unref(answer);
}

/* Hands the waiter over to the list; or answers it, when it cannot be. */
static void enlist(struct waits *waits, struct waiter *waiter, uint64_t serial)
{
    int ret = 0;

    pthread_mutex_lock(&waits->lock);
    if (waits->stopped)
        ret = -ENOTCONN;
    else if (answer_is_claimed(&waiter->answer))
        ret = -EINTR; /* and answered so already */
    else
        ret = enlist_locked(waits, waiter, serial);
    pthread_mutex_unlock(&waits->lock);
    if (ret < 0) {
        waiter->next = NULL;
        fail_all(waiter, -ret);
    }
}

void wait_read_on(fuse_req_t req, const struct node *node, uint64_t ended, size_t size,
                  off_t offset)
{
    struct node read = *node;

    read.serial = ended;
    if (ended)
        reply_result(req, &read, size, (size_t)offset);
    else
        fuse_reply_buf(req, NULL, 0);
}

void wait_read(struct waits *waits, fuse_req_t req, const struct node *node, size_t size,
               bool nonblocking, _Atomic uint64_t *ended)
{
    struct node awaited = *node;
    struct waiter *waiter;

    awaited.serial = serial_to_await(node->backend, node->serial);
    if (has_ended(node->backend, awaited.serial)) {
        atomic_store(ended, awaited.serial);
        reply_result(req, &awaited, size, 0);
        return;
    }
    if (nonblocking) {
        fuse_reply_err(req, EAGAIN);
        return;
    }
    waiter = calloc(1, sizeof *waiter);
    if (!waiter) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    waiter->waits = waits;
    waiter->node = awaited;
    waiter->size = size;
    waiter->ended = ended;
    answer_init(waits->answers, &waiter->answer, req, 0, on_interrupt, release_waiter);
    enlist(waits, waiter, awaited.serial);
    /* It may have ended just before it was listed, and then nobody else will say so. */
    wait_changed(waits, awaited.serial, TOPIC_JOB);
}

bool wait_has_ended(const struct node *node)
{
    return has_ended(node->backend, node->serial);
}

struct waits *waits_new(const struct tree *tree, struct answers *answers)
{
    struct waits *waits = calloc(1, sizeof *waits);

    if (!waits)
        return NULL;
    waits->tree = tree;
    waits->answers = answers;
    pthread_mutex_init(&waits->lock, NULL);
    return waits;
}

void waits_stop(struct waits *waits)
{
    pthread_mutex_lock(&waits->lock);
    waits->stopped = true;
    pthread_mutex_unlock(&waits->lock);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (;;) {
            pthread_mutex_lock(&waits->lock);
            struct group *group = waits->buckets[i];
            uint64_t serial = group ? group->serial : 0;
            pthread_mutex_unlock(&waits->lock);
            if (!group)
                break;
            fail_all(take_all(waits, serial), ENOTCONN);
        }
    }
}

void waits_free(struct waits *waits)
{
    if (!waits)
        return;
    pthread_mutex_destroy(&waits->lock);
    free(waits);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A pool of threads for slow operations (lane.h). Owns the threads and what waits for them; knows
 * nothing of files. lane->lock is never held while an operation runs or is answered.
 */
#include "lane.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/*
 * Operations mostly wait, for libvirt or a disk, so this is not about processors: it bounds what a
 * dead NFS server can tie up, and still lets every VM of a busy night be marked at once.
 */
#define WORKERS_MAX 32

/* A thread that found nothing to do for so long ends; a burst of work keeps its threads. */
#define IDLE_SECONDS 10

enum worker_state { WORKER_NONE, WORKER_RUNS, WORKER_ENDED };

struct worker {
    struct lane *lane;
    pthread_t thread;
    enum worker_state state;
};

struct lane {
    struct answers *answers;
    /* Protects everything below and every lane_queue. */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* on CLOCK_MONOTONIC */
    struct lane_op *first, *last;
    size_t waiting, idle;
    bool ending;
    struct worker workers[WORKERS_MAX];
};

static void append(struct lane_op **first, struct lane_op **last, struct lane_op *op)
{
    op->next = NULL;
    if (*last)
        (*last)->next = op;
    else
        *first = op;
    *last = op;
}

static struct lane_op *take(struct lane_op **first, struct lane_op **last)
{
    struct lane_op *op = *first;

    if (op) {
        *first = op->next;
        if (!*first)
            *last = NULL;
    }
    return op;
}

static void release_op(struct answer *answer)
{
    /* The answer is the first member. */
    free(answer);
}

/* Lets the next operation of the same open file run. */
static void advance_queue_locked(struct lane *lane, struct lane_queue *queue)
{
    struct lane_op *next = take(&queue->first, &queue->last);

    if (!next) {
        queue->busy = false;
        return;
    }
    append(&lane->first, &lane->last, next);
    lane->waiting++;
    pthread_cond_signal(&lane->wake);
}

static void run(struct lane *lane, struct lane_op *op)
{
    if (!op->droppable || !answer_is_claimed(&op->answer))
        op->work(op);
    if (op->queue) {
        pthread_mutex_lock(&lane->lock);
        advance_queue_locked(lane, op->queue);
        pthread_mutex_unlock(&lane->lock);
    }
    /* Only now: releasing a file's last operation frees the file, and the queue with it. */
    if (op->release)
        op->release(op);
    answer_unref(&op->answer);
}

/* False when the thread should end. */
static bool wait_locked(struct lane *lane)
{
    struct timespec until;
    int err = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    lane->idle++;
    while (!lane->first && !lane->ending && err != ETIMEDOUT)
        err = pthread_cond_timedwait(&lane->wake, &lane->lock, &until);
    lane->idle--;
    return lane->first != NULL;
}

static void *work(void *opaque)
{
    struct worker *worker = opaque;
    struct lane *lane = worker->lane;

    pthread_mutex_lock(&lane->lock);
    while (lane->first || wait_locked(lane)) {
        struct lane_op *op = take(&lane->first, &lane->last);
        lane->waiting--;
        pthread_mutex_unlock(&lane->lock);
        run(lane, op);
        pthread_mutex_lock(&lane->lock);
    }
    worker->state = WORKER_ENDED;
    pthread_mutex_unlock(&lane->lock);
    return NULL;
}

static int start_thread(struct worker *worker)
{
    sigset_t all, before;
    int err;

    /* Signals are for the main thread alone: only there do they end libfuse's loop. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    err = pthread_create(&worker->thread, NULL, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

/*
 * Starts one more thread when there is more to do than threads that wait for it. True when the
 * work will be done by some thread, now or later.
 */
static bool grow_locked(struct lane *lane)
{
    struct worker *slot = NULL;
    bool runs = false;

    if (lane->idle >= lane->waiting)
        return true;
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        if (lane->workers[i].state == WORKER_RUNS)
            runs = true;
        else if (!slot)
            slot = &lane->workers[i];
    }
    if (!slot)
        return true;
    /* It has ended: nothing to wait for. */
    if (slot->state == WORKER_ENDED)
        pthread_join(slot->thread, NULL);
    slot->lane = lane;
    slot->state = start_thread(slot) == 0 ? WORKER_RUNS : WORKER_NONE;
    return runs || slot->state == WORKER_RUNS;
}

/* Without a single thread, the caller does the work: late is better than never. */
static void run_here(struct lane *lane)
{
    struct lane_op *op;

    do {
        pthread_mutex_lock(&lane->lock);
        op = take(&lane->first, &lane->last);
        if (op)
            lane->waiting--;
        pthread_mutex_unlock(&lane->lock);
        if (op)
            run(lane, op);
    } while (op);
}

void lane_submit(struct lane *lane, struct lane_queue *queue, struct lane_op *op, fuse_req_t req,
                 unsigned grace_ms)
{
    bool served = true;

    op->lane = lane;
    op->queue = queue;
    answer_init(lane->answers, &op->answer, req, grace_ms, NULL, release_op);

    pthread_mutex_lock(&lane->lock);
    if (queue && queue->busy) {
        append(&queue->first, &queue->last, op);
    } else {
        if (queue)
            queue->busy = true;
        append(&lane->first, &lane->last, op);
        lane->waiting++;
        pthread_cond_signal(&lane->wake);
        served = grow_locked(lane);
    }
    pthread_mutex_unlock(&lane->lock);
    if (!served)
        run_here(lane);
}

struct lane *lane_new(struct answers *answers)
{
    struct lane *lane = calloc(1, sizeof *lane);
    pthread_condattr_t attr;

    if (!lane)
        return NULL;
    lane->answers = answers;
    pthread_mutex_init(&lane->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&lane->wake, &attr);
    pthread_condattr_destroy(&attr);
    return lane;
}

void lane_free(struct lane *lane)
{
    if (!lane)
        return;
    pthread_mutex_lock(&lane->lock);
    lane->ending = true;
    pthread_cond_broadcast(&lane->wake);
    pthread_mutex_unlock(&lane->lock);
    /* The states are stable now: nothing is submitted any more, so nothing is started. */
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        pthread_mutex_lock(&lane->lock);
        enum worker_state state = lane->workers[i].state;
        pthread_mutex_unlock(&lane->lock);
        if (state != WORKER_NONE)
            pthread_join(lane->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&lane->wake);
    pthread_mutex_destroy(&lane->lock);
    free(lane);
}

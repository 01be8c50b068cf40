// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The watch over workers. A worker whose system call does not return (a dead file server under the
 * export directory, say) can neither be cancelled nor joined: its job is ended without it, and what
 * it finds out if it ever comes back is thrown away (job_commit() fails then). One thread.
 */
#include <inttypes.h>
#include <time.h>

#include "job-queue.h"

/* Workers give a sign of life every 100 ms. Nothing that works needs so long between two. */
#define SILENT_MS 60000

/* The same when the job is to end in any case: a disk that is merely slow gets this long. */
#define GRACE_MS 5000

#define TICK_SECONDS 1

/* True when the job is to be ended without its worker; *e says why. */
static bool is_lost_locked(const struct job *job, struct rp_error *e)
{
    int64_t now = job_now_ms(), silent = now - job->heard_ms;

    if (!job->has_worker || job_state_has_ended(job->state) || silent < GRACE_MS)
        return false;
    if (job->cancelled && now - job->cancelled_ms >= GRACE_MS) {
        rp_fail(e, RESULT_FAILED,
                "cancelled; what the job was waiting for (the export directory, libvirt or QEMU) "
                "does not answer");
        return true;
    }
    if (job->deadline_ms && now - job->deadline_ms >= GRACE_MS) {
        rp_fail(e, RESULT_TIMEOUT,
                "Timeout of %" PRIu64 " s reached; what the job was waiting for (the export "
                "directory, libvirt or QEMU) does not answer",
                job->timeout_seconds);
        return true;
    }
    if (silent < SILENT_MS)
        return false;
    rp_fail(e, RESULT_TIMEOUT,
            "no sign of life for %d s: the export directory, libvirt or QEMU does not answer",
            SILENT_MS / 1000);
    return true;
}

/* Decides one lost job, and returns it; NULL: there is none. It cannot be freed: it has a worker.
 */
static struct job *decide_lost_locked(struct job_queue *queue)
{
    for (size_t i = 0; i < queue->jobs.count; i++) {
        struct job *job = queue->jobs.items[i];
        struct rp_error e;

        if (!job->is_given_up && is_lost_locked(job, &e)) {
            /* Its export may be complete all the same, and only what follows hang. */
            job_decide_locked(job, job->is_committed ? 0 : -e.err, &e);
            job->is_given_up = true;
            return job;
        }
    }
    return NULL;
}

static void give_up(struct job *job)
{
    struct job_queue *queue = job->queue;
    uint64_t serial = job->serial, owner = job->owner;
    bool ended;

    job_keep(queue, serial);
    pthread_mutex_lock(&queue->lock);
    ended = job_end_locked(job);
    if (ended)
        queue->running--;
    pthread_cond_broadcast(&queue->idle);
    pthread_mutex_unlock(&queue->lock);
    job_start(queue);
    if (ended)
        job_announce(queue, serial, owner, TOPIC_JOB);
}

static void *watch(void *opaque)
{
    struct job_queue *queue = opaque;
    struct job *lost;

    pthread_mutex_lock(&queue->lock);
    while (!queue->watch_stops) {
        struct timespec until;

        lost = decide_lost_locked(queue);
        if (lost) {
            pthread_mutex_unlock(&queue->lock);
            give_up(lost);
            pthread_mutex_lock(&queue->lock);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TICK_SECONDS;
        if (queue->running > 0)
            pthread_cond_timedwait(&queue->watch, &queue->lock, &until);
        else
            pthread_cond_wait(&queue->watch, &queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

int job_watch_start(struct job_queue *queue, struct rp_error *e)
{
    if (pthread_create(&queue->watcher, NULL, watch, queue) != 0)
        return rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start a thread");
    queue->has_watcher = true;
    return 0;
}

void job_watch_stop(struct job_queue *queue)
{
    if (!queue->has_watcher)
        return;
    pthread_mutex_lock(&queue->lock);
    queue->watch_stops = true;
    pthread_cond_broadcast(&queue->watch);
    pthread_mutex_unlock(&queue->lock);
    pthread_join(queue->watcher, NULL);
    queue->has_watcher = false;
}

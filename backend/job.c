// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The queue of jobs and their workers. Owns every job and what is known about it, from submission
 * until it is forgotten; knows neither VMs nor exports.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "job-queue.h"

/* Ended jobs that are remembered; older ones leave jobs/. Enough for a year of nightly exports of
 * a few VMs, a few hundred KiB. */
#define JOBS_REMEMBERED 1000

/* Progress is announced at most this often: a poller wants to see movement, not every megabyte. */
#define PROGRESS_EVENT_MS 250

/* The rate is that of the last 2-4 seconds. */
#define RATE_WINDOW_MS 2000

int64_t job_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct timespec job_now_real(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

void job_free(struct job *job)
{
    if (job->opaque)
        job->release(job->opaque);
    free(job->vm_name);
    free(job->uuid);
    free(job->refpoint);
    free(job->point_id);
    free(job->files);
    free(job->settings);
    free(job->export_directory);
    free(job);
}

void job_announce(struct job_queue *queue, uint64_t job, uint64_t owner, unsigned topics)
{
    /* Who waits for the job looks at its owner next. */
    queue->events.changed(queue->events.opaque, owner, 0);
    queue->events.changed(queue->events.opaque, job, topics);
    queue->events.changed(queue->events.opaque, owner, topics);
}

/* ---- queue ---- */

int job_queue_open(unsigned max_running, struct journal *journal,
                   const struct backend_events *events, struct job_queue **ret_queue,
                   struct rp_error *e)
{
    struct job_queue *queue = calloc(1, sizeof *queue);
    pthread_condattr_t monotonic;
    int rc;

    if (!queue)
        return rp_fail_memory(e);
    job_list_init(queue);
    queue->events = *events;
    queue->journal = journal;
    queue->max_running = max_running ? max_running : 1;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&queue->keeping, NULL);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->idle, &monotonic);
    pthread_cond_init(&queue->watch, &monotonic);
    pthread_condattr_destroy(&monotonic);
    rc = job_keep_restore(queue, e);
    if (rc == 0)
        rc = job_watch_start(queue, e);
    if (rc < 0) {
        job_queue_close(queue);
        return rc;
    }
    *ret_queue = queue;
    return 0;
}

void job_decide_locked(struct job *job, int rc, const struct rp_error *e)
{
    if (job->outcome.state != JOB_NONE)
        return;
    job->outcome.ended = job_now_real();
    if (rc == 0) {
        job->outcome.state = JOB_COMPLETED;
        job->outcome.error = job->note;
        job->outcome.error.result = RESULT_COMPLETED;
        job->outcome.error.err = 0;
    } else {
        job->outcome.state = job->cancelled ? JOB_TERMINATED : JOB_EXCEPTION;
        job->outcome.error = *e;
    }
}

bool job_end_locked(struct job *job)
{
    if (job_state_has_ended(job->state))
        return false;
    job->state = job->outcome.state;
    job->error = job->outcome.error;
    job->ended = job->changed = job->outcome.ended;
    if (job->state == JOB_COMPLETED)
        job->bytes_done = job->bytes_total;
    job->queue->ended++;
    index_remove(&job->queue->busy_vms, job);
    return true;
}

/* Decided, kept and shown, in this order: what was seen to have ended has ended for good. */
static bool end(struct job *job, int rc, const struct rp_error *e)
{
    bool ended;

    pthread_mutex_lock(&job->queue->lock);
    job_decide_locked(job, rc, e);
    pthread_mutex_unlock(&job->queue->lock);
    job_keep(job->queue, job->serial);
    pthread_mutex_lock(&job->queue->lock);
    ended = job_end_locked(job);
    pthread_mutex_unlock(&job->queue->lock);
    return ended;
}

/* Takes out the oldest that has ended, where there are too many; NULL: there are not. */
static struct job *take_oldest(struct job_queue *queue)
{
    struct job *oldest = NULL;

    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < queue->jobs.count && queue->ended > JOBS_REMEMBERED && !oldest; i++) {
        struct job *job = queue->jobs.items[i];

        /* One with a worker still to be joined is forgotten the next time. */
        if (job_state_has_ended(job->state) && !job->has_worker)
            oldest = job;
    }
    if (oldest) {
        job_list_remove_locked(queue, oldest);
        queue->ended--;
    }
    pthread_mutex_unlock(&queue->lock);
    return oldest;
}

static void forget_oldest(struct job_queue *queue)
{
    struct job *job;

    while ((job = take_oldest(queue))) {
        if (queue->journal)
            journal_remove_job(queue->journal, job->id);
        queue->events.changed(queue->events.opaque, job->serial, TOPIC_GONE);
        if (job->owner)
            queue->events.changed(queue->events.opaque, job->owner, TOPIC_JOB);
        job_free(job);
    }
}

static void *work(void *opaque);

/*
 * Ends a job that never got a worker. What it was given goes back first: who sees that it has ended
 * may let go of the hold.
 */
static void end_unstarted(struct job *job, const struct rp_error *e)
{
    struct job_queue *queue = job->queue;
    void *opaque;

    pthread_mutex_lock(&queue->lock);
    opaque = job->opaque;
    job->opaque = NULL;
    job->unclean = false;
    pthread_mutex_unlock(&queue->lock);
    if (opaque)
        job->release(opaque);
    end(job, -e->err, e);
}

/* Oldest first. NULL: there is none, or enough are running. */
static struct job *find_next_locked(struct job_queue *queue)
{
    for (size_t i = 0; i < queue->jobs.count && queue->running < queue->max_running; i++) {
        struct job *job = queue->jobs.items[i];

        if (job->state == JOB_NEW && job->is_kept && !job->cancelled && !queue->closing)
            return job;
    }
    return NULL;
}

static bool start_locked(struct job *job)
{
    job->state = JOB_STARTING;
    job->started = job->changed = job_now_real();
    job->heard_ms = job_now_ms();
    if (pthread_create(&job->worker, NULL, work, job) != 0)
        return false;
    job->has_worker = true;
    job->queue->running++;
    pthread_cond_signal(&job->queue->watch);
    return true;
}

void job_start(struct job_queue *queue)
{
    struct job *job;
    struct rp_error e;

    pthread_mutex_lock(&queue->lock);
    while ((job = find_next_locked(queue))) {
        uint64_t serial = job->serial, owner = job->owner;

        if (start_locked(job))
            continue;
        pthread_mutex_unlock(&queue->lock);
        rp_fail(&e, RESULT_OUT_OF_MEMORY, "cannot start a thread");
        end_unstarted(job, &e);
        job_announce(queue, serial, owner, TOPIC_JOB);
        pthread_mutex_lock(&queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
}

/* Joins workers that are done; called without the lock by whoever comes by. */
static void reap(struct job_queue *queue)
{
    for (;;) {
        struct job *found = NULL;

        pthread_mutex_lock(&queue->lock);
        for (size_t i = 0; i < queue->jobs.count && !found; i++) {
            struct job *job = queue->jobs.items[i];
            if (job->has_worker && job->worker_is_done) {
                job->has_worker = false;
                found = job;
            }
        }
        pthread_t worker = found ? found->worker : pthread_self();
        pthread_mutex_unlock(&queue->lock);
        if (!found)
            return;
        pthread_join(worker, NULL);
    }
}

static void *work(void *opaque)
{
    struct job *job = opaque;
    struct job_queue *queue = job->queue;
    struct rp_error e = RP_ERROR_INIT;
    uint64_t serial = job->serial, owner = job->owner;
    bool ended;
    int rc;

    job_announce(queue, serial, owner, TOPIC_JOB);
    rc = job_check(job, &e);
    if (rc == 0)
        rc = job->run(job, job->opaque, &e);
    job->release(job->opaque);

    pthread_mutex_lock(&queue->lock);
    job->opaque = NULL;
    job->unclean = false; /* what it made is complete, or gone */
    pthread_mutex_unlock(&queue->lock);
    ended = end(job, rc, &e);
    pthread_mutex_lock(&queue->lock);
    if (ended)
        queue->running--; /* or the watch has counted it off */
    pthread_mutex_unlock(&queue->lock);
    job_start(queue);

    if (ended)
        job_announce(queue, serial, owner, TOPIC_JOB);

    /* From here on the job may be freed as soon as this thread was joined. */
    pthread_mutex_lock(&queue->lock);
    job->worker_is_done = true;
    pthread_cond_broadcast(&queue->idle);
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

/* Workers to be joined; with `given_up` also those of jobs that ended without them. */
static bool has_workers_locked(const struct job_queue *queue, bool given_up)
{
    for (size_t i = 0; i < queue->jobs.count; i++) {
        const struct job *job = queue->jobs.items[i];

        if (job->has_worker && (given_up || job->worker_is_done || !job->is_given_up))
            return true;
    }
    return false;
}

/* True when it never gets a worker, and is the caller's to end. */
static bool cancel_locked(struct job *job)
{
    bool was_cancelled = job->cancelled;

    job->cancelled = true;
    job->cancelled_ms = job_now_ms();
    job->changed = job_now_real();
    return job->state == JOB_NEW && !was_cancelled;
}

static void end_cancelled(struct job *job)
{
    struct rp_error e;

    rp_fail(&e, RESULT_FAILED, "cancelled before it began");
    end_unstarted(job, &e);
}

static void cancel_all(struct job_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closing = true;
    pthread_mutex_unlock(&queue->lock);
    for (size_t i = 0; i < queue->jobs.count; i++) {
        struct job *job = queue->jobs.items[i];
        bool is_ours;

        pthread_mutex_lock(&queue->lock);
        is_ours = !job_state_has_ended(job->state) && cancel_locked(job);
        pthread_mutex_unlock(&queue->lock);
        if (is_ours)
            end_cancelled(job);
    }
}

/* Until every worker is done, or all that are not belong to jobs that the watch gave up. */
static bool join_workers(struct job_queue *queue)
{
    bool any;

    do {
        struct timespec until;

        reap(queue);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        pthread_mutex_lock(&queue->lock);
        any = has_workers_locked(queue, false);
        if (any)
            pthread_cond_timedwait(&queue->idle, &queue->lock, &until);
        pthread_mutex_unlock(&queue->lock);
    } while (any);
    reap(queue);
    pthread_mutex_lock(&queue->lock);
    any = has_workers_locked(queue, true);
    pthread_mutex_unlock(&queue->lock);
    return !any;
}

bool job_queue_end(struct job_queue *queue)
{
    cancel_all(queue);
    return join_workers(queue);
}

void job_queue_close(struct job_queue *queue)
{
    if (!queue)
        return;
    job_queue_end(queue);
    job_watch_stop(queue);
    for (size_t i = 0; i < queue->jobs.count; i++)
        job_free(queue->jobs.items[i]);
    table_clear(&queue->jobs);
    index_clear(&queue->last_jobs);
    index_clear(&queue->busy_vms);
    pthread_cond_destroy(&queue->idle);
    pthread_cond_destroy(&queue->watch);
    pthread_mutex_destroy(&queue->lock);
    pthread_mutex_destroy(&queue->keeping);
    free(queue);
}

/* Nobody else's file has it in its name, nor one of a job before. */
static void make_tag(struct job *job)
{
    uint64_t number = 0;

    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
        number = (uint64_t)job->submitted.tv_sec << 20 ^ (uint64_t)job->submitted.tv_nsec;
    snprintf(job->tag, sizeof job->tag, "%016" PRIx64, number);
}

static struct job *new_job(struct job_queue *queue, const struct job_params *params)
{
    struct job *job = calloc(1, sizeof *job);

    if (!job)
        return NULL;
    job->queue = queue;
    job->owner = params->owner;
    job->vm = params->vm;
    job->vm_name = strdup(params->vm_name);
    job->uuid = strdup(params->uuid);
    job->refpoint = strdup(params->refpoint);
    job->point_id = strdup(params->point_id);
    job->settings = strdup(params->settings);
    job->export_directory = strdup(params->export_directory);
    job->caller = *params->caller;
    job->run = params->run;
    job->release = params->release;
    job->state = JOB_NEW;
    job->error.result = RESULT_JOB_STARTED;
    job->submitted = job->changed = job_now_real();
    job->unclean = true;
    job->made_directory = params->makes_directory;
    make_tag(job);
    if (!job->vm_name || !job->uuid || !job->refpoint || !job->point_id || !job->settings ||
        !job->export_directory) {
        job_free(job);
        return NULL;
    }
    return job;
}

static int submit_locked(struct job_queue *queue, struct job *job, struct rp_error *e)
{
    if (queue->closing)
        return rp_fail(e, RESULT_NOT_AVAILABLE, "the service is being stopped");
    if (job_list_is_busy_locked(queue, job->vm))
        return rp_fail(e, RESULT_IN_USE, "an export of VM '%s' is running", job->vm_name);
    job->serial = table_new_serial(KIND_JOB);
    if (job_list_add_locked(queue, job) < 0)
        return rp_fail_memory(e);
    job->id = ++queue->last_id;
    return 0;
}

int job_submit(struct job_queue *queue, const struct job_params *params, uint64_t *ret_job,
               struct rp_error *e)
{
    struct job *job = new_job(queue, params);
    uint64_t serial = 0;
    int rc;

    if (!job)
        return rp_fail_memory(e);
    reap(queue);
    pthread_mutex_lock(&queue->lock);
    rc = submit_locked(queue, job, e);
    if (rc == 0) {
        serial = job->serial;
        job->opaque = params->opaque;
    }
    pthread_mutex_unlock(&queue->lock);
    if (rc < 0) {
        job_free(job);
        return rc;
    }
    /* Before it begins to leave traces. */
    job_keep(queue, serial);
    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job)
        job->is_kept = true;
    pthread_mutex_unlock(&queue->lock);
    job_start(queue);
    forget_oldest(queue);
    *ret_job = serial;
    queue->events.changed(queue->events.opaque, 0, TOPIC_LIST);
    job_announce(queue, serial, params->owner, TOPIC_JOB);
    return 0;
}

int job_cancel(struct job_queue *queue, uint64_t serial, struct rp_error *e)
{
    struct job *job;
    uint64_t owner = 0;
    bool is_ours = false;

    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job && !job_state_has_ended(job->state)) {
        owner = job->owner;
        is_ours = cancel_locked(job);
    }
    pthread_mutex_unlock(&queue->lock);
    if (!job)
        return rp_fail_errno(e, ENOENT, "no such job");
    if (is_ours)
        end_cancelled(job);
    if (owner)
        job_announce(queue, serial, owner, TOPIC_JOB);
    return 0;
}

/* ---- for the worker ---- */

int job_check(struct job *job, struct rp_error *e)
{
    bool given_up;

    job->heard_ms = job_now_ms();
    pthread_mutex_lock(&job->queue->lock);
    given_up = job_state_has_ended(job->state);
    if (given_up)
        *e = job->error;
    pthread_mutex_unlock(&job->queue->lock);
    if (given_up)
        return -e->err;
    if (job->cancelled)
        return rp_fail(e, RESULT_FAILED, "cancelled");
    if (job->deadline_ms && job_now_ms() > job->deadline_ms)
        return rp_fail(e, RESULT_TIMEOUT, "Timeout of %" PRIu64 " s reached", job->timeout_seconds);
    return 0;
}

const char *job_tag(const struct job *job)
{
    return job->tag;
}

int job_set_files(struct job *job, const char *files, struct rp_error *e)
{
    char *copy = strdup(files), *old;

    if (!copy)
        return rp_fail_memory(e);
    pthread_mutex_lock(&job->queue->lock);
    old = job->files;
    job->files = copy;
    pthread_mutex_unlock(&job->queue->lock);
    free(old);
    job_keep(job->queue, job->serial);
    return 0;
}

int job_commit(struct job *job, struct rp_error *e)
{
    int rc = 0;

    pthread_mutex_lock(&job->queue->lock);
    if (job->outcome.state == JOB_NONE) {
        job->is_committed = true;
    } else {
        *e = job->outcome.error;
        rc = -e->err;
    }
    pthread_mutex_unlock(&job->queue->lock);
    return rc;
}

void job_set_timeout(struct job *job, uint64_t seconds)
{
    job->timeout_seconds = seconds;
    /* A limit beyond what the clock can count is none. */
    job->deadline_ms =
        seconds && seconds < INT64_MAX / 2000 ? job_now_ms() + (int64_t)seconds * 1000 : 0;
}

void job_set_running(struct job *job)
{
    pthread_mutex_lock(&job->queue->lock);
    job->state = JOB_RUNNING;
    job->changed = job_now_real();
    job->sample_ms[0] = job->sample_ms[1] = job_now_ms();
    pthread_mutex_unlock(&job->queue->lock);
    job_announce(job->queue, job->serial, job->owner, TOPIC_JOB);
}

void job_set_total(struct job *job, uint64_t bytes)
{
    pthread_mutex_lock(&job->queue->lock);
    job->bytes_total = bytes;
    pthread_mutex_unlock(&job->queue->lock);
}

void job_set_done(struct job *job, uint64_t bytes)
{
    int64_t now = job_now_ms();
    bool tell;

    pthread_mutex_lock(&job->queue->lock);
    job->bytes_done = bytes;
    if (now - job->sample_ms[1] >= RATE_WINDOW_MS) {
        job->sample_ms[0] = job->sample_ms[1];
        job->sample_bytes[0] = job->sample_bytes[1];
        job->sample_ms[1] = now;
        job->sample_bytes[1] = bytes;
    }
    tell = now - job->announced_ms >= PROGRESS_EVENT_MS;
    if (tell)
        job->announced_ms = now;
    pthread_mutex_unlock(&job->queue->lock);
    if (tell)
        job_announce(job->queue, job->serial, job->owner, TOPIC_JOB);
}

void job_set_note(struct job *job, const char *note)
{
    struct rp_error before;

    pthread_mutex_lock(&job->queue->lock);
    /* Only its message is used. */
    before = job->note;
    rp_fail(&job->note, RESULT_FAILED, "%s%s%s", before.message, *before.message ? "; " : "", note);
    pthread_mutex_unlock(&job->queue->lock);
}

void job_set_moment(struct job *job, struct timespec moment, enum job_exact exact)
{
    pthread_mutex_lock(&job->queue->lock);
    job->moment = moment;
    job->exact = exact;
    pthread_mutex_unlock(&job->queue->lock);
}

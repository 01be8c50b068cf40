// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The queue of jobs and their workers. Owns every job and what is known about it, from submission
 * until it is forgotten; knows neither VMs nor exports.
 */
#include "job.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

/* Ended jobs that are remembered; older ones leave jobs/. Enough for a year of nightly exports of
 * a few VMs, a few hundred KiB. */
#define JOBS_REMEMBERED 1000

/* Progress is announced at most this often: a poller wants to see movement, not every megabyte. */
#define PROGRESS_EVENT_MS 250

/* The rate is that of the last 2-4 seconds. */
#define RATE_WINDOW_MS 2000

struct job {
    uint64_t serial; /* must be first: struct table */
    struct job_queue *queue;
    uint64_t id;
    uint64_t owner, vm;
    char *vm_name, *refpoint, *settings, *export_directory;
    uid_t caller_uid;
    int (*run)(struct job *job, void *opaque, struct rp_error *e);
    void (*release)(void *opaque);
    void *opaque;

    pthread_t worker;
    bool has_worker; /* to be joined */
    bool worker_is_done;

    enum job_state state;
    struct rp_error error;
    struct rp_error note; /* its message, of a job that completes */
    uint64_t bytes_done, bytes_total;
    struct timespec moment;
    enum job_exact exact;
    struct timespec submitted, started, ended, changed;
    atomic_bool cancelled;
    int64_t deadline_ms; /* monotonic; 0 = none; written by the worker before it runs */
    uint64_t timeout_seconds;

    /* Two samples of (time, bytes), the older one 2-4 s ago, make the rate. */
    int64_t sample_ms[2];
    uint64_t sample_bytes[2];
    int64_t announced_ms;
};

struct job_queue {
    struct backend_events events;
    unsigned max_running;

    pthread_mutex_t lock; /* protects all below and every job's fields that are not constant */
    pthread_cond_t idle;  /* a worker ended, or there is something to join */
    struct table jobs;
    uint64_t last_id;
    unsigned running;
    size_t ended;
    bool closing;
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct timespec now_real(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

static void free_job(struct job *job)
{
    if (job->opaque)
        job->release(job->opaque);
    free(job->vm_name);
    free(job->refpoint);
    free(job->settings);
    free(job->export_directory);
    free(job);
}

static void announce(struct job_queue *queue, uint64_t job, uint64_t owner, unsigned topics)
{
    queue->events.changed(queue->events.opaque, job, topics);
    queue->events.changed(queue->events.opaque, owner, topics);
}

/* ---- queue ---- */

int job_queue_open(unsigned max_running, uint64_t last_id, const struct backend_events *events,
                   struct job_queue **ret_queue, struct rp_error *e)
{
    struct job_queue *queue = calloc(1, sizeof *queue);

    if (!queue)
        return rp_fail_memory(e);
    queue->events = *events;
    queue->last_id = last_id;
    queue->max_running = max_running ? max_running : 1;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->idle, NULL);
    *ret_queue = queue;
    return 0;
}

/* Sets the end of a job. `rc` is what run returned, *e the reason if it is not 0. */
static void end_locked(struct job *job, int rc, const struct rp_error *e)
{
    job->ended = job->changed = now_real();
    if (rc == 0) {
        job->state = JOB_COMPLETED;
        job->error = job->note;
        job->error.result = RESULT_COMPLETED;
        job->error.err = 0;
        job->bytes_done = job->bytes_total;
    } else {
        job->state = job->cancelled ? JOB_TERMINATED : JOB_EXCEPTION;
        job->error = *e;
    }
    job->queue->ended++;
}

static void forget_oldest_locked(struct job_queue *queue)
{
    for (size_t i = 0; i < queue->jobs.count && queue->ended > JOBS_REMEMBERED; i++) {
        struct job *job = queue->jobs.items[i];

        /* One with a worker still to be joined is forgotten the next time. */
        if (!job_state_has_ended(job->state) || job->has_worker)
            continue;
        table_remove(&queue->jobs, job->serial);
        free_job(job);
        queue->ended--;
        i--;
    }
}

static void *work(void *opaque);

/* Begins queued jobs, oldest first, while there is room. Returns how many. */
static unsigned start_locked(struct job_queue *queue)
{
    unsigned begun = 0;

    for (size_t i = 0; i < queue->jobs.count && queue->running < queue->max_running; i++) {
        struct job *job = queue->jobs.items[i];

        if (job->state != JOB_NEW || queue->closing)
            continue;
        job->state = JOB_STARTING;
        job->started = job->changed = now_real();
        if (pthread_create(&job->worker, NULL, work, job) != 0) {
            struct rp_error e;
            end_locked(job, rp_fail(&e, RESULT_OUT_OF_MEMORY, "cannot start a thread"), &e);
            continue;
        }
        job->has_worker = true;
        queue->running++;
        begun++;
    }
    return begun;
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
    int rc;

    announce(queue, serial, owner, TOPIC_JOB);
    rc = job_check(job, &e);
    if (rc == 0)
        rc = job->run(job, job->opaque, &e);
    job->release(job->opaque);

    pthread_mutex_lock(&queue->lock);
    job->opaque = NULL;
    end_locked(job, rc, &e);
    queue->running--;
    start_locked(queue);
    pthread_mutex_unlock(&queue->lock);

    announce(queue, serial, owner, TOPIC_JOB);

    /* From here on the job may be freed as soon as this thread was joined. */
    pthread_mutex_lock(&queue->lock);
    job->worker_is_done = true;
    pthread_cond_broadcast(&queue->idle);
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

static bool has_workers_locked(const struct job_queue *queue)
{
    for (size_t i = 0; i < queue->jobs.count; i++)
        if (((const struct job *)queue->jobs.items[i])->has_worker)
            return true;
    return false;
}

/* A queued job that is cancelled never gets a worker: it ends here. */
static bool cancel_locked(struct job *job)
{
    struct rp_error e;

    job->cancelled = true;
    job->changed = now_real();
    if (job->state != JOB_NEW)
        return false;
    end_locked(job, rp_fail(&e, RESULT_FAILED, "cancelled before it began"), &e);
    return true;
}

void job_queue_close(struct job_queue *queue)
{
    if (!queue)
        return;
    pthread_mutex_lock(&queue->lock);
    queue->closing = true;
    for (size_t i = 0; i < queue->jobs.count; i++)
        if (!job_state_has_ended(((struct job *)queue->jobs.items[i])->state))
            cancel_locked(queue->jobs.items[i]);
    while (has_workers_locked(queue)) {
        struct timespec until = now_real();
        until.tv_sec += 1;
        pthread_mutex_unlock(&queue->lock);
        reap(queue);
        pthread_mutex_lock(&queue->lock);
        if (has_workers_locked(queue))
            pthread_cond_timedwait(&queue->idle, &queue->lock, &until);
    }
    pthread_mutex_unlock(&queue->lock);
    for (size_t i = 0; i < queue->jobs.count; i++)
        free_job(queue->jobs.items[i]);
    table_clear(&queue->jobs);
    pthread_cond_destroy(&queue->idle);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
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
    job->refpoint = strdup(params->refpoint);
    job->settings = strdup(params->settings);
    job->export_directory = strdup(params->export_directory);
    job->caller_uid = params->caller_uid;
    job->run = params->run;
    job->release = params->release;
    job->state = JOB_NEW;
    job->error.result = RESULT_JOB_STARTED;
    job->submitted = job->changed = now_real();
    if (!job->vm_name || !job->refpoint || !job->settings || !job->export_directory) {
        free_job(job);
        return NULL;
    }
    return job;
}

static bool vm_is_busy_locked(const struct job_queue *queue, uint64_t vm)
{
    for (size_t i = 0; i < queue->jobs.count; i++) {
        const struct job *job = queue->jobs.items[i];
        if (job->vm == vm && !job_state_has_ended(job->state))
            return true;
    }
    return false;
}

static int submit_locked(struct job_queue *queue, struct job *job, struct rp_error *e)
{
    if (queue->closing)
        return rp_fail(e, RESULT_NOT_AVAILABLE, "the service is being stopped");
    if (vm_is_busy_locked(queue, job->vm))
        return rp_fail(e, RESULT_IN_USE, "an export of VM '%s' is running", job->vm_name);
    job->serial = table_new_serial(KIND_JOB);
    if (table_append(&queue->jobs, job) < 0)
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
        forget_oldest_locked(queue);
        start_locked(queue);
    }
    pthread_mutex_unlock(&queue->lock);
    if (rc < 0) {
        free_job(job);
        return rc;
    }
    *ret_job = serial;
    queue->events.changed(queue->events.opaque, 0, TOPIC_LIST);
    announce(queue, serial, params->owner, TOPIC_JOB);
    return 0;
}

bool job_vm_is_busy(struct job_queue *queue, uint64_t vm)
{
    bool busy;

    pthread_mutex_lock(&queue->lock);
    busy = vm_is_busy_locked(queue, vm);
    pthread_mutex_unlock(&queue->lock);
    return busy;
}

uint64_t job_last_id(struct job_queue *queue)
{
    uint64_t id;

    pthread_mutex_lock(&queue->lock);
    id = queue->last_id;
    pthread_mutex_unlock(&queue->lock);
    return id;
}

uint64_t job_last_of(struct job_queue *queue, uint64_t owner)
{
    uint64_t serial = 0;

    pthread_mutex_lock(&queue->lock);
    for (size_t i = queue->jobs.count; i > 0 && !serial; i--) {
        const struct job *job = queue->jobs.items[i - 1];
        if (job->owner == owner)
            serial = job->serial;
    }
    pthread_mutex_unlock(&queue->lock);
    return serial;
}

/* ---- asking ---- */

static void describe(const struct job *job, struct child *child)
{
    child->serial = job->serial;
    child->changed = job->changed;
    snprintf(child->name, sizeof child->name, "%" PRIu64, job->id);
}

int job_stat(struct job_queue *queue, uint64_t serial, struct child *ret_child)
{
    struct job *job;

    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job)
        describe(job, ret_child);
    pthread_mutex_unlock(&queue->lock);
    return job ? 0 : -ENOENT;
}

int job_find(struct job_queue *queue, const char *id, uint64_t *ret_job)
{
    struct child child;
    int rc = -ENOENT;

    /* Compared as text: "07" and "+7" are no names of job 7. */
    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < queue->jobs.count && rc < 0; i++) {
        describe(queue->jobs.items[i], &child);
        if (strcmp(child.name, id) == 0) {
            *ret_job = child.serial;
            rc = 0;
        }
    }
    pthread_mutex_unlock(&queue->lock);
    return rc;
}

size_t job_list(struct job_queue *queue, uint64_t after, struct child *ret_children, size_t max)
{
    size_t count = 0;

    pthread_mutex_lock(&queue->lock);
    for (size_t i = table_after(&queue->jobs, after); i < queue->jobs.count && count < max; i++)
        describe(queue->jobs.items[i], &ret_children[count++]);
    pthread_mutex_unlock(&queue->lock);
    return count;
}

/* Samples are taken by job_set_done(); without news for a while the rate falls by itself. */
static uint64_t rate_locked(const struct job *job)
{
    int64_t since = job->sample_ms[0] ? now_ms() - job->sample_ms[0] : 0;

    if (job->state != JOB_RUNNING || since <= 0)
        return 0;
    return (job->bytes_done - job->sample_bytes[0]) * 1000 / (uint64_t)since;
}

static int copy_locked(const struct job *job, struct job_info *info)
{
    *info = (struct job_info){
        .id = job->id,
        .vm = strdup(job->vm_name),
        .refpoint = strdup(job->refpoint),
        .state = job->state,
        .has_result = true,
        .result = job->error.result,
        .error = strdup(job->error.message),
        .bytes_done = job->bytes_done,
        .bytes_total = job->bytes_total,
        .rate_bytes = rate_locked(job),
        .moment = job->moment,
        .exact = job->exact,
        .submitted = job->submitted,
        .started = job->started,
        .ended = job->ended,
        .export_directory = strdup(job->export_directory),
        .caller_uid = job->caller_uid,
        .has_caller = true,
        .cancel_requested = job->cancelled,
        .settings = strdup(job->settings),
        .last_refusal = strdup(""),
    };
    if (info->vm && info->refpoint && info->error && info->export_directory && info->settings &&
        info->last_refusal)
        return 0;
    job_info_clear(info);
    return -ENOMEM;
}

void job_info_clear(struct job_info *info)
{
    free(info->vm);
    free(info->refpoint);
    free(info->error);
    free(info->export_directory);
    free(info->settings);
    free(info->last_refusal);
    *info = (struct job_info){0};
}

int job_get_info(struct job_queue *queue, uint64_t serial, struct job_info *ret_info,
                 struct rp_error *e)
{
    struct job_info info;
    struct job *job;
    int rc = -ENOENT;

    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job)
        rc = copy_locked(job, &info);
    pthread_mutex_unlock(&queue->lock);
    if (rc == -ENOENT)
        return rp_fail_errno(e, ENOENT, "no such job");
    if (rc < 0)
        return rp_fail_memory(e);
    *ret_info = info;
    return 0;
}

int job_get_state(struct job_queue *queue, uint64_t serial, enum job_state *ret_state,
                  int *ret_result)
{
    struct job *job;

    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job) {
        *ret_state = job->state;
        *ret_result = job->error.result;
    }
    pthread_mutex_unlock(&queue->lock);
    return job ? 0 : -ENOENT;
}

int job_cancel(struct job_queue *queue, uint64_t serial, struct rp_error *e)
{
    struct job *job;
    uint64_t owner = 0;

    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job && !job_state_has_ended(job->state)) {
        owner = job->owner;
        cancel_locked(job);
    }
    pthread_mutex_unlock(&queue->lock);
    if (!job)
        return rp_fail_errno(e, ENOENT, "no such job");
    if (owner)
        announce(queue, serial, owner, TOPIC_JOB);
    return 0;
}

struct job_counts job_count(struct job_queue *queue)
{
    struct job_counts counts = {0};

    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < queue->jobs.count; i++) {
        enum job_state state = ((const struct job *)queue->jobs.items[i])->state;
        counts.queued += state == JOB_NEW;
        counts.ended += job_state_has_ended(state);
        counts.running += state != JOB_NEW && !job_state_has_ended(state);
    }
    pthread_mutex_unlock(&queue->lock);
    return counts;
}

/* ---- for the worker ---- */

int job_check(struct job *job, struct rp_error *e)
{
    if (job->cancelled)
        return rp_fail(e, RESULT_FAILED, "cancelled");
    if (job->deadline_ms && now_ms() > job->deadline_ms)
        return rp_fail(e, RESULT_TIMEOUT, "Timeout of %" PRIu64 " s reached", job->timeout_seconds);
    return 0;
}

void job_set_timeout(struct job *job, uint64_t seconds)
{
    job->timeout_seconds = seconds;
    /* A limit beyond what the clock can count is none. */
    job->deadline_ms =
        seconds && seconds < INT64_MAX / 2000 ? now_ms() + (int64_t)seconds * 1000 : 0;
}

void job_set_running(struct job *job)
{
    pthread_mutex_lock(&job->queue->lock);
    job->state = JOB_RUNNING;
    job->changed = now_real();
    job->sample_ms[0] = job->sample_ms[1] = now_ms();
    pthread_mutex_unlock(&job->queue->lock);
    announce(job->queue, job->serial, job->owner, TOPIC_JOB);
}

void job_set_total(struct job *job, uint64_t bytes)
{
    pthread_mutex_lock(&job->queue->lock);
    job->bytes_total = bytes;
    pthread_mutex_unlock(&job->queue->lock);
}

void job_set_done(struct job *job, uint64_t bytes)
{
    int64_t now = now_ms();
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
        announce(job->queue, job->serial, job->owner, TOPIC_JOB);
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

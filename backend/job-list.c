// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the queue answers: lists, snapshots and counts of its jobs. Memory, any thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job-queue.h"

/* ---- what they are found by ---- */

static uint64_t hash_owner(const void *item)
{
    return index_hash_number(((const struct job *)item)->owner);
}

static bool has_owner(const void *item, const void *key)
{
    return ((const struct job *)item)->owner == *(const uint64_t *)key;
}

static uint64_t hash_vm(const void *item)
{
    return index_hash_number(((const struct job *)item)->vm);
}

static bool has_vm(const void *item, const void *key)
{
    return ((const struct job *)item)->vm == *(const uint64_t *)key;
}

static const struct index_kind by_owner = {hash_owner, has_owner};
static const struct index_kind by_vm = {hash_vm, has_vm};

void job_list_init(struct job_queue *queue)
{
    queue->last_jobs.kind = &by_owner;
    queue->busy_vms.kind = &by_vm;
}

static struct job *last_of_locked(const struct job_queue *queue, uint64_t owner)
{
    return index_find(&queue->last_jobs, index_hash_number(owner), &owner);
}

/* The newest of its owner's takes the place of the one before. */
static int index_owner_locked(struct job_queue *queue, struct job *job)
{
    struct job *before = last_of_locked(queue, job->owner);

    if (before)
        index_remove(&queue->last_jobs, before);
    return index_add(&queue->last_jobs, job);
}

int job_list_add_locked(struct job_queue *queue, struct job *job)
{
    if (table_append(&queue->jobs, job) < 0)
        return -ENOMEM;
    if (!job->owner) {
        queue->unbound++;
        return 0;
    }
    if (index_add(&queue->busy_vms, job) == 0) {
        if (index_owner_locked(queue, job) == 0)
            return 0;
        index_remove(&queue->busy_vms, job);
    }
    table_remove(&queue->jobs, job->serial);
    return -ENOMEM;
}

void job_list_remove_locked(struct job_queue *queue, struct job *job)
{
    table_remove(&queue->jobs, job->serial);
    if (job->owner)
        index_remove(&queue->last_jobs, job);
    else
        queue->unbound--;
}

void job_list_bind_locked(struct job_queue *queue, struct job *job, uint64_t owner, uint64_t vm)
{
    const struct job *last = last_of_locked(queue, owner);

    job->owner = owner;
    job->vm = vm;
    queue->unbound--;
    /* Without memory the owner shows no last job, which jobs/ still does. */
    if (!last || last->id < job->id)
        index_owner_locked(queue, job);
}

bool job_list_is_busy_locked(const struct job_queue *queue, uint64_t vm)
{
    return index_find(&queue->busy_vms, index_hash_number(vm), &vm) != NULL;
}

bool job_vm_is_busy(struct job_queue *queue, uint64_t vm)
{
    bool busy;

    pthread_mutex_lock(&queue->lock);
    busy = job_list_is_busy_locked(queue, vm);
    pthread_mutex_unlock(&queue->lock);
    return busy;
}

uint64_t job_last_of(struct job_queue *queue, uint64_t owner)
{
    const struct job *job;
    uint64_t serial;

    pthread_mutex_lock(&queue->lock);
    job = last_of_locked(queue, owner);
    serial = job ? job->serial : 0;
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

/* The first job whose number is at least `id`; count if there is none. */
static size_t at_least_locked(const struct job_queue *queue, uint64_t id)
{
    size_t low = 0, high = queue->jobs.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (((const struct job *)queue->jobs.items[middle])->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int job_find(struct job_queue *queue, const char *id, uint64_t *ret_job)
{
    uint64_t number = strtoull(id, NULL, 10);
    struct child child;
    int rc = -ENOENT;

    pthread_mutex_lock(&queue->lock);
    size_t i = at_least_locked(queue, number);
    if (i < queue->jobs.count) {
        /* Compared as text: "07" and "+7" are no names of job 7. */
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
    int64_t since = job->sample_ms[0] ? job_now_ms() - job->sample_ms[0] : 0;

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
        .caller_uid = job->caller.uid,
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

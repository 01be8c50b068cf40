// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What of a job is kept for the next service, and how it comes back there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job-queue.h"

/* ---- there ---- */

static char *print_groups(const struct caller *caller)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        return NULL;
    for (size_t i = 0; i < caller->ngroups; i++)
        fprintf(out, "%s%u", i ? " " : "", (unsigned)caller->groups[i]);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

/* Borrows what never changes of a job, and copies the rest. -ENOMEM. */
static int describe_locked(const struct job *job, struct kept_job *kept)
{
    bool decided = job->outcome.state != JOB_NONE;
    const struct rp_error *error = decided ? &job->outcome.error : &job->error;

    *kept = (struct kept_job){
        .id = job->id,
        .vm = job->vm_name,
        .uuid = job->uuid,
        .refpoint = job->refpoint,
        .point_id = job->point_id,
        .directory = job->export_directory,
        .settings = job->settings,
        .state = decided ? job->outcome.state : job->state,
        .result = (uint64_t)error->result,
        .error = strdup(error->message),
        .bytes_done =
            decided && job->outcome.state == JOB_COMPLETED ? job->bytes_total : job->bytes_done,
        .bytes_total = job->bytes_total,
        .moment = job->moment,
        .submitted = job->submitted,
        .started = job->started,
        .ended = decided ? job->outcome.ended : job->ended,
        .exact = job->exact,
        .uid = job->caller.uid,
        .gid = job->caller.gid,
        .groups = print_groups(&job->caller),
        .unclean = job->unclean,
        .made_directory = job->unclean && job->made_directory,
        .tag = (char *)job->tag,
        .files = strdup(job->unclean && job->files ? job->files : ""),
    };
    return kept->error && kept->groups && kept->files ? 0 : -ENOMEM;
}

/* That a job is forgotten by a restart is not worth failing it for. */
void job_keep(struct job_queue *queue, uint64_t serial)
{
    struct kept_job kept = {0};
    struct rp_error ignored;
    struct job *job;

    if (!queue->journal)
        return;
    pthread_mutex_lock(&queue->keeping);
    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job && describe_locked(job, &kept) < 0)
        job = NULL;
    pthread_mutex_unlock(&queue->lock);
    /* It has a worker, or is not old enough to be forgotten: its strings stay. */
    if (job)
        journal_write_job(queue->journal, &kept, &ignored);
    pthread_mutex_unlock(&queue->keeping);
    free(kept.error);
    free(kept.groups);
    free(kept.files);
}

/* ---- and back ---- */

void job_read_caller(const struct kept_job *kept, struct caller *ret_caller)
{
    struct caller *caller = ret_caller;
    const char *text = kept->groups;
    char *end;

    *caller = (struct caller){.uid = (uid_t)kept->uid, .gid = (gid_t)kept->gid};
    while (caller->ngroups < CALLER_GROUPS_MAX) {
        unsigned long group = strtoul(text, &end, 10);

        if (end == text)
            return;
        caller->groups[caller->ngroups++] = (gid_t)group;
        text = end;
    }
}

/* One that this service would not have written. */
static bool is_odd(const struct kept_job *kept)
{
    return kept->id == 0 || kept->state < JOB_NEW || kept->state > JOB_EXCEPTION ||
           rp_result_row((int)kept->result)->result != (int)kept->result ||
           kept->exact > EXACT_YES || strlen(kept->tag) >= JOB_TAG_SIZE;
}

/* Takes the strings over. */
static void fill(struct job *job, struct kept_job *kept)
{
    job->id = kept->id;
    job->vm_name = kept->vm;
    job->uuid = kept->uuid;
    job->refpoint = kept->refpoint;
    job->point_id = kept->point_id;
    job->settings = kept->settings;
    job->export_directory = kept->directory;
    job->files = kept->files;
    kept->vm = kept->uuid = kept->refpoint = kept->point_id = NULL;
    kept->settings = kept->directory = kept->files = NULL;
    job_read_caller(kept, &job->caller);
    job->state = (enum job_state)kept->state;
    job->error.result = (int)kept->result;
    job->error.err = rp_result_row((int)kept->result)->err;
    snprintf(job->error.message, sizeof job->error.message, "%s", kept->error);
    job->cancelled = job->state == JOB_TERMINATED;
    job->bytes_done = kept->bytes_done;
    job->bytes_total = kept->bytes_total;
    job->moment = kept->moment;
    job->exact = (enum job_exact)kept->exact;
    job->submitted = kept->submitted;
    job->started = kept->started;
    job->ended = job->changed = kept->ended;
    job->unclean = kept->unclean;
    job->made_directory = kept->made_directory;
    snprintf(job->tag, sizeof job->tag, "%s", kept->tag);
    job->is_kept = true;
}

static void kill_job(struct job *job)
{
    job->state = JOB_KILLED;
    job->ended = job->changed = job_now_real();
    rp_fail(&job->error, RESULT_STATUS_UNKNOWN, "the service ended while the job %s",
            job->started.tv_sec ? "ran" : "was queued");
}

static int restore_one(struct job_queue *queue, struct kept_job *kept)
{
    struct job *job = calloc(1, sizeof *job);

    if (!job)
        return -ENOMEM;
    fill(job, kept);
    job->queue = queue;
    job->serial = table_new_serial(KIND_JOB);
    if (job_list_add_locked(queue, job) < 0) {
        job_free(job);
        return -ENOMEM;
    }
    if (!job_state_has_ended(job->state))
        kill_job(job);
    job->outcome = (struct job_outcome){job->state, job->error, job->ended};
    queue->ended++;
    return 0;
}

int job_keep_restore(struct job_queue *queue, struct rp_error *e)
{
    struct kept_job *jobs = NULL;
    size_t count = 0;
    int rc = 0;

    if (queue->journal) {
        journal_take_jobs(queue->journal, &jobs, &count);
        queue->last_id = journal_last_job(queue->journal);
    }
    for (size_t i = 0; i < count; i++) {
        if (rc == 0 && !is_odd(&jobs[i]))
            rc = restore_one(queue, &jobs[i]);
        kept_job_clear(&jobs[i]);
    }
    free(jobs);
    return rc < 0 ? rp_fail_memory(e) : 0;
}

/* ---- whose they are ---- */

void job_bind(struct job_queue *queue, uint64_t owner, uint64_t vm, const char *uuid,
              const char *refpoint, const char *point_id)
{
    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < queue->jobs.count && queue->unbound > 0; i++) {
        struct job *job = queue->jobs.items[i];

        if (job->owner || strcmp(job->uuid, uuid) != 0 || strcmp(job->refpoint, refpoint) != 0 ||
            strcmp(job->point_id, point_id) != 0)
            continue;
        job_list_bind_locked(queue, job, owner, vm);
    }
    pthread_mutex_unlock(&queue->lock);
}

/* ---- what they left ---- */

bool job_next_unclean(struct job_queue *queue, uint64_t after, uint64_t *ret_job,
                      struct kept_job *ret_kept)
{
    bool found = false;

    pthread_mutex_lock(&queue->lock);
    for (size_t i = table_after(&queue->jobs, after); i < queue->jobs.count && !found; i++) {
        const struct job *job = queue->jobs.items[i];
        struct kept_job copy = {0};

        if (!job->unclean || job->run || describe_locked(job, &copy) < 0)
            continue;
        copy.vm = copy.settings = NULL;
        copy.uuid = strdup(job->uuid);
        copy.refpoint = strdup(job->refpoint);
        copy.point_id = strdup(job->point_id);
        copy.directory = strdup(job->export_directory);
        copy.tag = strdup(job->tag);
        *ret_kept = copy;
        *ret_job = job->serial;
        found = true;
    }
    pthread_mutex_unlock(&queue->lock);
    return found;
}

void job_set_clean(struct job_queue *queue, uint64_t serial, const char *sentence)
{
    struct job *job;
    uint64_t owner = 0;

    pthread_mutex_lock(&queue->lock);
    job = table_find(&queue->jobs, serial);
    if (job) {
        char before[RP_MESSAGE_SIZE];

        memcpy(before, job->error.message, sizeof before);
        rp_fail(&job->error, job->error.result, "%s; %s", before, sentence);
        job->outcome.error = job->error;
        job->unclean = false;
        job->changed = job_now_real();
        owner = job->owner;
    }
    pthread_mutex_unlock(&queue->lock);
    if (!job)
        return;
    job_keep(queue, serial);
    job_announce(queue, serial, owner, TOPIC_JOB);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs: the queue, their states, and a worker thread for each that runs. Knows nothing of what a
 * job does: that is the `run` function it is given. Jobs are in the journal from before they begin,
 * so that the next service knows them; those that it finds unfinished there are JOB_KILLED.
 *
 * NOTES ON THE THREAD MODEL. At most `max_running` workers live at once; each runs one job's `run`
 * and then ends. Any thread may submit, ask and cancel. A worker publishes by the job_set_*()
 * functions, which copy under the queue's lock; `changed` is called without it. A worker that gives
 * no sign of life is given up by the watch (job-watch.c): its job ends, the thread is left.
 */
#ifndef REFPOINTFS_JOB_H
#define REFPOINTFS_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"

struct job_queue;
struct job;
struct journal;
struct kept_job;

struct job_params {
    uint64_t owner;               /* serial of the reference point or VM it was asked of */
    uint64_t vm;                  /* at most one job a VM is queued or runs */
    const char *vm_name;          /* these strings are copied */
    const char *uuid;             /* of the VM */
    const char *refpoint;         /* "" for the VM as it is */
    const char *point_id;         /* tells the point from another of its name; or "" */
    const char *settings;         /* INI as understood */
    const char *export_directory; /* as asked for */
    bool makes_directory;         /* it does not exist yet */
    const struct caller *caller;  /* copied */
    /*
     * Runs in the worker. 0 = completed; otherwise -errno with *e filled. Calls job_check() at
     * least every 100 ms or so and returns what it returned if that is not 0.
     */
    int (*run)(struct job *job, void *opaque, struct rp_error *e);
    /* Called once, when the job has ended or was never begun; opaque is the job's from submit on.
     */
    void (*release)(void *opaque);
    void *opaque;
};

/*
 * With the jobs that `journal` (borrowed; NULL: none) has, after whose numbers those of new ones go
 * on. Slow.
 */
int job_queue_open(unsigned max_running, struct journal *journal,
                   const struct backend_events *events, struct job_queue **ret_queue,
                   struct rp_error *e);

/*
 * Refuses new jobs, cancels all and waits for every worker. False when there are some that do not
 * come back: they may use the queue, and all that their jobs use, for as long as the process lives.
 * Slow.
 */
bool job_queue_end(struct job_queue *queue);

/* After job_queue_end() said true: frees everything. NULL is allowed. */
void job_queue_close(struct job_queue *queue);

/*
 * Queues a job, and puts it into the journal: slow. RESULT_IN_USE when the VM has one already;
 * opaque is then still the caller's.
 */
int job_submit(struct job_queue *queue, const struct job_params *params, uint64_t *ret_job,
               struct rp_error *e);

/* True while a job of that VM (or that owner) is queued or runs. */
bool job_vm_is_busy(struct job_queue *queue, uint64_t vm);

/* The last job of an owner, 0 if it never had one. */
uint64_t job_last_of(struct job_queue *queue, uint64_t owner);

/*
 * Tells who `owner` is, for the jobs of the services before: those of that VM, name and id are its.
 */
void job_bind(struct job_queue *queue, uint64_t owner, uint64_t vm, const char *uuid,
              const char *refpoint, const char *point_id);

/*
 * The next job after `after` that a service before could not clean up after; a copy without `vm`
 * and `settings`, for kept_job_clear(). job_set_clean() adds a sentence to its error.
 */
bool job_next_unclean(struct job_queue *queue, uint64_t after, uint64_t *ret_job,
                      struct kept_job *ret_kept);
void job_set_clean(struct job_queue *queue, uint64_t job, const char *sentence);

/* Who had asked for it. */
void job_read_caller(const struct kept_job *kept, struct caller *ret_caller);

/* As backend.h's functions of those names, for serials of jobs. */
int job_stat(struct job_queue *queue, uint64_t job, struct child *ret_child);
int job_find(struct job_queue *queue, const char *id, uint64_t *ret_job);
size_t job_list(struct job_queue *queue, uint64_t after, struct child *ret_children, size_t max);
int job_get_info(struct job_queue *queue, uint64_t job, struct job_info *ret_info,
                 struct rp_error *e);
int job_get_state(struct job_queue *queue, uint64_t job, enum job_state *ret_state,
                  int *ret_result);
int job_cancel(struct job_queue *queue, uint64_t job, struct rp_error *e);

struct job_counts {
    size_t queued, running, ended;
};
struct job_counts job_count(struct job_queue *queue);

/* ---- for `run`, in the worker ---- */

/* 0, or -errno with *e filled when the job was cancelled or ran into its deadline. */
int job_check(struct job *job, struct rp_error *e);

/* What the names of its temporary files have in them, and nobody else's. */
const char *job_tag(const struct job *job);

/*
 * Files that are about to get their names, a line each: on disk when this returns, so that a
 * service after ours can tell them from others.
 */
int job_set_files(struct job *job, const char *files, struct rp_error *e);

/*
 * All is done and the job completes, whatever else comes. -errno with *e filled when it was given
 * up meanwhile: then it has to be undone.
 */
int job_commit(struct job *job, struct rp_error *e);

void job_set_timeout(struct job *job, uint64_t seconds); /* from now; 0 = none */
void job_set_running(struct job *job);                   /* starting -> running */
void job_set_total(struct job *job, uint64_t bytes);
void job_set_done(struct job *job, uint64_t bytes);
/*
 * What a person should know though the job completes; added to what was noted before, and cut like
 * any message. Shown as its error.
 */
void job_set_note(struct job *job, const char *note);
void job_set_moment(struct job *job, struct timespec moment, enum job_exact exact);

#endif

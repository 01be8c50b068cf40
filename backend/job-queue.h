/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inside of the queue of jobs, between its own files:
 *
 * job.c        submit, run, end, cancel; what the worker says           any thread, and workers
 * job-list.c   answers: lists, snapshots, counts                         any thread, memory
 * job-keep.c   what of a job is kept for the next service, and how it    any thread, slow
 *              comes back
 * job-watch.c  the watch: ends jobs whose worker does not come back      its own thread
 *
 * LOCKS. queue->keeping, then queue->lock. The former makes one writer at a time of those that put
 * a job into the journal, and is held over that; the latter is a leaf and held over nothing.
 */
#ifndef REFPOINTFS_JOB_QUEUE_H
#define REFPOINTFS_JOB_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>

#include "index.h"
#include "job.h"
#include "journal.h"
#include "table.h"

#define JOB_TAG_SIZE 17

/* How a job ended, or is about to. */
struct job_outcome {
    enum job_state state; /* JOB_NONE: not decided */
    struct rp_error error;
    struct timespec ended;
};

struct job {
    uint64_t serial; /* must be first: struct table */
    struct job_queue *queue;
    uint64_t id;
    uint64_t owner, vm; /* 0: of a service before, and not asked for yet */
    char *vm_name, *uuid, *refpoint, *point_id, *settings, *export_directory;
    struct caller caller;
    int (*run)(struct job *job, void *opaque, struct rp_error *e);
    void (*release)(void *opaque);
    void *opaque;

    pthread_t worker;
    bool has_worker; /* to be joined */
    bool worker_is_done;
    bool is_kept; /* it is in the journal: it may begin */

    enum job_state state;
    struct rp_error error;
    struct rp_error note; /* its message, of a job that completes */
    struct job_outcome outcome;
    bool is_given_up;  /* the watch has ended it: its worker may never come back */
    bool is_committed; /* the export is complete: it cannot fail any more */
    uint64_t bytes_done, bytes_total;
    struct timespec moment;
    enum job_exact exact;
    struct timespec submitted, started, ended, changed;
    atomic_bool cancelled;
    int64_t cancelled_ms;
    int64_t deadline_ms; /* monotonic; 0 = none; written by the worker before it runs */
    uint64_t timeout_seconds;
    atomic_int_fast64_t heard_ms; /* when the worker last gave a sign of life */

    bool unclean; /* it may have left something in the directory */
    bool made_directory;
    char tag[JOB_TAG_SIZE];
    char *files; /* or NULL */

    /* Two samples of (time, bytes), the older one 2-4 s ago, make the rate. */
    int64_t sample_ms[2];
    uint64_t sample_bytes[2];
    int64_t announced_ms;
};

struct job_queue {
    struct backend_events events;
    unsigned max_running;
    struct journal *journal; /* borrowed; NULL: nothing is kept */

    pthread_mutex_t keeping;
    pthread_mutex_t lock;   /* protects all below and every job's fields that are not constant */
    pthread_cond_t idle;    /* a worker ended, or there is something to join */
    pthread_cond_t watch;   /* there is something to watch, or closing */
    struct table jobs;      /* in the order of their numbers, too */
    struct index last_jobs; /* of each owner, by the owner */
    struct index busy_vms;  /* jobs that have not ended, at most one a VM, by the VM */
    size_t unbound;         /* jobs of the services before whose owner is not known yet */
    uint64_t last_id;
    unsigned running;
    size_t ended;
    bool closing;

    pthread_t watcher;
    bool has_watcher, watch_stops;
};

int64_t job_now_ms(void);
struct timespec job_now_real(void);
void job_free(struct job *job);

/* Decides how a job ends, unless that is decided. `rc` is what run returned, *e why not 0. */
void job_decide_locked(struct job *job, int rc, const struct rp_error *e);

/* What was decided becomes what is shown, unless it is shown already: false then. */
bool job_end_locked(struct job *job);

bool job_list_is_busy_locked(const struct job_queue *queue, uint64_t vm);

/* ---- job-list.c ---- */

void job_list_init(struct job_queue *queue);

/* Into the table and the indexes, or into none; of a job with an owner, or 0 for one without. */
int job_list_add_locked(struct job_queue *queue, struct job *job);
void job_list_remove_locked(struct job_queue *queue, struct job *job);

/* The owner of a job of a service before is known now. */
void job_list_bind_locked(struct job_queue *queue, struct job *job, uint64_t owner, uint64_t vm);

/* Tells of a job. */
void job_announce(struct job_queue *queue, uint64_t job, uint64_t owner, unsigned topics);

/* Begins queued jobs while there is room. */
void job_start(struct job_queue *queue);

/* ---- job-keep.c ---- */

/* Puts a job into the journal, as it is or as it was decided to end. Slow. */
void job_keep(struct job_queue *queue, uint64_t job);

/* Brings back the jobs of the services before. */
int job_keep_restore(struct job_queue *queue, struct rp_error *e);

/* ---- job-watch.c ---- */

int job_watch_start(struct job_queue *queue, struct rp_error *e);
void job_watch_stop(struct job_queue *queue);

#endif

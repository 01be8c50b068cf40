// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Goes through the jobs that were interrupted, removes what each left in its directory, and says
 * in its error what became of it. One thread, which ends when that is done.
 */
#include "recover.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "manifest.h"
#include "outdir.h"

/* A directory that does not answer for this long will not be waited for when the service ends. */
#define STOP_SECONDS 5

struct recovery {
    struct job_queue *queue;
    struct journal *journal;
    pthread_t thread;
    atomic_bool stop;
};

/* The manifest of an export that is complete: a later delta wants to know where it is. */
static void remember_export(struct recovery *recovery, const struct kept_job *kept,
                            const struct caller *caller)
{
    struct manifest manifest;
    struct rp_error ignored;
    char *directory = NULL, *text = NULL;
    size_t length;
    int rc = outdir_resolve(kept->directory, caller, &directory, &ignored);

    if (rc == 0)
        rc = outdir_read(directory, OUTDIR_MANIFEST, MANIFEST_MAX_BYTES, caller, &text, &length,
                         &ignored);
    if (rc == 0)
        rc = manifest_parse(text, length, &manifest, &ignored);
    if (rc == 0) {
        /* Another moment than the point's: when the point was made is not said there. */
        if (manifest.exact && *manifest.refpoint && strcmp(manifest.uuid, kept->uuid) == 0)
            journal_set_export(recovery->journal, kept->uuid, manifest.refpoint, manifest.moment,
                               manifest.id, directory, &ignored);
        manifest_clear(&manifest);
    }
    free(text);
    free(directory);
}

static void clean(struct recovery *recovery, uint64_t job, const struct kept_job *kept)
{
    const struct outdir_left left = {
        .path = kept->directory,
        .tag = kept->tag,
        .files = kept->files,
        .made_directory = kept->made_directory,
    };
    char sentence[RP_MESSAGE_SIZE];
    struct caller caller;
    struct rp_error e;
    bool complete = false;

    job_read_caller(kept, &caller);
    if (outdir_clean(&left, &caller, &complete, &e) < 0)
        snprintf(sentence, sizeof sentence, "cleaning up after it failed: %.300s", e.message);
    else if (complete)
        snprintf(sentence, sizeof sentence, "its export is complete all the same");
    else
        snprintf(sentence, sizeof sentence, "nothing of its export is left");
    if (complete)
        remember_export(recovery, kept, &caller);
    job_set_clean(recovery->queue, job, sentence);
}

static void *work(void *opaque)
{
    struct recovery *recovery = opaque;
    struct kept_job kept;
    uint64_t job = 0;

    while (!recovery->stop && job_next_unclean(recovery->queue, job, &job, &kept)) {
        clean(recovery, job, &kept);
        kept_job_clear(&kept);
    }
    return NULL;
}

int recover_start(struct job_queue *queue, struct journal *journal, struct recovery **ret_recovery,
                  struct rp_error *e)
{
    struct recovery *recovery;
    struct kept_job kept;
    uint64_t job;

    *ret_recovery = NULL;
    if (!job_next_unclean(queue, 0, &job, &kept))
        return 0;
    kept_job_clear(&kept);
    recovery = calloc(1, sizeof *recovery);
    if (!recovery)
        return rp_fail_memory(e);
    recovery->queue = queue;
    recovery->journal = journal;
    if (pthread_create(&recovery->thread, NULL, work, recovery) != 0) {
        free(recovery);
        return rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start a thread");
    }
    *ret_recovery = recovery;
    return 0;
}

bool recover_stop(struct recovery *recovery)
{
    struct timespec until;

    if (!recovery)
        return true;
    recovery->stop = true;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_SECONDS;
    if (pthread_clockjoin_np(recovery->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        return false;
    free(recovery);
    return true;
}

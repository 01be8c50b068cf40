// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which disk is copied next and by which thread, what all of them have done, and the first failure.
 * Knows nothing of how a disk is copied.
 */
#include "copies.h"

#include <pthread.h>

#include "ring.h"

struct copies {
    const struct copies_params *params;
    unsigned lanes;

    /* Protects what follows, and `taken` and `done_bytes` of the disks. Held for a few instructions
     * at a time. */
    pthread_mutex_t lock;
    bool started; /* a disk was taken */
    bool telling; /* one thread is in progress() */
    bool failed;
    struct rp_error error;
};

/* What one thread copies. */
struct lane {
    struct copies *copies;
    struct copies_disk *disk;
};

static void note_failure(struct copies *c, const struct rp_error *e)
{
    pthread_mutex_lock(&c->lock);
    if (!c->failed)
        c->error = *e;
    c->failed = true;
    pthread_mutex_unlock(&c->lock);
}

/* The largest first: so that nobody is left with it when all others are through. */
static struct copies_disk *choose_locked(const struct copies *c)
{
    struct copies_disk *best = NULL;
    uint64_t best_bytes = 0;

    for (size_t i = 0; i < c->params->ndisks; i++) {
        struct copies_disk *disk = &c->params->disks[i];
        uint64_t bytes = plan_data_bytes(disk->params.plan);

        if (disk->taken || (best && bytes <= best_bytes))
            continue;
        best = disk;
        best_bytes = bytes;
    }
    return best;
}

/* NULL when there is none left, or a copy failed. */
static struct copies_disk *take_disk(struct copies *c, bool *ret_first)
{
    struct copies_disk *disk;

    pthread_mutex_lock(&c->lock);
    disk = c->failed ? NULL : choose_locked(c);
    if (disk) {
        disk->taken = true;
        *ret_first = !c->started;
        c->started = true;
    }
    pthread_mutex_unlock(&c->lock);
    return disk;
}

/* What another thread is telling at this moment is left out: there will be more to tell. */
static void tell(struct copies *c)
{
    uint64_t bytes_done = 0;
    bool busy;

    pthread_mutex_lock(&c->lock);
    busy = c->telling;
    c->telling = true;
    for (size_t i = 0; i < c->params->ndisks; i++)
        bytes_done += c->params->disks[i].done_bytes;
    pthread_mutex_unlock(&c->lock);
    if (busy)
        return;
    c->params->progress(c->params->opaque, bytes_done);
    pthread_mutex_lock(&c->lock);
    c->telling = false;
    pthread_mutex_unlock(&c->lock);
}

static void on_progress(void *opaque, uint64_t bytes_done)
{
    const struct lane *lane = opaque;

    pthread_mutex_lock(&lane->copies->lock);
    lane->disk->done_bytes = bytes_done;
    pthread_mutex_unlock(&lane->copies->lock);
    tell(lane->copies);
}

static int on_check(void *opaque, struct rp_error *e)
{
    struct copies *c = ((const struct lane *)opaque)->copies;
    int rc = 0;

    pthread_mutex_lock(&c->lock);
    if (c->failed) {
        *e = c->error;
        rc = -e->err;
    }
    pthread_mutex_unlock(&c->lock);
    return rc < 0 ? rc : c->params->check(c->params->opaque, e);
}

static int copy_disk(struct lane *lane, bool first, struct rp_error *e)
{
    struct copies_disk *disk = lane->disk;
    struct copy_params params = disk->params;
    int rc;

    params.at_once = lane->copies->lanes;
    params.is_warm = !first;
    params.progress = on_progress;
    params.check = on_check;
    params.opaque = lane;
    rc = copy_run(&params, &disk->stats, e);
    disk->is_lost = rc < 0 && source_is_lost(disk->params.source);
    /* The next disk's connections want its connections' threads in QEMU. */
    source_close(disk->params.source);
    disk->params.source = NULL;
    if (rc < 0)
        rp_error_prefix(e, "disk '%s': ", disk->name);
    return rc;
}

static void *lane_run(void *opaque)
{
    struct lane lane = {.copies = opaque};
    struct rp_error e = RP_ERROR_INIT;
    bool first;

    while ((lane.disk = take_disk(lane.copies, &first)))
        if (copy_disk(&lane, first, &e) < 0)
            note_failure(lane.copies, &e);
    return NULL;
}

static unsigned count_lanes(const struct copies_params *params)
{
    unsigned lanes = COPY_AT_ONCE_MAX;

    if (params->ndisks < lanes)
        lanes = (unsigned)params->ndisks;
    for (size_t i = 0; i < params->ndisks; i++) {
        unsigned max = copy_at_once_max(&params->disks[i].params);

        if (lanes > max)
            lanes = max;
    }
    return lanes;
}

int copies_run(const struct copies_params *params, struct rp_error *e)
{
    struct copies c = {.params = params, .lanes = count_lanes(params)};
    pthread_t others[COPY_AT_ONCE_MAX];
    unsigned started = 0;

    pthread_mutex_init(&c.lock, NULL);
    /* Without them it takes longer, and is as right. */
    while (started + 1 < c.lanes && ring_start(&others[started], lane_run, &c, NULL) == 0)
        started++;
    lane_run(&c);
    while (started > 0)
        pthread_join(others[--started], NULL);
    for (size_t i = 0; i < params->ndisks; i++)
        source_close(params->disks[i].params.source);
    if (!c.failed)
        tell(&c);
    pthread_mutex_destroy(&c.lock);
    if (c.failed)
        *e = c.error;
    return c.failed ? -c.error.err : 0;
}

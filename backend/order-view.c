// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What an owner of exports remembers, and what its job/ shows: the job that runs, the text being
 * received, the last refusal, or the last job. Memory, any thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "order.h"

struct refuse {
    const struct rp_error *e;
    uint64_t last_job;
    bool busy;
};

static void put_refusal(struct slot *slot, void *opaque)
{
    const struct refuse *refuse = opaque;

    slot->refusal = *refuse->e;
    slot->refused_after = refuse->last_job;
    slot->refused_while_busy = refuse->busy;
    clock_gettime(CLOCK_REALTIME, &slot->refused);
}

static bool is_running(struct order_desk *desk, uint64_t job)
{
    enum job_state state;
    int result;

    return job && job_get_state(desk->queue, job, &state, &result) == 0 &&
           !job_state_has_ended(state);
}

/* The first time that anybody asks: its jobs of the services before know it by other names. */
static void bind_jobs(struct order_desk *desk, uint64_t owner)
{
    char uuid[VIRT_UUID_SIZE], id[HOLD_ID_SIZE], *refpoint;
    uint64_t vm = registry_identify(desk->registry, owner, uuid, id, &refpoint);

    if (!vm)
        return;
    job_bind(desk->queue, owner, vm, uuid, refpoint, id);
    free(refpoint);
    registry_set_bound(desk->registry, owner);
}

static uint64_t last_job(struct order_desk *desk, uint64_t owner, const struct slot *slot)
{
    if (!slot->is_bound)
        bind_jobs(desk, owner);
    return job_last_of(desk->queue, owner);
}

void order_refused(struct order_desk *desk, uint64_t owner, const struct rp_error *e)
{
    struct refuse refuse = {.e = e};
    struct slot slot;

    if (registry_get_slot(desk->registry, owner, &slot) < 0)
        return;
    refuse.last_job = last_job(desk, owner, &slot);
    refuse.busy = is_running(desk, refuse.last_job);
    registry_change_slot(desk->registry, owner, put_refusal, &refuse);
    desk->events.changed(desk->events.opaque, owner, TOPIC_JOB);
}

void order_receiving(struct order_desk *desk, uint64_t owner, int delta)
{
    registry_receiving(desk->registry, owner, delta);
    desk->events.changed(desk->events.opaque, owner, TOPIC_JOB);
}

/* What job/ of an owner shows. */
enum view { VIEW_NONE, VIEW_JOB, VIEW_RECEIVING, VIEW_REFUSAL };

static int look(struct order_desk *desk, uint64_t owner, struct slot *ret_slot, uint64_t *ret_job,
                enum view *ret_view)
{
    int rc = registry_get_slot(desk->registry, owner, ret_slot);

    if (rc < 0)
        return rc;
    *ret_job = last_job(desk, owner, ret_slot);
    if (is_running(desk, *ret_job))
        *ret_view = VIEW_JOB;
    else if (ret_slot->receiving > 0)
        *ret_view = VIEW_RECEIVING;
    else if (ret_slot->refusal.result && !ret_slot->refused_while_busy &&
             ret_slot->refused_after == *ret_job)
        *ret_view = VIEW_REFUSAL;
    else
        *ret_view = *ret_job ? VIEW_JOB : VIEW_NONE;
    return 0;
}

int order_get_job(struct order_desk *desk, uint64_t owner, uint64_t *ret_job)
{
    struct slot slot;
    enum view view;
    uint64_t job;
    int rc = look(desk, owner, &slot, &job, &view);

    if (rc < 0)
        return rc;
    if (view != VIEW_JOB)
        return -ENOENT;
    *ret_job = job;
    return 0;
}

int order_get_state(struct order_desk *desk, uint64_t owner, enum job_state *ret_state,
                    int *ret_result)
{
    struct slot slot;
    enum view view;
    uint64_t job;
    int rc = look(desk, owner, &slot, &job, &view);

    if (rc < 0)
        return rc;
    if (view == VIEW_JOB)
        return job_get_state(desk->queue, job, ret_state, ret_result);
    *ret_state = view == VIEW_RECEIVING ? JOB_RECEIVING
                 : view == VIEW_REFUSAL ? JOB_EXCEPTION
                                        : JOB_NONE;
    *ret_result = view == VIEW_REFUSAL ? slot.refusal.result : RESULT_JOB_STARTED;
    return 0;
}

/* What is shown when there is no job to show: names, and the state. */
static int describe_slot(struct order_desk *desk, uint64_t owner, const struct slot *slot,
                         enum view view, struct job_info *ret_info, struct rp_error *e)
{
    struct job_info info = {
        .error = strdup(view == VIEW_REFUSAL ? slot->refusal.message : ""),
        .export_directory = strdup(""),
        .settings = strdup(""),
        .last_refusal = strdup(""),
        .state = view == VIEW_RECEIVING ? JOB_RECEIVING
                 : view == VIEW_REFUSAL ? JOB_EXCEPTION
                                        : JOB_NONE,
        .has_result = view != VIEW_NONE,
        .result = view == VIEW_REFUSAL ? slot->refusal.result : RESULT_JOB_STARTED,
    };
    int rc = registry_names(desk->registry, owner, &info.vm, &info.refpoint, e);

    if (view == VIEW_REFUSAL)
        info.submitted = info.ended = slot->refused;
    if (rc == 0 && (!info.error || !info.export_directory || !info.settings || !info.last_refusal))
        rc = rp_fail_memory(e);
    if (rc < 0) {
        job_info_clear(&info);
        return rc;
    }
    *ret_info = info;
    return 0;
}

int order_get_info(struct order_desk *desk, uint64_t owner, struct job_info *ret_info,
                   struct rp_error *e)
{
    struct job_info info;
    struct slot slot;
    enum view view;
    uint64_t job;
    int rc = look(desk, owner, &slot, &job, &view);

    if (rc < 0)
        return rp_fail_errno(e, -rc, "no such reference point");
    rc = view == VIEW_JOB ? job_get_info(desk->queue, job, &info, e)
                          : describe_slot(desk, owner, &slot, view, &info, e);
    if (rc < 0)
        return rc;
    if (slot.refusal.result) {
        free(info.last_refusal);
        if (asprintf(&info.last_refusal, "%d %s", slot.refusal.result, slot.refusal.message) < 0) {
            info.last_refusal = NULL;
            job_info_clear(&info);
            return rp_fail_memory(e);
        }
    }
    *ret_info = info;
    return 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From block status to a plan: which clusters of the source are data, which are zero, which need
 * not be written. Knows what the answers mean and believes none of them unchecked; knows nothing
 * of libnbd, connections or files. Runs in the thread that owns the source.
 */
#include "source.h"

#include <string.h>

/* Cancel is noticed at least this often. */
#define TICK_MS 100

/*
 * Block status is asked for in windows, several at a time. A gigabyte keeps a single request short
 * enough for a fragmented image on a slow disk, and is long enough to cost nothing on an empty one.
 */
#define WINDOW_BYTES (UINT64_C(1) << 30)
#define WINDOWS      8u

/*
 * Dirty regions with less than this between them are asked for in one request: scanning a small
 * gap costs the server less than one request more.
 */
#define GAP_BYTES (UINT64_C(4) << 20)

/* One pass of block status: where it asks, and what its answers mean. */
struct scan {
    struct source *source;
    enum source_context context;
    struct plan *plan; /* gets the states */
    bool within;       /* ask, and mark, only where it is not CLUSTER_SKIP */
    uint64_t next;     /* where the next window is looked for */
    unsigned busy;
    int rc; /* of the first failure, which *e describes */
    struct rp_error *e;
};

struct window {
    struct scan *scan;
    uint64_t at, end; /* what is still to be asked for */
    uint64_t reached; /* how far the reply came */
    bool busy;
};

/* Dirty is noted as zero until the allocation is known. A hole that does not say it reads as zero
 * may read as anything. */
static enum cluster_state state_of(enum source_context context, uint32_t flags)
{
    if (context == SOURCE_BITMAP)
        return flags & SOURCE_STATUS_DIRTY ? CLUSTER_ZERO : CLUSTER_SKIP;
    return flags & SOURCE_STATUS_ZERO ? CLUSTER_SKIP : CLUSTER_DATA;
}

static void scan_fail(struct scan *scan, uint64_t offset, const char *what)
{
    if (scan->rc == 0)
        scan->rc =
            rp_fail(scan->e, RESULT_FAILED, "asking which parts of the disk are %s, at %llu: %s",
                    scan->context == SOURCE_BITMAP ? "changed" : "in use",
                    (unsigned long long)offset, what);
}

/* NULL if the extent may be believed. The last one may reach past what was asked for. */
static const char *extent_fault(const struct window *w, uint64_t length)
{
    if (w->reached >= w->end)
        return "the reply goes on after the end of what was asked for";
    if (length == 0)
        return "the reply has an extent of no length";
    if (length > source_size_bytes(w->scan->source) - w->reached)
        return "the reply reaches beyond the end of the disk";
    return NULL;
}

/* Data where the plan is not CLUSTER_SKIP, which is left as it is. */
static int mark_within(struct plan *plan, uint64_t offset, uint64_t length, struct rp_error *e)
{
    uint64_t end = offset + length, at = offset - offset % plan_cluster_bytes(plan);
    struct plan_run run;
    int rc = 0;

    while (rc == 0 && plan_run_within(plan, at, end, &run)) {
        if (run.state != CLUSTER_SKIP)
            rc = plan_mark(plan, at, run.length_bytes, CLUSTER_DATA, e);
        at += run.length_bytes;
    }
    return rc;
}

static int scan_mark(struct scan *scan, uint64_t offset, uint64_t length, uint32_t flags)
{
    enum cluster_state state = state_of(scan->context, flags);

    if (scan->within && state == CLUSTER_DATA)
        return mark_within(scan->plan, offset, length, scan->e);
    return plan_mark(scan->plan, offset, length, state, scan->e);
}

/* Marking is all it does: the order of the states makes the order of the windows irrelevant. */
static void window_extents(void *opaque, const uint32_t *pairs, size_t count)
{
    struct window *w = opaque;
    struct scan *scan = w->scan;

    if (w->reached != w->at)
        scan_fail(scan, w->at, "the reply came twice");
    for (size_t i = 0; scan->rc == 0 && i < count; i++, pairs += 2) {
        uint64_t length = pairs[0];
        const char *fault = extent_fault(w, length);

        if (fault) {
            scan_fail(scan, w->reached, fault);
            return;
        }
        if (length > w->end - w->reached)
            length = w->end - w->reached;
        scan->rc = scan_mark(scan, w->reached, length, pairs[1]);
        w->reached += pairs[0];
    }
}

static void window_done(void *opaque, int err)
{
    struct window *w = opaque;
    struct scan *scan = w->scan;
    char buffer[128];

    w->busy = false;
    scan->busy--;
    if (err)
        scan_fail(scan, w->at, strerror_r(err, buffer, sizeof buffer));
    else if (w->reached <= w->at)
        scan_fail(scan, w->at, "the reply makes no headway");
    w->at = w->reached < w->end ? w->reached : w->end;
}

/* From the first cluster at or after `start` that is not skipped, on over small gaps. */
static void find_range(const struct plan *plan, uint64_t *start, uint64_t *ret_end)
{
    struct plan_run run;
    uint64_t end, at;

    while (plan_run_at(plan, *start, &run) && run.state == CLUSTER_SKIP)
        *start = run.offset_bytes + run.length_bytes;
    end = at = *start;
    while (at - *start < WINDOW_BYTES && plan_run_within(plan, at, at + WINDOW_BYTES, &run)) {
        if (run.state == CLUSTER_SKIP && run.length_bytes >= GAP_BYTES)
            break;
        at += run.length_bytes;
        if (run.state != CLUSTER_SKIP)
            end = at;
    }
    *ret_end = end;
}

/* The next part of the disk to ask about; false when there is none. */
static bool scan_next(struct scan *scan, uint64_t *ret_start, uint64_t *ret_end)
{
    uint64_t start = scan->next, end = source_size_bytes(scan->source);

    if (scan->within)
        find_range(scan->plan, &start, &end);
    if (start >= end)
        return false;
    if (end - start > WINDOW_BYTES)
        end = start + WINDOW_BYTES;
    scan->next = end;
    *ret_start = start;
    *ret_end = end;
    return true;
}

/* Asks for what is left of the window, or for a new one; leaves it idle when all is asked. */
static int window_ask(struct window *w, struct rp_error *e)
{
    struct scan *scan = w->scan;
    int rc;

    if (w->at >= w->end && !scan_next(scan, &w->at, &w->end))
        return 0;
    w->reached = w->at;
    rc = source_status(scan->source, scan->context, w->at, w->end - w->at, window_extents,
                       window_done, w, e);
    if (rc < 0)
        return rc;
    w->busy = true;
    scan->busy++;
    return 0;
}

/*
 * Keeps all windows busy. The disk is through when there is nothing left to ask and nothing under
 * way: that the last reply came is not enough, as it may have told of a part only.
 */
static int scan_step(struct scan *scan, struct window *windows, bool *ret_finished)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < WINDOWS; i++)
        if (!windows[i].busy)
            rc = window_ask(&windows[i], scan->e);
    if (rc == 0)
        rc = source_check_cancelled(scan->source, scan->e);
    *ret_finished = scan->busy == 0;
    if (rc == 0 && scan->busy > 0)
        rc = source_wait(scan->source, -1, TICK_MS, scan->e);
    return rc < 0 ? rc : scan->rc;
}

static int scan_run(struct source *source, enum source_context context, bool within,
                    struct plan *plan, struct rp_error *e)
{
    struct scan scan = {
        .source = source, .context = context, .plan = plan, .within = within, .e = e};
    struct window windows[WINDOWS] = {{.busy = false}};
    bool finished = false;
    int rc;

    for (unsigned i = 0; i < WINDOWS; i++)
        windows[i].scan = &scan;
    do
        rc = scan_step(&scan, windows, &finished);
    while (rc == 0 && !finished);
    if (rc < 0)
        source_drop(source); /* the windows, which a reply would write to, end here */
    return rc;
}

/* Data where there is something; of what is dirty (`within`), the rest stays zero. */
static int scan_allocation(struct source *source, bool within, struct plan *plan,
                           struct rp_error *e)
{
    uint64_t size_bytes = source_size_bytes(source);

    if (source_offers(source, SOURCE_ALLOCATION))
        return scan_run(source, SOURCE_ALLOCATION, within, plan, e);
    return within ? mark_within(plan, 0, size_bytes, e)
                  : plan_mark(plan, 0, size_bytes, CLUSTER_DATA, e);
}

static int plan_delta(struct source *source, struct plan *plan, struct rp_error *e)
{
    int rc = scan_run(source, SOURCE_BITMAP, false, plan, e);

    source_end_bitmap(source);
    return rc == 0 ? scan_allocation(source, true, plan, e) : rc;
}

int source_plan(struct source *source, uint32_t cluster_bytes, struct plan **ret_plan,
                struct rp_error *e)
{
    struct rp_error ignored;
    struct plan *plan = NULL;
    int rc;

    if (!e)
        e = &ignored;
    if (cluster_bytes % source_read_unit_bytes(source))
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "the server reads in units of %zu bytes, which clusters of %u do not fit",
                       source_read_unit_bytes(source), (unsigned)cluster_bytes);
    rc = plan_new(source_size_bytes(source), cluster_bytes, &plan, e);
    if (rc == 0 && source_offers(source, SOURCE_BITMAP))
        rc = plan_delta(source, plan, e);
    else if (rc == 0)
        rc = scan_allocation(source, false, plan, e);
    if (rc < 0) {
        source_drop(source);
        plan_free(plan);
        return rc;
    }
    *ret_plan = plan;
    return 0;
}

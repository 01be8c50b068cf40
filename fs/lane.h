/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where slow operations run: threads of our own, as many as are needed up to a limit, so that the
 * threads of FUSE's loop are always there for `ls` and `cat job/status`.
 */
#ifndef REFPOINTFS_LANE_H
#define REFPOINTFS_LANE_H

#include "answer.h"

struct lane;
struct lane_op;

/* `answers` is borrowed. NULL when there is no memory. */
struct lane *lane_new(struct answers *answers);

/* Waits until every operation that was submitted has run, and joins the threads. Nothing may be
 * submitted any more. NULL is allowed. */
void lane_free(struct lane *lane);

/* Operations that must run one after the other, in the order they were submitted: those of one
 * open file. Zeroed to begin with; may go away inside its last operation's release. */
struct lane_queue {
    struct lane_op *first, *last;
    bool busy;
};

/*
 * Embedded in what is to be done. `work` runs in a thread of the lane and, when
 * answer_claim(&op->answer) says so, replies to op->answer.req. `release` (may be NULL) lets go of
 * what the operation holds, after which the lane frees the operation itself. All memory that the
 * operation needs must be its own: libfuse uses a request's buffers again.
 */
struct lane_op {
    struct answer answer;
    void (*work)(struct lane_op *op);
    void (*release)(struct lane_op *op);
    /* Not begun once its caller has given up; for operations that nothing else builds on. */
    bool droppable;
    /* lane.c's own */
    struct lane *lane;
    struct lane_queue *queue;
    struct lane_op *next;
};

/*
 * Hands over `op`, made by calloc or malloc, with work, release and droppable filled in. `queue`
 * may be NULL; `grace_ms` see answer_init().
 */
void lane_submit(struct lane *lane, struct lane_queue *queue, struct lane_op *op, fuse_req_t req,
                 unsigned grace_ms);

#endif

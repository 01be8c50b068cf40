/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Readers of job/wait: requests that are answered when a job has ended. A waiter costs a little
 * memory and no thread; any number of them is answered in one go.
 */
#ifndef REFPOINTFS_WAIT_H
#define REFPOINTFS_WAIT_H

#include <stdatomic.h>

#include "answer.h"
#include "tree.h"

struct waits;

/* Both are borrowed. NULL when there is no memory. */
struct waits *waits_new(const struct tree *tree, struct answers *answers);

/* Nobody waits any more (waits_stop()). NULL is allowed. */
void waits_free(struct waits *waits);

/* Answers all who wait, and whoever comes later, with ENOTCONN. */
void waits_stop(struct waits *waits);

/*
 * A read of `size` bytes of `node` at offset 0: replies now, or when the job that is this one's now
 * has ended: whichever job its owner gets next. EAGAIN instead of waiting when `nonblocking`.
 * *ended is set before the reply to the serial whose result it was; it belongs to the open file,
 * which lives until then.
 */
void wait_read(struct waits *waits, fuse_req_t req, const struct node *node, size_t size,
               bool nonblocking, _Atomic uint64_t *ended);

/* The rest of what such a read began: of `ended`, from `offset`; nothing where that is 0. */
void wait_read_on(fuse_req_t req, const struct node *node, uint64_t ended, size_t size,
                  off_t offset);

/* Would a read be answered now? */
bool wait_has_ended(const struct node *node);

/* For the backend's event: any of its threads. */
void wait_changed(struct waits *waits, uint64_t serial, unsigned topics);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cleans up after jobs that a service before did not live to finish: in a thread of its own, since
 * where they wrote to may answer late, or never.
 */
#ifndef REFPOINTFS_RECOVER_H
#define REFPOINTFS_RECOVER_H

#include <stdbool.h>

#include "job.h"
#include "journal.h"

struct recovery;

/* Both are borrowed. With nothing to clean up after, *ret_recovery is NULL. */
int recover_start(struct job_queue *queue, struct journal *journal, struct recovery **ret_recovery,
                  struct rp_error *e);

/*
 * Waits for it, but not for ever: false when it hangs. What was given to recover_start() must then
 * stay. NULL is allowed.
 */
bool recover_stop(struct recovery *recovery);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Acting with the rights of the process that asked. The service may run as root; what it opens,
 * makes, renames or removes in somebody's name happens with that somebody's user, group and
 * supplementary groups, in the calling thread alone.
 */
#ifndef REFPOINTFS_CALLER_H
#define REFPOINTFS_CALLER_H

#include "backend.h"

/*
 * From here to caller_leave() this thread's file system rights are the caller's. When the service
 * itself is not root it can act for its own user only: RESULT_ACCESS_DENIED for any other.
 * Descriptors opened meanwhile keep working afterwards.
 */
int caller_enter(const struct caller *caller, struct rp_error *e);

/* Back to the service's own rights. Cannot fail: what was given up is still held in reserve. */
void caller_leave(void);

#endif

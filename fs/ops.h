/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One mount: the operations that libfuse calls, and what they need.
 *
 * LOCK ORDER of fs/: libfuse's lock of a request, then one of ours; of ours, waits->lock, then
 * answers->lock; otherwise none inside another. None of them is held while the backend is called,
 * so that the backend may call ops_changed() from any of its threads.
 */
#ifndef REFPOINTFS_OPS_H
#define REFPOINTFS_OPS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "options.h"
#include "tree.h"

struct mount;

/* `options` is borrowed. Starts a thread. NULL when there is no memory or no thread. */
struct mount *ops_new(const struct options *options);

/* Both before the first request is served. */
void ops_set_session(struct mount *mount, struct fuse_session *session);
void ops_set_backend(struct mount *mount, struct backend *backend);

/* The userdata that goes with it is the mount. */
const struct fuse_lowlevel_ops *ops_table(void);

/* struct backend_events.changed; `opaque` is the mount. */
void ops_changed(void *opaque, uint64_t serial, unsigned topics);

/* The loop has ended: answers all who wait; nothing is notified any more. */
void ops_stop(struct mount *mount);

/* Waits for the slow operations under way; the backend must still be open. */
void ops_drain(struct mount *mount);

/* After ops_drain() and backend_close(). NULL is allowed. */
void ops_free(struct mount *mount);

#endif

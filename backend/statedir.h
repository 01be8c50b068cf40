/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A folder of small texts in the state folder, one file each: a text is replaced as a whole or not
 * at all, whenever the process or the machine ends, and to change one costs the same however many
 * there are. Knows nothing of what is in them.
 */
#ifndef REFPOINTFS_STATEDIR_H
#define REFPOINTFS_STATEDIR_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

struct statedir;

/* Opens STATE_DIR/FOLDER, made if missing; nobody else may look into it. */
int statedir_open(const char *state_dir, const char *folder, struct statedir **ret_statedir,
                  struct rp_error *e);
void statedir_close(struct statedir *statedir); /* NULL is allowed */

/*
 * Gets one text; -EINVAL: it makes no sense, any other -errno: stop. `name` lives for the call. A
 * `text` that is NULL was set aside, now or by a service before.
 */
typedef int statedir_text(void *opaque, const char *name, const char *text, size_t length,
                          struct rp_error *e);

/*
 * Calls `take` for each text, in no order. One that makes no sense is set aside under a name that
 * ends in ".unreadable": it can be looked at, and is not asked for again.
 */
int statedir_each(struct statedir *statedir, statedir_text *take, void *opaque, struct rp_error *e);

/* Reads one; *ret_text is freed by the caller. */
int statedir_read(struct statedir *statedir, const char *name, char **ret_text, size_t *ret_length,
                  struct rp_error *e);

/*
 * Puts a text under `name`, which has letters, digits and '-' only. With `durable` it is on disk
 * when this returns; without, the end of the process cannot harm it, that of the machine can. Any
 * thread; the last of two writers at a time wins.
 */
int statedir_write(struct statedir *statedir, const char *name, const char *text, size_t length,
                   bool durable, struct rp_error *e);

/* There being none is no failure. */
void statedir_remove(struct statedir *statedir, const char *name);

#endif

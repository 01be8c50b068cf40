/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A plan as text, one extent a line: "offset length data" or "offset length zero", in bytes, in the
 * order of offsets; what the plan skips has no line.
 *
 * The text is never kept: it may have a hundred megabytes. Any part of it is printed when it is
 * asked for, from an index of one entry each EXTENTS_INDEX_BYTES of text.
 *
 * Does not change once made; any number of threads may print.
 */
#ifndef REFPOINTFS_EXTENTS_H
#define REFPOINTFS_EXTENTS_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "plan.h"

#define EXTENTS_INDEX_BYTES 65536u

struct extents;

/* `plan` is borrowed, and walked over once. */
int extents_new(const struct plan *plan, struct extents **ret_extents, struct rp_error *e);
void extents_free(struct extents *extents); /* NULL allowed */

uint64_t extents_length_bytes(const struct extents *extents);

/* The text from `offset` on, at most `size` bytes of it; returns how many, 0 at its end. */
size_t extents_print(const struct extents *extents, uint64_t offset, char *buffer, size_t size);

#endif

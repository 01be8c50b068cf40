/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file's text and attributes at one moment: not changed once made, shared by all who read it.
 */
#ifndef REFPOINTFS_SNAPSHOT_H
#define REFPOINTFS_SNAPSHOT_H

#include <stdatomic.h>

#include "tree.h"

struct snapshot {
    atomic_uint refs;
    char *text;
    size_t length;
    struct stat st; /* as of the same moment */
};

/* Renders the file as it is now; the caller owns the one reference. Any thread, memory. */
int snapshot_new(const struct tree *tree, const struct node *node, struct snapshot **ret_snapshot,
                 struct rp_error *e);

struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot); /* NULL is allowed */

#endif

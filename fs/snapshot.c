// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Texts that are counted by who uses them (snapshot.h). Knows of a file only its row. Any thread.
 */
#include "snapshot.h"

#include <stdlib.h>

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    atomic_fetch_add(&snapshot->refs, 1);
    return snapshot;
}

void snapshot_unref(struct snapshot *snapshot)
{
    if (!snapshot || atomic_fetch_sub(&snapshot->refs, 1) != 1)
        return;
    free(snapshot->text);
    free(snapshot);
}

int snapshot_new(const struct tree *tree, const struct node *node, struct snapshot **ret_snapshot,
                 struct rp_error *e)
{
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    int ret;

    if (!snapshot)
        return rp_fail_memory(e);
    atomic_init(&snapshot->refs, 1);
    ret = tree_render(node, &snapshot->text, &snapshot->length, e);
    if (ret == 0)
        ret = tree_stat_sizeless(tree, node, &snapshot->st);
    if (ret < 0) {
        snapshot_unref(snapshot);
        return ret;
    }
    tree_set_size(&snapshot->st, snapshot->length);
    *ret_snapshot = snapshot;
    return 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Takes back from the kernel what it keeps of an object (cache.h). Knows of a file only its row. No
 * lock: what is told twice, or of what the kernel does not have, does no harm.
 */
#include "cache.h"

#include "tree.h"

void cache_changed(struct cache *cache, uint64_t serial)
{
    const struct class *class = tree_class(rp_serial_kind(serial));
    struct node node = {.serial = serial, .class = class};

    if (!cache->session || atomic_load(&cache->stopped))
        return;
    for (size_t i = 0; i < class->count; i++) {
        node.attr = &class->attrs[i];
        /* Attributes alone: taking pages away would wait for reads that FUSE's loop answers. */
        if (tree_is_dir(&node) || node.attr->changes)
            (void)fuse_lowlevel_notify_inval_inode(cache->session, tree_inode(&node), -1, 0);
    }
}

void cache_stop(struct cache *cache)
{
    atomic_store(&cache->stopped, true);
}

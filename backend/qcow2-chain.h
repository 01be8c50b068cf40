/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image with its backing files, down to the last one that is qcow2. When a disk gets a new image
 * above its old one (an external snapshot), libvirt begins each bitmap anew in the new one: what
 * changed since is then in the bitmaps of that name in both, and in each further image down to the
 * first that has none (libvirt 9.0, qemuBlockBitmapChainIsValid and
 * qemuBlockGetBitmapMergeActions). Blocks as long as the file system does. Any thread.
 */
#ifndef REFPOINTFS_QCOW2_CHAIN_H
#define REFPOINTFS_QCOW2_CHAIN_H

#include <stddef.h>

#include "qcow2-file.h"

struct qcow2_layer {
    char *path;
    struct qcow2_facts facts;
};

struct qcow2_chain {
    size_t nlayers; /* at least one; [0] is the image itself */
    struct qcow2_layer *layers;
    char *unseen; /* the backing file below the last layer that cannot be looked at; NULL = none */
};

/* Fails as qcow2_file_read() of the image itself; what is wrong below it is `unseen`. */
int qcow2_chain_read(const char *path, struct qcow2_chain *ret_chain, struct rp_error *e);
void qcow2_chain_clear(struct qcow2_chain *chain);

/* The layers that have a bitmap. */
struct qcow2_span {
    size_t first, count; /* count 0: none has it */
    /* Why it does not tell all that changed; NULL: it does. Static, a whole clause. */
    const char *why_not;
};

struct qcow2_span qcow2_chain_find_bitmap(const struct qcow2_chain *chain, const char *name);

#endif

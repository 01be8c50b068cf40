/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The writing end of a compressed copy: takes pressed blocks from the ring, has the target say
 * where their clusters go, packs them and writes them, and the metadata as it becomes final.
 */
#ifndef REFPOINTFS_PACKER_H
#define REFPOINTFS_PACKER_H

#include "target.h"
#include "writer.h"

struct packer {
    struct writer *writer; /* its file_bytes is set when the length is known */
    const struct target_ops *ops;
    struct target *target;
    uint64_t data_offset;
    uint32_t cluster_bytes;

    /* The packed bytes that are not written yet, and where in the file they begin. */
    unsigned char *buffer;
    uint64_t offset;
    size_t length;
};

/* The thread: `opaque` is a struct packer of which all but the last three is set. Returns NULL. */
void *packer_run(void *opaque);

#endif

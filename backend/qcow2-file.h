/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a qcow2 image says of itself: for VMs that are off, whose bitmaps nobody can be asked about.
 * Read-only, and without taking any lock. The format: docs/interop/qcow2.txt in QEMU's sources.
 */
#ifndef REFPOINTFS_QCOW2_FILE_H
#define REFPOINTFS_QCOW2_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct qcow2_bitmap {
    char *name;
    /*
     * QEMU has it in memory, or died with it there, or a program that does not know of bitmaps
     * wrote to the image: then it is lost.
     */
    bool in_use;
};

struct qcow2_facts {
    unsigned version;
    uint64_t size_bytes;
    uint32_t cluster_bytes;
    size_t nbitmaps;
    struct qcow2_bitmap *bitmaps;
    char *backing;        /* name of the backing file as it stands there; NULL = none */
    char *backing_format; /* NULL where nothing is said */
};

/*
 * RESULT_INVALID_PARAMETER and -EINVAL when the file is no qcow2; RESULT_INCORRECT_DATA_TYPE when
 * its bitmaps make no sense.
 */
int qcow2_file_read(const char *path, struct qcow2_facts *ret_facts, struct rp_error *e);

/* Numbers alone: the rest QEMU may be writing anew just now. Nothing to clear. */
int qcow2_file_read_header(const char *path, struct qcow2_facts *ret_facts, struct rp_error *e);

void qcow2_file_clear(struct qcow2_facts *facts);

/* The bitmap of that name, or NULL. */
const struct qcow2_bitmap *qcow2_file_find_bitmap(const struct qcow2_facts *facts,
                                                  const char *name);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hashing end of a copy: the SHA-256 of the whole file, made of the blocks as they pass, so
 * that the file need not be read again. Holes between blocks are hashed as the zeros they read as.
 */
#ifndef REFPOINTFS_HASHER_H
#define REFPOINTFS_HASHER_H

#include <stdint.h>

#include "ring.h"

#define HASHER_SHA256_BYTES 32

struct hasher {
    struct ring *ring;
    uint64_t file_bytes;                       /* the size the file is to have */
    unsigned char sha256[HASHER_SHA256_BYTES]; /* set when the thread ended without an error */
};

/* The thread: `opaque` is a struct hasher whose first two members are set. Returns NULL. */
void *hasher_run(void *opaque);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The writing end of a copy: takes blocks from a ring in file order and puts them into a file,
 * directly from memory to disk where the file system can (O_DIRECT is faster than the page cache
 * here, and durable sooner); at the end gives the file its size and syncs it.
 */
#ifndef REFPOINTFS_WRITER_H
#define REFPOINTFS_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "ring.h"

struct writer {
    struct ring *ring;
    int fd;              /* not closed; its flags are as before when the thread has ended */
    uint64_t file_bytes; /* the size the file is to have */
    uint64_t bytes_written;
    bool direct;             /* the file is open for direct I/O */
    int flags;               /* of the descriptor, as they were before */
    uint64_t flush_end;      /* buffered: up to here writing back has been started */
    uint64_t unflushed_from; /* buffered: from here on it has not been waited for */
};

/* The thread: `opaque` is a struct writer whose first three members are set. Returns NULL. */
void *writer_run(void *opaque);

/* ---- for a thread that has blocks of its own to write ---- */

/* Its first and last call. */
void writer_begin(struct writer *w);
void writer_end(struct writer *w);

/* `data` is aligned to RING_ALIGN_BYTES; so should be length and offset. */
int writer_put(struct writer *w, const void *data, size_t length, uint64_t offset,
               struct rp_error *e);

/* Gives the file its size, and syncs it. */
int writer_finish(struct writer *w, struct rp_error *e);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads of a held disk that many ask for at once: each is answered when its bytes are there, in
 * whatever order the server has them.
 *
 * NOTES ON THE THREAD MODEL. Some threads, each with a source (source.h) and a queue of its own.
 * Any thread may call reader_read(), which only queues. `done` of a read runs in a thread of the
 * reader, without any lock; it may call reader_read(), but not reader_close().
 *
 * DEATH. When a connection is lost or the server falls silent, the reader is dead: the reads under
 * way fail, and so does every later one. It does not come back; another one can be opened.
 */
#ifndef REFPOINTFS_READER_H
#define REFPOINTFS_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"

#define READER_THREADS_MAX 4u

struct reader;

struct reader_params {
    const char *socket_path;
    const char *export_name;
    unsigned threads; /* 1 to READER_THREADS_MAX, if the server allows several connections */
    unsigned timeout_ms;
    /* True ends reader_open(). May be NULL. */
    bool (*cancelled)(void *opaque);
    /* What was just read may be handed out: asked after each read, from the reader's threads. May
     * be NULL. False kills the reader. */
    bool (*is_sound)(void *opaque);
    void *opaque;
};

/* Connects. Errors are those of source_open(). */
int reader_open(const struct reader_params *params, struct reader **ret_reader, struct rp_error *e);

uint64_t reader_size_bytes(const struct reader *reader);

/*
 * Queues a read. False: the reader is dead, and `done` will not be called. `read` and its buffer
 * must stay until it is.
 */
bool reader_read(struct reader *reader, struct disk_read *read);

bool reader_is_dead(struct reader *reader);

/* Fails what is under way with ENODEV, and joins the threads. NULL is allowed. */
void reader_close(struct reader *reader);

#endif

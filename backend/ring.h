/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ring of aligned blocks between the thread that fills them and those that consume them. Block
 * n+1 is handed out after block n, to every consumer; a buffer is used again when all of them have
 * released it. That is the back-pressure: the producer cannot be further ahead than the ring is
 * long. It also carries the first error, whichever thread met it.
 *
 * NOTES ON THE THREAD MODEL. One producer. A consumer may be several threads: each block goes to
 * one of them, whichever is free, and so may be released before one that was handed out earlier.
 * The functions say whose they are. What a published block holds is read-only, except that the
 * press may change all of it, and the writer the bytes past its length.
 */
#ifndef REFPOINTFS_RING_H
#define REFPOINTFS_RING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Fits the direct I/O of every common file system. */
#define RING_ALIGN_BYTES 4096u

/* Each block is handed to the press, where there is one, and to the others when that released it
 * and all before it. */
enum ring_consumer { RING_WRITER = 0, RING_HASHER = 1, RING_PRESS = 2, RING_CONSUMERS_MAX = 3 };

/* Clusters in a block: blocks of 2 MiB, clusters of 4 KiB. */
#define RING_CLUSTERS_MAX 512u

struct ring_block {
    unsigned char *data; /* aligned to RING_ALIGN_BYTES */
    uint64_t offset;     /* in the file */
    size_t length;
    uint64_t source_bytes; /* how many of them came from the source: progress */
    unsigned reads;        /* still under way; the producer's */
    bool sealed;           /* no more will be put into it; the producer's */
    unsigned released;     /* the ring's: by which consumers, a bit each */
    /* The press': how many bytes it left of each cluster, at the cluster's place in the block. */
    uint32_t pressed_bytes[RING_CLUSTERS_MAX];
};

struct ring;

struct ring_params {
    size_t block_bytes; /* a multiple of RING_ALIGN_BYTES */
    unsigned blocks;
    unsigned threads[RING_CONSUMERS_MAX]; /* of each consumer; 0 for those that there are not */
};

/* No more memory is used than blocks are. */
int ring_new(const struct ring_params *params, struct ring **ret_ring, struct rp_error *e);
void ring_free(struct ring *ring); /* after all consumers have left; NULL allowed */

/* ---- the producer's ---- */

/* The next block, empty; NULL if all are in use. */
struct ring_block *ring_claim(struct ring *ring);

/* Hands out the claimed blocks, oldest first, up to the first that is not sealed and read. */
void ring_publish(struct ring *ring);

/* No more blocks will come. */
void ring_end(struct ring *ring);

/* Becomes readable when a block was released, a thread left, or an error was noted. */
int ring_wake_fd(const struct ring *ring);
void ring_clear_wake(struct ring *ring);

/* What the producer may want to know of its consumers, as of now. */
struct ring_progress {
    uint64_t written_bytes; /* sum of source_bytes of the blocks the writer released */
    uint64_t activity;      /* changes whenever any consumer got on */
    unsigned running;       /* consumers' threads that have not left */
    bool idle;              /* nothing is waiting for a consumer */
    bool failed;
};
void ring_get_progress(struct ring *ring, struct ring_progress *ret_progress);

/* Starts a consumer's thread, which the producer joins. Signals are for other threads. */
int ring_start(pthread_t *ret_thread, void *(*run)(void *opaque), void *opaque, struct rp_error *e);

/* ---- a consumer's ---- */

/* The oldest block that none of its threads has had; NULL at the end, or when an error was noted.
 * Waits. */
struct ring_block *ring_next(struct ring *ring, enum ring_consumer consumer);
void ring_release(struct ring *ring, enum ring_consumer consumer, struct ring_block *block);

/* Says that a long piece of work got on; false if it should be given up. */
bool ring_touch(struct ring *ring);

/* Its last call: the thread is about to end. */
void ring_leave(struct ring *ring);

/* ---- anybody's ---- */

/* Notes an error, if none was noted yet, and sends the consumers home. */
void ring_fail(struct ring *ring, const struct rp_error *e);

/* The error noted, as a function returns it; 0 if there is none. */
int ring_error(struct ring *ring, struct rp_error *e);

#endif

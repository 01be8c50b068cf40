/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The copy of one disk: plan + source -> target's layout -> file, pipelined.
 *
 * NOTES ON THE THREAD MODEL. copy_run() is called by one of the export's threads, which alone
 * drives the source. Beside it run, for the duration of the call, one writer thread (pwrite,
 * O_DIRECT where the file system has it) and one hashing thread (only when a checksum is asked
 * for). They share a ring of aligned blocks: block n of the file is filled by NBD reads straight
 * into place, written and hashed, and its buffer used again when both are done. That ring is the
 * back-pressure: the reader cannot be further ahead than it is long, and memory does not grow with
 * the disk.
 *
 * A compressed file is made of the same ring: block n of the plan's data is filled, compressed in
 * place by one of several threads (compress.h), and packed and written by one (packer.h), in order.
 * Its metadata stands in front, where readers are fast and its size is known, but is final only at
 * the end; so its checksum is computed at the end too, by reading the file.
 */
#ifndef REFPOINTFS_COPY_H
#define REFPOINTFS_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "plan.h"
#include "source.h"
#include "target.h"

#define COPY_SHA256_BYTES 32

/* QEMU serves all disks by one thread, which two copies keep busy, even with checksums. */
#define COPY_AT_ONCE_MAX 2u

struct copy_params {
    struct source *source;
    const struct plan *plan;
    const struct target_ops *ops;
    struct target *target;
    const struct target_layout *layout;
    int fd;                   /* the empty output file, open for writing (and, for the checksum of
                               * a compressed one, reading); not closed */
    int compression_level;    /* of zstd, for a compressed layout; 0 = COMPRESS_LEVEL_DEFAULT */
    bool checksum;            /* compute the SHA-256 of the whole file */
    uint64_t bandwidth_bytes; /* bytes per second read from the source; 0 = no limit */
    unsigned at_once;         /* copies of the export that run at the same time; 0 = 1 */
    bool is_warm;      /* the server did large reads before: it needs no more to begin well */
    unsigned stall_ms; /* no byte read or written for this long: RESULT_TIMEOUT */
    /* `progress` is called now and then with the plan's data bytes that are written so far, and
     * with all of them before a copy succeeds. May be NULL. */
    void (*progress)(void *opaque, uint64_t bytes_done);
    /* Asked at least every 100 ms; a non-zero return (a -errno, *e filled) ends the copy. May be
     * NULL. */
    int (*check)(void *opaque, struct rp_error *e);
    void *opaque;
};

struct copy_stats {
    unsigned char sha256[COPY_SHA256_BYTES]; /* valid if params->checksum */
    uint64_t bytes_read;                     /* from the source */
    uint64_t bytes_written;                  /* to the file; holes are not counted */
    uint64_t file_bytes;                     /* its length */
};

/*
 * Copies and fsyncs. On return all threads it started are gone, whatever happened, and nothing is
 * in flight in the source: reads that an error left under way get a second to end; then the source
 * is dropped (source.h).
 * On failure the file's contents are undefined and *ret_stats untouched.
 *
 * Takes less memory when the process has other copies under way, of this export or another.
 *
 * A time with nothing to wait for (the bandwidth limit) is no stall. A write that the file system
 * never answers ends in RESULT_TIMEOUT only when it ends at all: the thread in it cannot be left
 * behind.
 */
int copy_run(const struct copy_params *params, struct copy_stats *ret_stats, struct rp_error *e);

/*
 * How many copies like this are worth running at the same time. One, when there is a bandwidth
 * limit, which is meant for all of them, or when it compresses by more CPUs than there would be
 * memory for twice.
 */
unsigned copy_at_once_max(const struct copy_params *params);

#endif

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reading a file again, for its checksum. Knows nothing of what is in it. Runs in the export's
 * worker, with the hasher's thread beside it.
 */
#include "reread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "hasher.h"
#include "ring.h"

/* Measured: direct reads of this size cost a tenth of the CPU time of those through the page
 * cache, which is better left to others besides. */
#define BLOCK_BYTES (2u << 20)
#define BLOCKS      4u

#define TICK_MS 50

struct reread {
    int fd;
    uint64_t file_bytes;
    struct ring *ring;
};

/* The last read of a file may be longer than what it holds: direct I/O asks for whole units. */
static int read_block(const struct reread *r, struct ring_block *block, struct rp_error *e)
{
    size_t done = 0;

    while (done < block->length) {
        ssize_t n =
            pread(r->fd, block->data + done, BLOCK_BYTES - done, (off_t)(block->offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && fcntl(r->fd, F_GETFL) & O_DIRECT &&
            fcntl(r->fd, F_SETFL, fcntl(r->fd, F_GETFL) & ~O_DIRECT) == 0)
            continue;
        if (n <= 0)
            return rp_fail_errno(e, n < 0 ? errno : EIO, "reading what was written at %llu",
                                 (unsigned long long)(block->offset + done));
        done += (size_t)n;
    }
    block->sealed = true;
    ring_publish(r->ring);
    return 0;
}

/* Until the hasher took all; a -errno when there is an error, its or ours. */
static int read_all(const struct reread *r, int (*check)(void *opaque, struct rp_error *e),
                    void *opaque, struct rp_error *e)
{
    struct pollfd wake = {.fd = ring_wake_fd(r->ring), .events = POLLIN};
    struct ring_progress progress = {.running = 1};
    uint64_t at = 0;
    int rc = 0;

    while (rc == 0 && progress.running > 0) {
        struct ring_block *block = at < r->file_bytes ? ring_claim(r->ring) : NULL;

        if (block) {
            uint64_t left = r->file_bytes - at;

            block->offset = at;
            block->length = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
            at += block->length;
            rc = read_block(r, block, e);
        } else {
            poll(&wake, 1, TICK_MS);
            ring_clear_wake(r->ring);
        }
        if (at == r->file_bytes)
            ring_end(r->ring);
        if (rc == 0 && check)
            rc = check(opaque, e);
        ring_get_progress(r->ring, &progress);
    }
    return rc;
}

int reread_hash(int fd, uint64_t file_bytes, int (*check)(void *opaque, struct rp_error *e),
                void *opaque, unsigned char *ret_sha256, struct rp_error *e)
{
    const struct ring_params params = {BLOCK_BYTES, BLOCKS, {[RING_HASHER] = 1}};
    struct reread r = {.fd = fd, .file_bytes = file_bytes};
    struct hasher hasher = {.file_bytes = file_bytes};
    struct rp_error error = RP_ERROR_INIT;
    int flags = fcntl(fd, F_GETFL);
    pthread_t thread;
    int rc = ring_new(&params, &r.ring, e);

    if (rc < 0)
        return rc;
    hasher.ring = r.ring;
    rc = ring_start(&thread, hasher_run, &hasher, e);
    if (rc == 0) {
        (void)fcntl(fd, F_SETFL, flags | O_DIRECT); /* where the file system has it */
        rc = read_all(&r, check, opaque, &error);
        if (rc < 0)
            ring_fail(r.ring, &error); /* unless the hasher was first */
        pthread_join(thread, NULL);
        (void)fcntl(fd, F_SETFL, flags);
        rc = ring_error(r.ring, e);
    }
    ring_free(r.ring);
    if (rc == 0)
        memcpy(ret_sha256, hasher.sha256, sizeof hasher.sha256);
    return rc;
}

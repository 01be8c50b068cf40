// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The ring of blocks, its lock and its wake-ups. Knows nothing of sources, targets or files.
 */
#include "ring.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

struct ring {
    void *area; /* of all blocks' data, and what is mapped around it */
    size_t area_bytes;
    unsigned blocks;
    bool present[RING_CONSUMERS_MAX]; /* which consumers there are */
    int wake_fd;
    uint64_t claimed; /* the producer's: blocks claimed since the beginning */

    /*
     * Protects all that follows. Held for a few instructions at a time, never over a system call
     * other than futex(2).
     */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* for consumers */
    uint64_t published;
    /* Of each consumer: blocks handed out; of these, all are released up to here. */
    uint64_t taken[RING_CONSUMERS_MAX], released[RING_CONSUMERS_MAX];
    uint64_t written_bytes, activity;
    unsigned running;
    bool ended, failed;
    struct rp_error error;

    struct ring_block block[];
};

/*
 * Huge pages spare the kernel 511 of 512 page look-ups in each read and write: measured, a copy
 * takes a fifth less time. Where there are none, small ones do. Mapped, because malloc(), having
 * seen so large a block freed, would keep the next ones.
 */
static int make_area(struct ring *ring, size_t block_bytes, struct rp_error *e)
{
    size_t used_bytes = block_bytes * ring->blocks;
    size_t mapped_bytes = used_bytes + HUGE_PAGE_BYTES;
    unsigned char *data;

    ring->area =
        mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring->area == MAP_FAILED) {
        ring->area = NULL;
        return rp_fail_memory(e);
    }
    ring->area_bytes = mapped_bytes;
    data = ring->area;
    data += -(uintptr_t)data % HUGE_PAGE_BYTES;
    (void)madvise(data, used_bytes, MADV_HUGEPAGE);
    for (unsigned i = 0; i < ring->blocks; i++)
        ring->block[i].data = data + i * block_bytes;
    return 0;
}

int ring_new(const struct ring_params *params, struct ring **ret_ring, struct rp_error *e)
{
    struct ring *ring = calloc(1, sizeof *ring + params->blocks * sizeof ring->block[0]);
    int rc;

    if (!ring)
        return rp_fail_memory(e);
    ring->blocks = params->blocks;
    for (unsigned i = 0; i < RING_CONSUMERS_MAX; i++) {
        ring->present[i] = params->threads[i] > 0;
        ring->running += params->threads[i];
    }
    pthread_mutex_init(&ring->lock, NULL);
    pthread_cond_init(&ring->changed, NULL);
    ring->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = ring->wake_fd < 0 ? rp_fail_errno(e, errno, "making an eventfd")
                           : make_area(ring, params->block_bytes, e);
    if (rc < 0) {
        ring_free(ring);
        return rc;
    }
    *ret_ring = ring;
    return 0;
}

void ring_free(struct ring *ring)
{
    if (!ring)
        return;
    if (ring->area)
        munmap(ring->area, ring->area_bytes);
    if (ring->wake_fd >= 0)
        close(ring->wake_fd);
    pthread_cond_destroy(&ring->changed);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

/* Called without the lock. An eventfd that is full is readable, which is all that is asked of it.
 */
static void wake_producer(struct ring *ring)
{
    uint64_t one = 1;
    ssize_t ignored = write(ring->wake_fd, &one, sizeof one);

    (void)ignored;
}

int ring_wake_fd(const struct ring *ring)
{
    return ring->wake_fd;
}

void ring_clear_wake(struct ring *ring)
{
    uint64_t count;
    ssize_t ignored = read(ring->wake_fd, &count, sizeof count);

    (void)ignored;
}

static uint64_t oldest_in_use_locked(const struct ring *ring)
{
    uint64_t oldest = ring->published;

    for (unsigned i = 0; i < RING_CONSUMERS_MAX; i++)
        if (ring->present[i] && ring->released[i] < oldest)
            oldest = ring->released[i];
    return oldest;
}

struct ring_block *ring_claim(struct ring *ring)
{
    struct ring_block *block = &ring->block[ring->claimed % ring->blocks];
    bool full;

    pthread_mutex_lock(&ring->lock);
    full = ring->claimed - oldest_in_use_locked(ring) >= ring->blocks;
    pthread_mutex_unlock(&ring->lock);
    if (full)
        return NULL;
    ring->claimed++;
    *block = (struct ring_block){.data = block->data};
    return block;
}

void ring_publish(struct ring *ring)
{
    uint64_t ready;

    pthread_mutex_lock(&ring->lock);
    for (ready = ring->published; ready < ring->claimed; ready++) {
        const struct ring_block *block = &ring->block[ready % ring->blocks];

        if (!block->sealed || block->reads > 0)
            break;
    }
    if (ready > ring->published)
        pthread_cond_broadcast(&ring->changed);
    ring->published = ready;
    pthread_mutex_unlock(&ring->lock);
}

void ring_end(struct ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->ended = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
}

int ring_start(pthread_t *ret_thread, void *(*run)(void *opaque), void *opaque, struct rp_error *e)
{
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(ret_thread, NULL, run, opaque);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    /* As everywhere: for want of memory, or of a number that stands for it. */
    return err ? rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start a thread") : 0;
}

void ring_get_progress(struct ring *ring, struct ring_progress *ret_progress)
{
    pthread_mutex_lock(&ring->lock);
    ret_progress->written_bytes = ring->written_bytes;
    ret_progress->activity = ring->activity;
    ret_progress->running = ring->running;
    ret_progress->idle = !ring->ended && oldest_in_use_locked(ring) == ring->published;
    ret_progress->failed = ring->failed;
    pthread_mutex_unlock(&ring->lock);
}

/* How many blocks the consumer may have had by now. */
static uint64_t ready_locked(const struct ring *ring, enum ring_consumer consumer)
{
    return consumer != RING_PRESS && ring->present[RING_PRESS] ? ring->released[RING_PRESS]
                                                               : ring->published;
}

static bool is_over_locked(const struct ring *ring, enum ring_consumer consumer)
{
    return ring->failed || (ring->ended && ring->taken[consumer] == ring->published);
}

struct ring_block *ring_next(struct ring *ring, enum ring_consumer consumer)
{
    struct ring_block *block = NULL;

    pthread_mutex_lock(&ring->lock);
    while (!is_over_locked(ring, consumer) && ring->taken[consumer] == ready_locked(ring, consumer))
        pthread_cond_wait(&ring->changed, &ring->lock);
    if (!is_over_locked(ring, consumer))
        block = &ring->block[ring->taken[consumer]++ % ring->blocks];
    pthread_mutex_unlock(&ring->lock);
    return block;
}

/* Counts on over all blocks that are released without a gap. */
static void advance_locked(struct ring *ring, enum ring_consumer consumer)
{
    uint64_t at = ring->released[consumer];

    while (at < ring->taken[consumer] && ring->block[at % ring->blocks].released & 1u << consumer)
        at++;
    if (consumer == RING_PRESS && at > ring->released[consumer])
        pthread_cond_broadcast(&ring->changed);
    ring->released[consumer] = at;
}

void ring_release(struct ring *ring, enum ring_consumer consumer, struct ring_block *block)
{
    pthread_mutex_lock(&ring->lock);
    if (consumer == RING_WRITER)
        ring->written_bytes += block->source_bytes;
    block->released |= 1u << consumer;
    advance_locked(ring, consumer);
    ring->activity++;
    pthread_mutex_unlock(&ring->lock);
    wake_producer(ring);
}

bool ring_touch(struct ring *ring)
{
    bool failed;

    pthread_mutex_lock(&ring->lock);
    ring->activity++;
    failed = ring->failed;
    pthread_mutex_unlock(&ring->lock);
    return !failed;
}

void ring_leave(struct ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->running--;
    ring->activity++;
    pthread_mutex_unlock(&ring->lock);
    wake_producer(ring);
}

void ring_fail(struct ring *ring, const struct rp_error *e)
{
    pthread_mutex_lock(&ring->lock);
    if (!ring->failed)
        ring->error = *e;
    ring->failed = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->lock);
    wake_producer(ring);
}

int ring_error(struct ring *ring, struct rp_error *e)
{
    int rc = 0;

    pthread_mutex_lock(&ring->lock);
    if (ring->failed) {
        rc = -ring->error.err;
        if (e)
            *e = ring->error;
    }
    pthread_mutex_unlock(&ring->lock);
    return rc;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The copy's reading end and its conduct: cuts the file into blocks, has each filled in place (by
 * the target with metadata, by the source with data), hands them to the writer and the hasher, and
 * watches time, bandwidth and cancel meanwhile. Knows the layout of no format and no file system.
 * Runs in the caller's thread; see copy.h for the others.
 */
#include "copy.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "compress.h"
#include "hasher.h"
#include "pace.h"
#include "packer.h"
#include "reread.h"
#include "ring.h"
#include "writer.h"

_Static_assert(COPY_SHA256_BYTES == HASHER_SHA256_BYTES, "one digest");
_Static_assert(RING_CLUSTERS_MAX == TARGET_PLACE_MAX, "a block is placed at once");

/* Measured: shorter writes leave the disk idle between two, longer ones the reader waiting. */
#define BLOCK_BYTES (2u << 20)

/* Measured: fewer let a disk that hesitates stop the reader, more gain nothing. Each thread that
 * compresses holds one besides. */
#define BLOCKS 8u

/* Of each of several copies: while one hesitates, the CPUs are with the others, whose blocks are
 * more likely still in their caches. */
#define BLOCKS_AT_ONCE 4u

/* Measured: shorter reads cost more per byte; longer ones wait longer for their first. */
#define READ_BYTES (1u << 20)

/* Measured: two long reads on each connection keep server and socket busy; more only grow the
 * server's memory. Short ones may be as many as the source has slots for. */
#define IN_FLIGHT_BYTES_PER_CONNECTION (2u * READ_BYTES)

/*
 * One read of this size, thrown away, before a copy of at least that much: the server allocates
 * a buffer per request, and until glibc's malloc has seen a large one freed, it maps and unmaps
 * each, and what is free at the heap's end beyond twice that size: page faults that took a third of
 * the time, and half of the server's CPU. All that is in flight must fit. Costs two milliseconds.
 */
#define WARM_UP_BYTES      (4u << 20)
#define WARM_UP_FROM_BYTES (UINT64_C(16) << 20)

/* One thread a CPU compresses; what more of them would be waiting for is the source. */
#define PRESSES_MAX 8u

/* ... and in each of several copies, by the memory that they have together. */
#define PRESSES_MAX_AT_ONCE 4u

#define THREADS_MAX (PRESSES_MAX + 2) /* and who writes, and who hashes */

#define TICK_MS 100

#define SECOND_NS 1000000000u

/* One read under way. */
struct read {
    struct copy *copy;
    struct ring_block *block;
    uint64_t offset;
    size_t length;
    struct read *next;
};

struct copy {
    const struct copy_params *params;
    struct ring *ring;
    struct writer writer;
    struct hasher hasher;
    struct compress compress;
    struct packer packer;
    pthread_t threads[THREADS_MAX];
    unsigned nthreads; /* how many of them are started */

    struct read *reads, *free_reads;
    void *warm_up; /* what a warm-up reads into */
    size_t bytes_in_flight, in_flight_max, piece_max;
    uint64_t bytes_read;

    /* Where filling stands. */
    struct ring_block *block; /* the one being filled, or NULL */
    size_t block_end;         /* how long it will be */
    uint64_t file_at;         /* the block's end in the file: where the next one begins */
    struct plan_run run;      /* what is left of the run of data being read */
    uint64_t guest_at;        /* where the run after it is looked for */
    uint64_t padding;         /* zeros to come, after the last cluster of a disk that ends in it */
    bool filled;              /* there are no more blocks */
    bool starved;             /* the ring is full */

    struct pace pace;
    uint64_t checked_ns, moved_ns, activity;
    int rc; /* of a read that failed, which `error` describes */
    struct rp_error error;
};

/* Copies under way in this process, whose jobs know nothing of each other. */
static atomic_uint under_way;

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

static size_t min_size(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

/* The longest read: what the server takes, the limit allows, and buffers stay aligned by. */
static size_t find_piece_max(const struct copy *c)
{
    const struct source *source = c->params->source;
    size_t max = min_size(source_max_read_bytes(source), READ_BYTES);
    size_t unit = source_read_unit_bytes(source);

    if (unit < RING_ALIGN_BYTES)
        unit = min_size(RING_ALIGN_BYTES, max);
    max = pace_piece_bytes(&c->pace, max);
    return max > unit ? max - max % unit : unit;
}

/* ---- filling blocks ---- */

static void read_done(void *opaque, int err)
{
    struct read *read = opaque;
    struct copy *c = read->copy;

    if (err && c->rc == 0)
        c->rc = rp_fail_errno(&c->error, err, "reading at %llu", (unsigned long long)read->offset);
    if (!err)
        c->bytes_read += read->length;
    c->moved_ns = now_ns();
    c->bytes_in_flight -= read->length;
    read->block->reads--;
    read->next = c->free_reads;
    c->free_reads = read;
}

/* Mapped, not allocated: what malloc() has seen freed once, it keeps. */
static void free_warm_up(struct copy *c)
{
    if (c->warm_up)
        munmap(c->warm_up, WARM_UP_BYTES);
    c->warm_up = NULL;
}

/* Whatever became of it: an error will show again where it counts. */
static void warm_up_done(void *opaque, int err)
{
    struct copy *c = opaque;

    (void)err;
    free_warm_up(c);
    c->moved_ns = now_ns();
}

static int start_warm_up(struct copy *c, struct rp_error *e)
{
    const struct copy_params *p = c->params;
    struct plan_run run;

    if (p->is_warm || p->bandwidth_bytes || plan_data_bytes(p->plan) < WARM_UP_FROM_BYTES ||
        source_max_read_bytes(p->source) < WARM_UP_BYTES || !plan_next_data(p->plan, 0, &run) ||
        plan_size_bytes(p->plan) - run.offset_bytes < WARM_UP_BYTES)
        return 0;
    c->warm_up =
        mmap(NULL, WARM_UP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c->warm_up == MAP_FAILED) {
        c->warm_up = NULL;
        return rp_fail_memory(e);
    }
    return source_read(p->source, c->warm_up, WARM_UP_BYTES, run.offset_bytes, warm_up_done, c, e);
}

static bool may_read(const struct copy *c)
{
    return c->free_reads && source_in_flight(c->params->source) < source_slots(c->params->source) &&
           c->bytes_in_flight < c->in_flight_max && pace_delay_ns(&c->pace, now_ns()) == 0;
}

static int start_read(struct copy *c, size_t length, struct rp_error *e)
{
    struct ring_block *block = c->block;
    struct read *read = c->free_reads;
    int rc;

    *read = (struct read){.copy = c,
                          .block = block,
                          .offset = c->run.offset_bytes,
                          .length = length,
                          .next = read->next};
    rc = source_read(c->params->source, block->data + block->length, length, c->run.offset_bytes,
                     read_done, read, e);
    if (rc < 0)
        return rc;
    c->free_reads = read->next;
    c->bytes_in_flight += length;
    pace_take(&c->pace, now_ns(), length);
    block->reads++;
    block->length += length;
    block->source_bytes += length;
    c->run.offset_bytes += length;
    c->run.length_bytes -= length;
    return 0;
}

/* The next run of data within a span; after one that ends within the disk's last cluster come
 * zeros. */
static bool next_run(struct copy *c)
{
    uint64_t span = c->params->layout->span_bytes, end;

    if (!plan_next_data(c->params->plan, c->guest_at, &c->run))
        return false;
    if (span > 0 && c->run.length_bytes > span - c->run.offset_bytes % span)
        c->run.length_bytes = span - c->run.offset_bytes % span;
    end = c->guest_at = c->run.offset_bytes + c->run.length_bytes;
    if (c->params->layout->packed)
        c->padding = -end & (plan_cluster_bytes(c->params->plan) - 1);
    return true;
}

/* Where the next block of the file begins, and how long it is; false at the end. A block ends at a
 * multiple of BLOCK_BYTES, and where the file has a hole. */
static bool next_block(struct copy *c, uint64_t *ret_offset, size_t *ret_length)
{
    const struct target_layout *layout = c->params->layout;
    uint64_t offset = c->file_at, left;

    if (layout->packed) {
        left = layout->file_bytes - offset;
    } else {
        if (c->run.length_bytes == 0 && !next_run(c))
            return false;
        offset = layout->data_offset + c->run.offset_bytes;
        left = c->run.length_bytes;
    }
    *ret_offset = offset;
    *ret_length = min_size(left, BLOCK_BYTES - offset % BLOCK_BYTES);
    return left > 0;
}

/* False when there is none to be had now, or no more at all. */
static bool begin_block(struct copy *c)
{
    uint64_t offset;
    size_t length;

    if (!next_block(c, &offset, &length)) {
        c->filled = true;
        return false;
    }
    c->block = ring_claim(c->ring);
    c->starved = !c->block;
    if (c->starved)
        return false;
    c->block->offset = offset;
    c->block_end = length;
    c->file_at = offset + length;
    return true;
}

/* Puts the next piece into the block: metadata, data or zeros. Sets *ret_wait when it must wait. */
static int fill_piece(struct copy *c, bool *ret_wait, struct rp_error *e)
{
    const struct copy_params *p = c->params;
    struct ring_block *block = c->block;
    uint64_t at = block->offset + block->length;
    size_t left = c->block_end - block->length, n;
    uint64_t metadata, length = p->layout->compressed ? 0 : p->ops->find(p->target, at, &metadata);

    if (length > 0) {
        n = min_size(left, length);
        p->ops->render(p->target, metadata, block->data + block->length, n);
        block->length += n;
        return 0;
    }
    if (c->run.length_bytes > 0 || (c->padding == 0 && next_run(c))) {
        *ret_wait = !may_read(c);
        if (*ret_wait)
            return 0;
        return start_read(c, min_size(min_size(left, c->piece_max), c->run.length_bytes), e);
    }
    if (c->padding == 0)
        return rp_fail(e, RESULT_FAILED, "the layout has more data than the plan");
    n = min_size(left, c->padding);
    memset(block->data + block->length, 0, n);
    block->length += n;
    c->padding -= n;
    return 0;
}

/* Starts all that can be started now. */
static int fill_blocks(struct copy *c, struct rp_error *e)
{
    bool wait = false;

    while (!c->filled && !wait) {
        int rc;

        if (!c->block && !begin_block(c))
            return 0;
        rc = fill_piece(c, &wait, e);
        if (rc < 0)
            return rc;
        if (c->block->length == c->block_end) {
            c->block->sealed = true;
            c->block = NULL;
        }
    }
    return 0;
}

/* ---- the watch ---- */

/* Tells how far the copy is, and asks whether to go on. */
static int check_caller(struct copy *c, const struct ring_progress *progress, struct rp_error *e)
{
    const struct copy_params *p = c->params;
    uint64_t now = now_ns();

    /* Half a tick: what is asked for after every wait comes round in time. */
    if (now - c->checked_ns < TICK_MS / 2 * (uint64_t)1000000)
        return 0;
    c->checked_ns = now;
    if (p->progress)
        p->progress(p->opaque, progress->written_bytes);
    return p->check ? p->check(p->opaque, e) : 0;
}

static int check_stall(struct copy *c, const struct ring_progress *progress, struct rp_error *e)
{
    bool reading = source_in_flight(c->params->source) > 0;
    uint64_t now = now_ns();

    if (progress->activity != c->activity || (progress->idle && !reading))
        c->moved_ns = now;
    c->activity = progress->activity;
    if (now - c->moved_ns < (uint64_t)c->params->stall_ms * 1000000)
        return 0;
    return rp_fail(e, RESULT_TIMEOUT, "nothing was %s for %u ms, after %llu bytes",
                   reading ? "read" : "written", c->params->stall_ms,
                   (unsigned long long)progress->written_bytes);
}

/* Waits for something to happen: for reads, or when there are none left, for the threads. */
static int wait_for_work(struct copy *c, struct rp_error *e)
{
    struct pollfd fd = {.fd = ring_wake_fd(c->ring), .events = POLLIN};
    uint64_t delay_ms = (pace_delay_ns(&c->pace, now_ns()) + 999999) / 1000000;
    int timeout_ms = delay_ms > 0 && delay_ms < TICK_MS / 2 ? (int)delay_ms : TICK_MS / 2;
    int rc = 0;

    if (c->filled && source_in_flight(c->params->source) == 0)
        poll(&fd, 1, timeout_ms);
    else
        rc = source_wait(c->params->source, c->starved ? fd.fd : -1, timeout_ms, e);
    if (c->starved || c->filled)
        ring_clear_wake(c->ring);
    return rc;
}

static int step(struct copy *c, bool *ret_finished, struct rp_error *e)
{
    struct ring_progress progress;
    int rc = fill_blocks(c, e);

    if (rc < 0)
        return rc;
    ring_publish(c->ring);
    if (c->filled && source_in_flight(c->params->source) == 0)
        ring_end(c->ring);
    rc = wait_for_work(c, e);
    if (rc < 0)
        return rc;
    if (c->rc < 0) {
        if (e)
            *e = c->error;
        return c->rc;
    }
    ring_get_progress(c->ring, &progress);
    if (progress.failed)
        return ring_error(c->ring, e);
    *ret_finished = progress.running == 0;
    rc = check_stall(c, &progress, e);
    return rc < 0 ? rc : check_caller(c, &progress, e);
}

/* ---- beginning and end ---- */

static int start_thread(struct copy *c, void *(*run)(void *), void *opaque, struct rp_error *e)
{
    int rc = ring_start(&c->threads[c->nthreads], run, opaque, e);

    if (rc == 0)
        c->nthreads++;
    return rc;
}

static unsigned count_cpus(void)
{
    cpu_set_t cpus;

    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
}

static int start_threads(struct copy *c, const struct ring_params *ring, struct rp_error *e)
{
    int rc = c->params->layout->compressed ? start_thread(c, packer_run, &c->packer, e)
                                           : start_thread(c, writer_run, &c->writer, e);

    if (rc == 0 && ring->threads[RING_HASHER])
        rc = start_thread(c, hasher_run, &c->hasher, e);
    for (unsigned i = 0; i < ring->threads[RING_PRESS] && rc == 0; i++)
        rc = start_thread(c, compress_run, &c->compress, e);
    return rc;
}

static void prepare_threads(struct copy *c)
{
    const struct copy_params *p = c->params;
    uint32_t cluster_bytes = plan_cluster_bytes(p->plan);
    int level = p->compression_level;

    c->writer = (struct writer){
        .ring = c->ring,
        .fd = p->fd,
        .file_bytes = p->layout->file_bytes,
    };
    c->hasher = (struct hasher){.ring = c->ring, .file_bytes = p->layout->file_bytes};
    c->compress = (struct compress){
        .ring = c->ring,
        .cluster_bytes = cluster_bytes,
        .level = level ? level : COMPRESS_LEVEL_DEFAULT,
    };
    c->packer = (struct packer){
        .writer = &c->writer,
        .ops = p->ops,
        .target = p->target,
        .data_offset = p->layout->data_offset,
        .cluster_bytes = cluster_bytes,
    };
}

static int make_reads(struct copy *c, struct rp_error *e)
{
    unsigned slots = source_slots(c->params->source);

    c->reads = calloc(slots, sizeof *c->reads);
    if (!c->reads)
        return rp_fail_memory(e);
    for (unsigned i = 0; i < slots; i++) {
        c->reads[i].next = c->free_reads;
        c->free_reads = &c->reads[i];
    }
    return 0;
}

unsigned copy_at_once_max(const struct copy_params *p)
{
    bool has_memory = !p->layout->compressed || count_cpus() <= PRESSES_MAX_AT_ONCE;

    return has_memory && !p->bandwidth_bytes ? COPY_AT_ONCE_MAX : 1;
}

/* The copies of an export together stay below 64 MiB: blocks, and up to 4 MiB of tables in each
 * press. */
static struct ring_params choose_ring(const struct copy_params *p, bool alone)
{
    struct ring_params ring = {BLOCK_BYTES, alone ? BLOCKS : BLOCKS_AT_ONCE, {[RING_WRITER] = 1}};

    if (p->layout->compressed) {
        ring.threads[RING_PRESS] = (unsigned)min_size(count_cpus(), PRESSES_MAX);
        ring.blocks += ring.threads[RING_PRESS];
    } else {
        ring.threads[RING_HASHER] = p->checksum;
    }
    return ring;
}

static int copy_start(struct copy *c, bool alone, struct rp_error *e)
{
    const struct copy_params *p = c->params;
    const struct ring_params ring = choose_ring(p, alone);
    int rc = ring_new(&ring, &c->ring, e);

    if (rc == 0)
        rc = make_reads(c, e);
    if (rc < 0)
        return rc;
    c->in_flight_max = source_connections(p->source) * (size_t)IN_FLIGHT_BYTES_PER_CONNECTION;
    c->moved_ns = c->checked_ns = now_ns();
    c->pace = (struct pace){p->bandwidth_bytes, c->moved_ns};
    c->piece_max = find_piece_max(c);
    if (p->layout->compressed)
        c->file_at = p->layout->data_offset; /* what is before it comes by other ways */
    prepare_threads(c);
    rc = start_threads(c, &ring, e);
    return rc < 0 ? rc : start_warm_up(c, e);
}

/*
 * What an error left under way would be written to buffers that are about to go. A server that
 * answers gets the time to do so, which is kind to it (nbdkit does not survive a client that leaves
 * in the middle of a reply) and keeps the source; one that does not loses the connection.
 */
static void end_reads(struct copy *c)
{
    struct source *source = c->params->source;
    uint64_t deadline = now_ns() + SECOND_NS;

    while (source_in_flight(source) > 0 && now_ns() < deadline)
        if (source_wait(source, -1, TICK_MS, NULL) < 0)
            break;
    if (source_in_flight(source) > 0)
        source_drop(source);
}

static void copy_stop(struct copy *c)
{
    end_reads(c);
    for (unsigned i = 0; i < c->nthreads; i++)
        pthread_join(c->threads[i], NULL);
    ring_free(c->ring);
    free(c->reads);
    free_warm_up(c);
}

static int copy_all(struct copy *c, struct rp_error *e)
{
    bool finished = false, alone = atomic_fetch_add(&under_way, 1) == 0 && c->params->at_once <= 1;
    int rc = copy_start(c, alone, e);

    while (rc == 0 && !finished)
        rc = step(c, &finished, e);
    if (rc < 0 && c->ring) {
        ring_fail(c->ring, e); /* unless a thread was first */
        rc = ring_error(c->ring, e);
    }
    copy_stop(c);
    atomic_fetch_sub(&under_way, 1);
    return rc;
}

int copy_run(const struct copy_params *params, struct copy_stats *ret_stats, struct rp_error *e)
{
    struct copy c = {.params = params};
    struct rp_error error = RP_ERROR_INIT;
    int rc = copy_all(&c, &error);

    if (rc == 0 && params->progress)
        params->progress(params->opaque, plan_data_bytes(params->plan));
    if (rc == 0 && params->checksum && params->layout->compressed)
        rc = reread_hash(params->fd, c.writer.file_bytes, params->check, params->opaque,
                         c.hasher.sha256, &error);
    if (rc < 0) {
        if (e)
            *e = error;
        return rc;
    }
    ret_stats->bytes_read = c.bytes_read;
    ret_stats->bytes_written = c.writer.bytes_written;
    ret_stats->file_bytes = c.writer.file_bytes;
    memcpy(ret_stats->sha256, c.hasher.sha256, sizeof ret_stats->sha256);
    return 0;
}

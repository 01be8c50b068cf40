// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The states of a disk's clusters, in two bitmaps per piece, and the walk over runs of them. Knows
 * nothing of NBD, files or formats. Built by the thread that made it, then read by any number.
 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#define WORD_BITS   64u
#define PIECE_WORDS (PLAN_PIECE_CLUSTERS / WORD_BITS)

/* Larger disks exist nowhere, and below it sums of two offsets cannot overflow. */
#define SIZE_MAX_BYTES (UINT64_C(1) << 62)

/* A cluster's bit is set in at most one of the two. */
struct bits {
    uint64_t zero[PIECE_WORDS];
    uint64_t data[PIECE_WORDS];
};

/* Without bits, the counts say it all: every cluster is data, or zero, or skip. */
struct piece {
    struct bits *bits;
    uint16_t zero;
    uint16_t data;
};

struct plan {
    uint64_t size_bytes;
    uint64_t clusters;
    uint32_t cluster_bytes;
    unsigned cluster_shift;
    uint64_t count[3];
    struct piece pieces[];
};

int plan_new(uint64_t size_bytes, uint32_t cluster_bytes, struct plan **ret_plan,
             struct rp_error *e)
{
    struct plan *plan;
    uint64_t clusters, pieces;

    if (cluster_bytes < 512 || (cluster_bytes & (cluster_bytes - 1)))
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%u is not a cluster size",
                       (unsigned)cluster_bytes);
    if (size_bytes > SIZE_MAX_BYTES)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "a disk of %llu bytes is too large",
                       (unsigned long long)size_bytes);
    clusters = (size_bytes + cluster_bytes - 1) / cluster_bytes;
    pieces = (clusters + PLAN_PIECE_CLUSTERS - 1) / PLAN_PIECE_CLUSTERS;

    /* One untouched, lazily backed area: a piece that is never marked costs no memory. */
    if (pieces > (SIZE_MAX - sizeof *plan) / sizeof plan->pieces[0])
        return rp_fail_memory(e);
    plan = calloc(1, sizeof *plan + pieces * sizeof plan->pieces[0]);
    if (!plan)
        return rp_fail_memory(e);
    plan->size_bytes = size_bytes;
    plan->cluster_bytes = cluster_bytes;
    plan->cluster_shift = (unsigned)__builtin_ctz(cluster_bytes);
    plan->clusters = clusters;
    plan->count[CLUSTER_SKIP] = clusters;
    *ret_plan = plan;
    return 0;
}

static uint64_t piece_count(const struct plan *plan)
{
    return (plan->clusters + PLAN_PIECE_CLUSTERS - 1) / PLAN_PIECE_CLUSTERS;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    for (uint64_t i = 0; i < piece_count(plan); i++)
        free(plan->pieces[i].bits);
    free(plan);
}

/* Clusters in piece `index`: all but the last piece are full. */
static unsigned piece_clusters(const struct plan *plan, uint64_t index)
{
    uint64_t left = plan->clusters - index * PLAN_PIECE_CLUSTERS;

    return left < PLAN_PIECE_CLUSTERS ? (unsigned)left : PLAN_PIECE_CLUSTERS;
}

static enum cluster_state uniform_state(const struct piece *piece)
{
    return piece->data ? CLUSTER_DATA : piece->zero ? CLUSTER_ZERO : CLUSTER_SKIP;
}

/* The bits of one word that clusters [first, end) of the piece occupy; the word is first's. */
static uint64_t word_mask(unsigned first, unsigned end)
{
    unsigned base = first & ~(WORD_BITS - 1);
    uint64_t mask = ~UINT64_C(0) << (first - base);

    if (end - base < WORD_BITS)
        mask &= ~(~UINT64_C(0) << (end - base));
    return mask;
}

/* Gives a uniform piece its bits, so that a part of it can differ. */
static int piece_split(struct piece *piece, unsigned clusters, struct rp_error *e)
{
    struct bits *bits = calloc(1, sizeof *bits);
    uint64_t *set;

    if (!bits)
        return rp_fail_memory(e);
    set = piece->data ? bits->data : piece->zero ? bits->zero : NULL;
    for (unsigned at = 0; set && at < clusters; at += WORD_BITS)
        set[at / WORD_BITS] = word_mask(at, clusters);
    piece->bits = bits;
    return 0;
}

/* Sets clusters [first, end), of a piece that has bits, and counts them anew. */
static void piece_set(struct piece *piece, unsigned first, unsigned end, enum cluster_state state)
{
    for (unsigned at = first; at < end; at = (at | (WORD_BITS - 1)) + 1) {
        uint64_t mask = word_mask(at, end);
        uint64_t *zero = &piece->bits->zero[at / WORD_BITS];
        uint64_t *data = &piece->bits->data[at / WORD_BITS];
        uint64_t new_zero = state == CLUSTER_DATA ? *zero & ~mask : *zero | (mask & ~*data);
        uint64_t new_data = state == CLUSTER_DATA ? *data | mask : *data;

        piece->zero =
            (uint16_t)(piece->zero + __builtin_popcountll(new_zero) - __builtin_popcountll(*zero));
        piece->data =
            (uint16_t)(piece->data + __builtin_popcountll(new_data) - __builtin_popcountll(*data));
        *zero = new_zero;
        *data = new_data;
    }
}

static void piece_set_all(struct piece *piece, unsigned clusters, enum cluster_state state)
{
    free(piece->bits);
    piece->bits = NULL;
    piece->zero = state == CLUSTER_ZERO ? (uint16_t)clusters : 0;
    piece->data = state == CLUSTER_DATA ? (uint16_t)clusters : 0;
}

static int piece_mark(struct piece *piece, unsigned clusters, unsigned first, unsigned end,
                      enum cluster_state state, struct rp_error *e)
{
    if (!piece->bits && uniform_state(piece) >= state)
        return 0;
    if (first == 0 && end == clusters && (state == CLUSTER_DATA || piece->data == 0)) {
        piece_set_all(piece, clusters, state);
        return 0;
    }
    if (!piece->bits) {
        int rc = piece_split(piece, clusters, e);
        if (rc < 0)
            return rc;
    }
    piece_set(piece, first, end, state);
    if (piece->data == clusters || piece->zero == clusters)
        piece_set_all(piece, clusters, piece->data ? CLUSTER_DATA : CLUSTER_ZERO);
    return 0;
}

int plan_mark(struct plan *plan, uint64_t offset_bytes, uint64_t length_bytes,
              enum cluster_state state, struct rp_error *e)
{
    uint64_t first, end;

    if (state == CLUSTER_SKIP || length_bytes == 0 || offset_bytes >= plan->size_bytes)
        return 0;
    if (length_bytes > plan->size_bytes - offset_bytes)
        length_bytes = plan->size_bytes - offset_bytes;
    first = offset_bytes >> plan->cluster_shift;
    end = ((offset_bytes + length_bytes - 1) >> plan->cluster_shift) + 1;

    while (first < end) {
        uint64_t index = first / PLAN_PIECE_CLUSTERS;
        uint64_t base = index * PLAN_PIECE_CLUSTERS;
        struct piece *piece = &plan->pieces[index];
        unsigned clusters = piece_clusters(plan, index);
        unsigned stop = end - base < clusters ? (unsigned)(end - base) : clusters;
        struct piece before = *piece;
        int rc = piece_mark(piece, clusters, (unsigned)(first - base), stop, state, e);

        if (rc < 0)
            return rc;
        plan->count[CLUSTER_ZERO] += piece->zero - (uint64_t)before.zero;
        plan->count[CLUSTER_DATA] += piece->data - (uint64_t)before.data;
        first = base + stop;
    }
    plan->count[CLUSTER_SKIP] =
        plan->clusters - plan->count[CLUSTER_ZERO] - plan->count[CLUSTER_DATA];
    return 0;
}

static enum cluster_state state_at(const struct piece *piece, unsigned at)
{
    uint64_t bit = UINT64_C(1) << (at % WORD_BITS);

    if (!piece->bits)
        return uniform_state(piece);
    return piece->bits->data[at / WORD_BITS] & bit   ? CLUSTER_DATA
           : piece->bits->zero[at / WORD_BITS] & bit ? CLUSTER_ZERO
                                                     : CLUSTER_SKIP;
}

/* The first cluster of [first, end) that is not in `state`, or `end`; 64 of them at a time. */
static unsigned piece_run_end(const struct piece *piece, unsigned first, unsigned end,
                              enum cluster_state state)
{
    if (!piece->bits)
        return uniform_state(piece) == state ? end : first;
    for (unsigned at = first; at < end; at = (at | (WORD_BITS - 1)) + 1) {
        uint64_t zero = piece->bits->zero[at / WORD_BITS];
        uint64_t data = piece->bits->data[at / WORD_BITS];
        uint64_t other = state == CLUSTER_DATA   ? ~data
                         : state == CLUSTER_ZERO ? ~zero
                                                 : zero | data;

        other &= word_mask(at, end);
        if (other)
            return (at & ~(WORD_BITS - 1)) + (unsigned)__builtin_ctzll(other);
    }
    return end;
}

bool plan_run_within(const struct plan *plan, uint64_t offset_bytes, uint64_t end_bytes,
                     struct plan_run *ret_run)
{
    uint64_t limit = end_bytes < plan->size_bytes ? end_bytes : plan->size_bytes;
    uint64_t start = offset_bytes >> plan->cluster_shift;
    uint64_t end = (limit + plan->cluster_bytes - 1) >> plan->cluster_shift;
    uint64_t at = start;
    enum cluster_state state;

    if (offset_bytes >= limit)
        return false;
    state = state_at(&plan->pieces[start / PLAN_PIECE_CLUSTERS],
                     (unsigned)(start % PLAN_PIECE_CLUSTERS));
    while (at < end) {
        uint64_t base = at - at % PLAN_PIECE_CLUSTERS;
        uint64_t left = end - base;
        unsigned stop = left < PLAN_PIECE_CLUSTERS ? (unsigned)left : PLAN_PIECE_CLUSTERS;
        unsigned found = piece_run_end(&plan->pieces[base / PLAN_PIECE_CLUSTERS],
                                       (unsigned)(at - base), stop, state);

        at = base + found;
        if (found < stop)
            break;
    }
    end_bytes = at << plan->cluster_shift;
    ret_run->offset_bytes = offset_bytes;
    ret_run->length_bytes = (end_bytes < limit ? end_bytes : limit) - offset_bytes;
    ret_run->state = state;
    return true;
}

bool plan_run_at(const struct plan *plan, uint64_t offset_bytes, struct plan_run *ret_run)
{
    return plan_run_within(plan, offset_bytes, plan->size_bytes, ret_run);
}

bool plan_next_data(const struct plan *plan, uint64_t offset_bytes, struct plan_run *ret_run)
{
    struct plan_run run;

    while (plan_run_at(plan, offset_bytes, &run)) {
        if (run.state == CLUSTER_DATA) {
            *ret_run = run;
            return true;
        }
        offset_bytes = run.offset_bytes + run.length_bytes;
    }
    return false;
}

uint64_t plan_size_bytes(const struct plan *plan)
{
    return plan->size_bytes;
}

uint32_t plan_cluster_bytes(const struct plan *plan)
{
    return plan->cluster_bytes;
}

uint64_t plan_count(const struct plan *plan, enum cluster_state state)
{
    return plan->count[state];
}

uint64_t plan_data_bytes(const struct plan *plan)
{
    uint64_t bytes = plan->count[CLUSTER_DATA] << plan->cluster_shift;
    uint64_t last = plan->clusters - 1;

    if (plan->clusters == 0)
        return 0;
    if (state_at(&plan->pieces[last / PLAN_PIECE_CLUSTERS],
                 (unsigned)(last % PLAN_PIECE_CLUSTERS)) == CLUSTER_DATA)
        bytes -= (plan->clusters << plan->cluster_shift) - plan->size_bytes;
    return bytes;
}

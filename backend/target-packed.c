// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Compressed clusters in a qcow2 file: where each goes, and the L2 entries and refcounts that
 * follow. Both are kept only until a piece of them is full: one of L2 tables, two refcount blocks.
 * Does no input or output; one thread at a time.
 *
 * Clusters that shrank stand one after another, whatever host clusters they cross, those that did
 * not in a host cluster each. So the data clusters never take more host clusters than they are,
 * and what the plan says of an uncompressed file is a bound for this one.
 */
#include "target-qcow2.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN_BYTES  4096u
#define SECTOR_BYTES 512u

/* Shorter pieces of L2 tables would be many small writes. */
#define L2_PIECE_BYTES (256u << 10)

#define REFCOUNT_MAX UINT16_MAX

/* Host offsets end where QEMU's do. */
#define HOST_OFFSET_BITS 56u

struct qcow2_packing {
    uint64_t at;     /* in the file: where the next cluster goes */
    uint64_t total;  /* data clusters in the plan */
    uint64_t placed; /* of these, how many have a place */
    unsigned shift;  /* of the number of sectors in an L2 entry */
    uint64_t first;  /* the number of the data cluster that entries[0] is of */
    uint64_t entries[TARGET_PLACE_MAX];

    uint64_t *l2; /* the piece being filled, and how far */
    size_t l2_entries, l2_filled;

    /* Refcounts of the block being filled, and of the one before it until it is settled. Before
     * the first block with data stand those that count metadata only: `before` begins as one. */
    uint16_t *counts, *before;
    uint64_t block;   /* the number of the block that `counts` is */
    uint64_t settled; /* blocks that were given away */

    uint64_t l1_given, front_given; /* bytes of L1, and of what stands before the refcounts */
};

static uint64_t counts_per_block(const struct target *t)
{
    return t->cluster_bytes / QCOW2_REFCOUNT_BYTES;
}

static void *new_area(size_t length)
{
    void *area = NULL;

    if (posix_memalign(&area, ALIGN_BYTES, length) != 0)
        return NULL;
    memset(area, 0, length);
    return area;
}

static int check_offsets(const struct target *t, struct rp_error *e)
{
    unsigned bits = t->packing->shift < HOST_OFFSET_BITS ? t->packing->shift : HOST_OFFSET_BITS;

    if (t->file_clusters <= (UINT64_C(1) << bits) / t->cluster_bytes)
        return 0;
    return rp_fail(e, RESULT_NOT_SUPPORTED,
                   "%llu clusters of %u bytes are too many for a compressed qcow2 file",
                   (unsigned long long)t->file_clusters, (unsigned)t->cluster_bytes);
}

int target_qcow2_open_packing(struct target *t, struct rp_error *e)
{
    size_t piece = t->cluster_bytes > L2_PIECE_BYTES ? t->cluster_bytes : L2_PIECE_BYTES;
    struct qcow2_packing *p = t->packing = calloc(1, sizeof *p);
    uint64_t metadata;

    if (!p)
        return rp_fail_memory(e);
    p->at = t->l2.offset + t->l2.length;
    p->total = plan_count(t->plan, CLUSTER_DATA);
    p->shift = 62 - ((unsigned)__builtin_ctz(t->cluster_bytes) - 8);
    p->l2 = new_area(piece);
    p->l2_entries = piece / sizeof *p->l2;
    p->counts = new_area(t->cluster_bytes);
    p->before = new_area(t->cluster_bytes);
    if (!p->l2 || !p->counts || !p->before)
        return rp_fail_memory(e);

    metadata = p->at / t->cluster_bytes;
    p->block = metadata / counts_per_block(t);
    for (uint64_t i = 0; i < counts_per_block(t); i++) {
        p->before[i] = htobe16(1);
        p->counts[i] = htobe16(i < metadata % counts_per_block(t));
    }
    return check_offsets(t, e);
}

void target_qcow2_close_packing(struct target *t)
{
    if (!t->packing)
        return;
    free(t->packing->l2);
    free(t->packing->counts);
    free(t->packing->before);
    free(t->packing);
}

uint64_t target_qcow2_placed(const struct target *t)
{
    return t->packing->placed;
}

void target_qcow2_fill_placed(const struct target *t, uint64_t *entries, uint64_t count,
                              uint64_t before)
{
    const struct qcow2_packing *p = t->packing;

    for (uint64_t i = 0; i < count; i++)
        entries[i] = htobe64(p->entries[before - p->first + i]);
}

/* ---- places ---- */

/* The block of a host cluster becomes the one to count in: the next, or the same. What place()
 * takes at once is less than a block counts, so that no more than one block is left behind. */
static uint16_t *find_count(struct target *t, uint64_t host_cluster)
{
    struct qcow2_packing *p = t->packing;

    if (host_cluster / counts_per_block(t) > p->block) {
        uint16_t *full = p->counts;

        p->counts = p->before;
        p->before = full;
        memset(p->counts, 0, t->cluster_bytes);
        p->block++;
    }
    return &p->counts[host_cluster % counts_per_block(t)];
}

static void align_place(struct target *t)
{
    struct qcow2_packing *p = t->packing;

    p->at = (p->at + t->cluster_bytes - 1) & ~(uint64_t)(t->cluster_bytes - 1);
}

/* Counts the new owner of all host clusters that it touches. */
static void add_owner(struct target *t, uint64_t offset, uint64_t length)
{
    uint64_t end = (offset + length - 1) / t->cluster_bytes;

    for (uint64_t at = offset / t->cluster_bytes; at <= end; at++) {
        uint16_t *count = find_count(t, at);

        *count = htobe16((uint16_t)(be16toh(*count) + 1));
    }
}

/* Returns the L2 entry. */
static uint64_t place_shrunk(struct target *t, uint32_t length)
{
    struct qcow2_packing *p = t->packing;
    uint64_t offset, sectors;

    if (p->at % t->cluster_bytes &&
        be16toh(*find_count(t, p->at / t->cluster_bytes)) == REFCOUNT_MAX)
        align_place(t);
    offset = p->at;
    sectors = (offset + length - 1) / SECTOR_BYTES - offset / SECTOR_BYTES;
    add_owner(t, offset, length);
    p->at += length;
    return QCOW2_COMPRESSED | sectors << p->shift | offset;
}

static uint64_t place_whole(struct target *t)
{
    struct qcow2_packing *p = t->packing;
    uint64_t offset;

    align_place(t);
    offset = p->at;
    add_owner(t, offset, t->cluster_bytes);
    p->at += t->cluster_bytes;
    return QCOW2_COPIED | offset;
}

void target_qcow2_place(struct target *t, const uint32_t *lengths, size_t count,
                        uint64_t *ret_offsets)
{
    struct qcow2_packing *p = t->packing;
    uint64_t offset_mask = (UINT64_C(1) << p->shift) - 1;

    for (size_t i = 0; i < count; i++) {
        if (lengths[i] < t->cluster_bytes)
            p->entries[i] = lengths[i] ? place_shrunk(t, lengths[i]) : QCOW2_READS_AS_ZERO;
        ret_offsets[i] = p->entries[i] & offset_mask;
    }
    for (size_t i = 0; i < count; i++)
        if (lengths[i] == t->cluster_bytes) {
            p->entries[i] = place_whole(t);
            ret_offsets[i] = p->entries[i] & ~QCOW2_COPIED;
        }
    p->first = p->placed;
    p->placed += count;
}

uint64_t target_qcow2_length(const struct target *t)
{
    return (t->packing->at + t->cluster_bytes - 1) / t->cluster_bytes * t->cluster_bytes;
}

/* ---- metadata that is final ---- */

/* L2 entries up to the first cluster without a place; a piece when it is full, or the last. */
static bool settle_l2(struct target *t, struct target_piece *ret_piece)
{
    struct qcow2_packing *p = t->packing;
    uint64_t total = t->l2_tables * t->per_table;
    size_t filled = p->l2_filled;

    while (t->l2_at.entry < total && filled < p->l2_entries) {
        uint64_t done = target_qcow2_step_l2(t, &t->l2_at, p->l2 + filled, p->l2_entries - filled);

        if (done == 0)
            break;
        filled += done;
    }
    p->l2_filled = filled;
    if (filled == 0 || (filled < p->l2_entries && t->l2_at.entry < total))
        return false;
    *ret_piece = (struct target_piece){t->l2.offset + (t->l2_at.entry - filled) * sizeof *p->l2,
                                       p->l2, filled * sizeof *p->l2};
    p->l2_filled = 0;
    return true;
}

/* Blocks before the one being filled, and that one as well when there is no more to come. */
static bool settle_refcounts(struct target *t, struct target_piece *ret_piece)
{
    struct qcow2_packing *p = t->packing;
    bool last = p->settled == p->block && p->placed == p->total;

    if (p->settled >= p->block && !last)
        return false;
    *ret_piece = (struct target_piece){t->refcounts.offset + p->settled * t->cluster_bytes,
                                       last ? p->counts : p->before, t->cluster_bytes};
    p->settled++;
    return true;
}

/* A piece of a part that render() knows, through the area of L2 tables, which is free by then. */
static bool settle_part(struct target *t, uint64_t offset, uint64_t length, uint64_t *given,
                        struct target_piece *ret_piece)
{
    struct qcow2_packing *p = t->packing;
    size_t piece = p->l2_entries * sizeof *p->l2;

    if (*given == length)
        return false;
    if (piece > length - *given)
        piece = (size_t)(length - *given);
    target_qcow2_render(t, offset + *given, p->l2, piece);
    *ret_piece = (struct target_piece){offset + *given, p->l2, piece};
    *given += piece;
    return true;
}

/* Refcount blocks that are not needed remain the holes that they are: zeros. */
bool target_qcow2_settle(struct target *t, struct target_piece *ret_piece)
{
    struct qcow2_packing *p = t->packing;

    if (settle_l2(t, ret_piece) || settle_refcounts(t, ret_piece))
        return true;
    if (p->placed < p->total)
        return false;
    return settle_part(t, t->l1.offset, t->l1.length, &p->l1_given, ret_piece) ||
           settle_part(t, 0, t->refcounts.offset, &p->front_given, ret_piece);
}

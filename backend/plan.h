/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an export will write, cluster by cluster, known before the first byte is copied.
 *
 * A plan covers one disk of `size_bytes` in clusters of `cluster_bytes` (the last one may reach
 * past the disk's end). Every cluster is in one of three states. Because the plan is complete
 * before copying starts, every offset in the output file, its metadata and its total size are
 * known too: files are written front to back, can be hashed while they are written, and progress
 * has a true total.
 *
 * Memory: two bits a cluster, kept in pieces of PLAN_PIECE_CLUSTERS; a piece whose clusters are
 * all in one state keeps no bits. 1 TiB in 64 KiB clusters takes at most 4 MiB, however it is
 * fragmented, and next to nothing when it is not.
 *
 * Not locked: built by one thread, then read by any number.
 */
#ifndef REFPOINTFS_PLAN_H
#define REFPOINTFS_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"

enum cluster_state {
    CLUSTER_SKIP = 0, /* not written: full export: reads as zero; delta: unchanged since the base */
    CLUSTER_ZERO = 1, /* reads as zero and must hide what the base has there */
    CLUSTER_DATA = 2, /* its bytes are copied */
};

#define PLAN_PIECE_CLUSTERS 8192u

/* Consecutive clusters in one state. In bytes; the end is clipped to the disk's size. */
struct plan_run {
    uint64_t offset_bytes;
    uint64_t length_bytes;
    enum cluster_state state;
};

struct plan;

/*
 * All clusters start as CLUSTER_SKIP. `cluster_bytes` is a power of two, at least 512;
 * `size_bytes` at most 2^62. Both come from the far side of a socket or from settings, so a bad
 * one is RESULT_INVALID_PARAMETER.
 */
int plan_new(uint64_t size_bytes, uint32_t cluster_bytes, struct plan **ret_plan,
             struct rp_error *e);
void plan_free(struct plan *plan); /* NULL allowed */

/*
 * Every cluster that [offset, offset + length) touches gets `state`, if `state` is greater than
 * what it has: data wins over zero wins over skip. So a cluster that is partly zero and partly
 * data is data, whatever the order of the calls. Clipped to the disk's size. Fails only for want
 * of memory, and then with some of the clusters marked.
 */
int plan_mark(struct plan *plan, uint64_t offset_bytes, uint64_t length_bytes,
              enum cluster_state state, struct rp_error *e);

/*
 * The longest run that starts at `offset_bytes` (a multiple of the cluster size). Returns false at
 * or past the end of the disk. Cost: proportional to the pieces and mixed clusters passed, a whole
 * uniform piece being one step.
 */
bool plan_run_at(const struct plan *plan, uint64_t offset_bytes, struct plan_run *ret_run);

/*
 * The same, but looks no further than `end_bytes` (a multiple of the cluster size, or anything past
 * the end of the disk): what a walk in small steps needs to be linear on a disk that is one run.
 */
bool plan_run_within(const struct plan *plan, uint64_t offset_bytes, uint64_t end_bytes,
                     struct plan_run *ret_run);

/* Like plan_run_at, but skips ahead to the next run in CLUSTER_DATA. */
bool plan_next_data(const struct plan *plan, uint64_t offset_bytes, struct plan_run *ret_run);

uint64_t plan_size_bytes(const struct plan *plan);
uint32_t plan_cluster_bytes(const struct plan *plan);

/* Counts of clusters in a state, kept up to date by plan_mark. */
uint64_t plan_count(const struct plan *plan, enum cluster_state state);

/* Sum of the data runs' lengths: what progress counts to. */
uint64_t plan_data_bytes(const struct plan *plan);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the two halves of the qcow2 kind share: target-qcow2.c, for which the plan says it all, and
 * target-packed.c, which knows where compressed clusters go. For nobody else.
 */
#ifndef REFPOINTFS_TARGET_QCOW2_H
#define REFPOINTFS_TARGET_QCOW2_H

#include "target.h"

#define BACKING_NAME_MAX 1023
#define FORMAT_NAME_MAX  15

#define QCOW2_REFCOUNT_BYTES 2u                  /* 16 bits each: QEMU's default */
#define QCOW2_COPIED         (UINT64_C(1) << 63) /* refcount is exactly one */
#define QCOW2_COMPRESSED     (UINT64_C(1) << 62)
#define QCOW2_READS_AS_ZERO  UINT64_C(1)

/* A part of the metadata, in bytes. */
struct qcow2_part {
    uint64_t offset;
    uint64_t length;
};

/*
 * Where L2 rendering stands: the L2 entry to come (numbered through the tables that exist), the
 * guest cluster it is about, and how many data clusters stand before that.
 */
struct qcow2_l2_cursor {
    uint64_t entry, guest, data_before;
};

/* The same for L1: the entry to come, and how many tables the entries before it lead to, and how
 * many data clusters those. */
struct qcow2_l1_cursor {
    uint64_t entry, tables_before, data_before;
};

struct target {
    const struct plan *plan;
    uint32_t cluster_bytes;
    uint64_t per_table; /* L2 entries in a table, or L1 entries in a cluster */
    uint64_t l1_entries, l2_tables, file_clusters, refcount_blocks;
    struct qcow2_part header, refcount_table, refcounts, l1, l2;
    struct qcow2_l1_cursor l1_at;
    struct qcow2_l1_cursor find_at; /* the next table in the file, seen from ... */
    uint64_t find_from;             /* ... here on */
    struct qcow2_l2_cursor l2_at;
    struct qcow2_packing *packing; /* of a compressed file, else NULL */
    char backing_file[BACKING_NAME_MAX + 1];
    char backing_format[FORMAT_NAME_MAX + 1];
};

/*
 * Moves the cursor over up to `count` entries of one table and writes them, if `entries` is not
 * NULL. Returns how many: fewer than `count` at the end of a run or of a table, and none before a
 * cluster that has no place yet. Entries beyond the disk's end, in the last table, are zero.
 */
uint64_t target_qcow2_step_l2(const struct target *t, struct qcow2_l2_cursor *cursor,
                              uint64_t *entries, uint64_t count);

/* The ops' render. */
void target_qcow2_render(struct target *t, uint64_t offset, void *buffer, size_t length);

/* ---- target-packed.c ---- */

int target_qcow2_open_packing(struct target *t, struct rp_error *e);
void target_qcow2_close_packing(struct target *t);

/* How many data clusters have a place. */
uint64_t target_qcow2_placed(const struct target *t);

/* Writes the entries of `count` data clusters of the last place(), from number `before` on. */
void target_qcow2_fill_placed(const struct target *t, uint64_t *entries, uint64_t count,
                              uint64_t before);

/* The ops. */
void target_qcow2_place(struct target *t, const uint32_t *lengths, size_t count,
                        uint64_t *ret_offsets);
bool target_qcow2_settle(struct target *t, struct target_piece *ret_piece);
uint64_t target_qcow2_length(const struct target *t);

#endif

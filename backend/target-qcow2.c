// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The qcow2 kind, version 3. The file is laid out front to back, each part starting on a cluster:
 *
 *     header | refcount table | refcount blocks | L1 table | L2 table, its data clusters | ...
 *
 * Each table stands before what it leads to: while tables that are mostly empty are written and
 * hashed, the data after them is being read. Every cluster of the file is used once, so that
 * refcounts are 1 for all of them and 0 past the end, and all the rest follows from the plan: a
 * table's place from how many L1 entries before it lead anywhere, a data cluster's from how many
 * data clusters stand before it. Nothing but a cursor is kept, however large the disk. Does no
 * input or output; one thread at a time.
 *
 * A compressed file has all of its L2 tables first, since they are written when what they lead to
 * is. It is laid out as if no cluster shrank, and is only shorter: L2 tables and refcounts alone
 * depend on what became of the clusters (target-packed.c).
 */
#include "target-qcow2.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* What QEMU refuses to open beyond (QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE). */
#define L1_MAX_BYTES             (UINT64_C(32) << 20)
#define REFCOUNT_TABLE_MAX_BYTES (UINT64_C(8) << 20)

#define HEADER_LENGTH     112 /* 104 and the compression type, as newer QEMU writes it */
#define EXTENSION_END     0u
#define EXTENSION_BACKING 0xE2792ACAu
#define REFCOUNT_ORDER    4u

/* A compression other than zlib: the bit keeps away who does not know the byte. */
#define INCOMPATIBLE_COMPRESSION (UINT64_C(1) << 3)
#define COMPRESSION_ZSTD         1u

struct header {
    uint32_t magic, version;
    uint64_t backing_file_offset;
    uint32_t backing_file_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_table_offset, refcount_table_offset;
    uint32_t refcount_table_clusters, nb_snapshots;
    uint64_t snapshots_offset, incompatible_features, compatible_features, autoclear_features;
    uint32_t refcount_order, header_length;
    uint8_t compression_type, padding[7];
};
_Static_assert(sizeof(struct header) == HEADER_LENGTH, "the header has no holes");

static uint64_t divide_up(uint64_t value, uint64_t by)
{
    return value / by + (value % by != 0);
}

/* The first L1 entry, from `entry` on, that any cluster needs; l1_entries if none does. */
static uint64_t next_table(const struct target *t, uint64_t entry)
{
    uint64_t span = t->per_table * t->cluster_bytes;
    uint64_t offset = entry * span;
    struct plan_run run;

    /* The first step looks at one table's span only: else a disk that is one run costs n^2. */
    if (!plan_run_within(t->plan, offset, offset + span, &run))
        return t->l1_entries;
    if (run.state != CLUSTER_SKIP)
        return entry;
    if (!plan_run_at(t->plan, offset, &run))
        return t->l1_entries;
    offset += run.length_bytes;
    return offset < plan_size_bytes(t->plan) ? offset / span : t->l1_entries;
}

static uint64_t count_tables(const struct target *t)
{
    uint64_t count = 0;

    for (uint64_t at = next_table(t, 0); at < t->l1_entries; at = next_table(t, at + 1))
        count++;
    return count;
}

/*
 * The refcount blocks count all clusters, their own and the table's included: more blocks may
 * need more blocks. Grows until it fits, which takes two or three rounds.
 */
static uint64_t place_refcounts(struct target *t, uint64_t other_clusters)
{
    uint64_t per_block = t->cluster_bytes / QCOW2_REFCOUNT_BYTES;
    uint64_t blocks = 0, table = 0, total;

    for (;;) {
        total = other_clusters + blocks + table;
        if (blocks * per_block >= total && table * t->per_table >= blocks)
            break;
        blocks = divide_up(total, per_block);
        table = divide_up(blocks, t->per_table);
    }
    t->refcount_blocks = blocks;
    t->refcount_table.length = table * t->cluster_bytes;
    t->refcounts.length = blocks * t->cluster_bytes;
    return total;
}

static int place_parts(struct target *t, struct rp_error *e)
{
    uint64_t clusters = divide_up(plan_size_bytes(t->plan), t->cluster_bytes);
    uint64_t data = plan_count(t->plan, CLUSTER_DATA);
    uint64_t l1_clusters;

    t->per_table = t->cluster_bytes / sizeof(uint64_t);
    t->l1_entries = clusters ? divide_up(clusters, t->per_table) : 1; /* a table of none leaks */
    if (t->l1_entries * sizeof(uint64_t) > L1_MAX_BYTES)
        goto too_large;
    l1_clusters = divide_up(t->l1_entries, t->per_table);
    t->l2_tables = count_tables(t);
    t->file_clusters = place_refcounts(t, 1 + l1_clusters + t->l2_tables + data);
    if (t->refcount_table.length > REFCOUNT_TABLE_MAX_BYTES)
        goto too_large;

    t->header = (struct qcow2_part){0, t->cluster_bytes};
    t->refcount_table.offset = t->header.length;
    t->refcounts.offset = t->refcount_table.offset + t->refcount_table.length;
    t->l1.offset = t->refcounts.offset + t->refcounts.length;
    t->l1.length = l1_clusters * t->cluster_bytes;
    t->l2.offset = t->l1.offset + t->l1.length;
    t->l2.length = t->l2_tables * t->cluster_bytes;
    return 0;

too_large:
    return rp_fail(e, RESULT_NOT_SUPPORTED,
                   "a disk of %llu bytes is too large for qcow2 in clusters of %u bytes",
                   (unsigned long long)plan_size_bytes(t->plan), (unsigned)t->cluster_bytes);
}

static int copy_names(struct target *t, const struct target_params *params, struct rp_error *e)
{
    if (!params->backing_file)
        return 0;
    if (strlen(params->backing_file) > BACKING_NAME_MAX)
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "the path to the base's file has %zu bytes, and qcow2 holds at most %d",
                       strlen(params->backing_file), BACKING_NAME_MAX);
    if (!params->backing_format || !*params->backing_format ||
        strlen(params->backing_format) > FORMAT_NAME_MAX)
        return rp_fail(e, RESULT_NOT_SUPPORTED, "the base's file has no format that qcow2 holds");
    memcpy(t->backing_file, params->backing_file, strlen(params->backing_file) + 1);
    memcpy(t->backing_format, params->backing_format, strlen(params->backing_format) + 1);
    return 0;
}

static void qcow2_close(struct target *target)
{
    if (!target)
        return;
    target_qcow2_close_packing(target);
    free(target);
}

static int qcow2_open(const struct plan *plan, const struct target_params *params,
                      struct target **ret_target, struct target_layout *ret_layout,
                      struct rp_error *e)
{
    struct target *t;
    int rc = target_check_plan(plan, target_qcow2.format, e);

    if (rc < 0)
        return rc;
    t = calloc(1, sizeof *t);
    if (!t)
        return rp_fail_memory(e);
    t->plan = plan;
    t->cluster_bytes = plan_cluster_bytes(plan);
    rc = copy_names(t, params, e);
    if (rc == 0)
        rc = place_parts(t, e);
    if (rc == 0 && params->compressed)
        rc = target_qcow2_open_packing(t, e);
    if (rc < 0) {
        qcow2_close(t);
        return rc;
    }
    ret_layout->metadata_bytes = ret_layout->data_offset = t->l2.offset + t->l2.length;
    ret_layout->span_bytes = t->per_table * t->cluster_bytes;
    ret_layout->file_bytes = t->file_clusters * t->cluster_bytes;
    ret_layout->packed = true;
    ret_layout->compressed = params->compressed;
    *ret_target = t;
    return 0;
}

/* Appends a header extension and returns the place after it: data is padded to eight bytes. */
static unsigned char *put_extension(unsigned char *to, uint32_t type, const char *data)
{
    size_t length = strlen(data);
    uint32_t head[2] = {htobe32(type), htobe32((uint32_t)length)};

    memcpy(to, head, sizeof head);
    memcpy(to + sizeof head, data, length);
    return to + sizeof head + (length + 7) / 8 * 8;
}

static void render_header(const struct target *t, unsigned char *page)
{
    struct header h = {
        .magic = htobe32(0x514649fb), /* "QFI\xfb" */
        .version = htobe32(3),
        .cluster_bits = htobe32((uint32_t)__builtin_ctz(t->cluster_bytes)),
        /* QEMU counts disks in sectors: an odd size would lose its end, so it gets zeros there. */
        .size = htobe64(divide_up(plan_size_bytes(t->plan), 512) * 512),
        .l1_size = htobe32((uint32_t)t->l1_entries),
        .l1_table_offset = htobe64(t->l1.offset),
        .refcount_table_offset = htobe64(t->refcount_table.offset),
        .refcount_table_clusters = htobe32((uint32_t)(t->refcount_table.length / t->cluster_bytes)),
        .incompatible_features = htobe64(t->packing ? INCOMPATIBLE_COMPRESSION : 0),
        .refcount_order = htobe32(REFCOUNT_ORDER),
        .header_length = htobe32(HEADER_LENGTH),
        .compression_type = t->packing ? COMPRESSION_ZSTD : 0,
    };
    unsigned char *next = page + HEADER_LENGTH;
    size_t name_length = strlen(t->backing_file);

    if (name_length)
        next = put_extension(next, EXTENSION_BACKING, t->backing_format);
    next = put_extension(next, EXTENSION_END, "");
    if (name_length) {
        h.backing_file_offset = htobe64((uint64_t)(next - page));
        h.backing_file_size = htobe32((uint32_t)name_length);
        memcpy(next, t->backing_file, name_length);
    }
    memcpy(page, &h, sizeof h);
}

/* All of the header fits the smallest cluster; a window may show any part of it. */
static void render_header_part(struct target *t, uint64_t at, void *buffer, size_t length)
{
    unsigned char page[TARGET_CLUSTER_MIN_BYTES] = {0};
    size_t shown = 0;

    if (at < sizeof page) {
        render_header(t, page);
        shown = sizeof page - at < length ? sizeof page - at : length;
        memcpy(buffer, page + at, shown);
    }
    memset((char *)buffer + shown, 0, length - shown);
}

static void render_refcount_table(struct target *t, uint64_t at, void *buffer, size_t length)
{
    uint64_t *entries = buffer;
    uint64_t first = at / sizeof *entries;

    for (size_t i = 0; i < length / sizeof *entries; i++)
        entries[i] = first + i < t->refcount_blocks
                         ? htobe64(t->refcounts.offset + (first + i) * t->cluster_bytes)
                         : 0;
}

static void render_refcounts(struct target *t, uint64_t at, void *buffer, size_t length)
{
    uint16_t *counts = buffer;
    uint64_t first = at / sizeof *counts;

    for (size_t i = 0; i < length / sizeof *counts; i++)
        counts[i] = first + i < t->file_clusters ? htobe16(1) : 0;
}

/* Data clusters that the table of this L1 entry leads to. */
static uint64_t count_data(const struct target *t, uint64_t entry)
{
    uint64_t span = t->per_table * t->cluster_bytes, at = entry * span, count = 0;
    struct plan_run run;

    while (plan_run_within(t->plan, at, (entry + 1) * span, &run)) {
        if (run.state == CLUSTER_DATA)
            count += divide_up(run.length_bytes, t->cluster_bytes);
        at += run.length_bytes;
    }
    return count;
}

/* Moves on to an entry that leads to a table, and says where that stands in the file. */
static bool find_table(const struct target *t, struct qcow2_l1_cursor *cursor, uint64_t *ret_offset)
{
    uint64_t before = cursor->tables_before + (t->packing ? 0 : cursor->data_before);

    cursor->entry = next_table(t, cursor->entry);
    *ret_offset = t->l2.offset + before * t->cluster_bytes;
    return cursor->entry < t->l1_entries;
}

static void pass_table(const struct target *t, struct qcow2_l1_cursor *cursor)
{
    if (!t->packing)
        cursor->data_before += count_data(t, cursor->entry);
    cursor->entry++;
    cursor->tables_before++;
}

static uint64_t qcow2_find(struct target *t, uint64_t offset, uint64_t *ret_metadata)
{
    uint64_t front = t->l2.offset, table;
    bool found;

    if (offset < front) {
        *ret_metadata = offset;
        return front - offset;
    }
    if (offset < t->find_from)
        t->find_at = (struct qcow2_l1_cursor){0, 0, 0};
    while ((found = find_table(t, &t->find_at, &table)) && offset >= table + t->cluster_bytes) {
        t->find_from = table + t->cluster_bytes;
        pass_table(t, &t->find_at);
    }
    if (!found || offset < table)
        return 0;
    *ret_metadata = front + t->find_at.tables_before * t->cluster_bytes + (offset - table);
    return table + t->cluster_bytes - offset;
}

static void render_l1(struct target *t, uint64_t at, void *buffer, size_t length)
{
    uint64_t first = at / sizeof(uint64_t), end = first + length / sizeof(uint64_t), table;
    struct qcow2_l1_cursor cursor = t->l1_at;
    uint64_t *entries = buffer;

    memset(buffer, 0, length);
    if (first < cursor.entry)
        cursor = (struct qcow2_l1_cursor){0, 0, 0};
    while (find_table(t, &cursor, &table) && cursor.entry < end) {
        if (cursor.entry >= first)
            entries[cursor.entry - first] = htobe64(table | QCOW2_COPIED);
        pass_table(t, &cursor);
    }
    t->l1_at = cursor;
}

/* `tables`: how many stand before them, their own included. */
static void fill_data(const struct target *t, uint64_t *entries, uint64_t count, uint64_t before,
                      uint64_t tables)
{
    uint64_t host = (t->l2.offset + (tables + before) * t->cluster_bytes) | QCOW2_COPIED;

    for (uint64_t i = 0; i < count; i++, host += t->cluster_bytes)
        entries[i] = htobe64(host);
}

static void fill_same(uint64_t *entries, uint64_t count, uint64_t value)
{
    for (uint64_t i = 0; i < count; i++)
        entries[i] = htobe64(value);
}

uint64_t target_qcow2_step_l2(const struct target *t, struct qcow2_l2_cursor *cursor,
                              uint64_t *entries, uint64_t count)
{
    uint64_t in_table = cursor->entry % t->per_table;
    struct plan_run run = {.state = CLUSTER_SKIP};
    uint64_t end;

    if (in_table == 0) {
        /* Only skipped clusters lie between two tables: data_before is right as it stands. */
        cursor->guest = next_table(t, cursor->guest / t->per_table) * t->per_table;
    }
    if (count > t->per_table - in_table)
        count = t->per_table - in_table;
    end = cursor->guest + count;
    if (plan_run_within(t->plan, cursor->guest * t->cluster_bytes, end * t->cluster_bytes, &run))
        count = divide_up(run.length_bytes, t->cluster_bytes);
    if (run.state == CLUSTER_DATA && t->packing &&
        count > target_qcow2_placed(t) - cursor->data_before)
        count = target_qcow2_placed(t) - cursor->data_before;
    if (entries && run.state == CLUSTER_DATA && t->packing)
        target_qcow2_fill_placed(t, entries, count, cursor->data_before);
    else if (entries && run.state == CLUSTER_DATA)
        fill_data(t, entries, count, cursor->data_before, cursor->entry / t->per_table + 1);
    else if (entries)
        fill_same(entries, count, run.state == CLUSTER_ZERO ? QCOW2_READS_AS_ZERO : 0);
    if (run.state == CLUSTER_DATA)
        cursor->data_before += count;
    cursor->entry += count;
    cursor->guest += count;
    return count;
}

static void render_l2(struct target *t, uint64_t at, void *buffer, size_t length)
{
    uint64_t first = at / sizeof(uint64_t), count = length / sizeof(uint64_t);
    struct qcow2_l2_cursor cursor = t->l2_at;
    uint64_t *entries = buffer;

    if (first < cursor.entry)
        cursor = (struct qcow2_l2_cursor){0, 0, 0};
    while (cursor.entry < first)
        target_qcow2_step_l2(t, &cursor, NULL, first - cursor.entry);
    while (count > 0) {
        uint64_t done = target_qcow2_step_l2(t, &cursor, entries, count);

        entries += done;
        count -= done;
    }
    t->l2_at = cursor;
}

void target_qcow2_render(struct target *t, uint64_t offset, void *buffer, size_t length)
{
    const struct {
        const struct qcow2_part *part;
        void (*render)(struct target *t, uint64_t at, void *buffer, size_t length);
    } parts[] = {
        {&t->header, render_header_part},
        {&t->refcount_table, render_refcount_table},
        {&t->refcounts, render_refcounts},
        {&t->l1, render_l1},
        {&t->l2, render_l2},
    };
    unsigned char *to = buffer;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && length > 0; i++) {
        uint64_t end = parts[i].part->offset + parts[i].part->length;
        size_t part_length;

        if (offset >= end)
            continue;
        part_length = end - offset < length ? (size_t)(end - offset) : length;
        parts[i].render(t, offset - parts[i].part->offset, to, part_length);
        offset += part_length;
        to += part_length;
        length -= part_length;
    }
}

const struct target_ops target_qcow2 = {
    .format = "qcow2",
    .open = qcow2_open,
    .find = qcow2_find,
    .render = target_qcow2_render,
    .place = target_qcow2_place,
    .settle = target_qcow2_settle,
    .length = target_qcow2_length,
    .close = qcow2_close,
};

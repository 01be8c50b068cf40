// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fuzzes the qcow2 writer with streams of extents. Laws, judged by a reader of the format that
 * shares nothing with the writer: each cluster of the disk is what the plan says; data stands in
 * the file in guest order, each host cluster has as many owners as its refcount says, and none is
 * beyond the end.
 *
 * Input: size of a cluster, kind, size of the disk (2 bytes), then extents: state, offset, length
 * (2 bytes each). The bytes serve once more as the lengths that clusters are compressed to.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "../backend/target.h"
#include "fuzz.h"

#define CLUSTERS_MAX 3000u
#define COPIED       (UINT64_C(1) << 63)
#define COMPRESSED   (UINT64_C(1) << 62)

/* The file's metadata as it was written, and where its parts stand in the file. */
struct part {
    uint64_t file, metadata, length;
};

struct image {
    struct plan *plan;
    struct target *target;
    struct target_layout layout;
    uint32_t cluster;
    uint64_t length;
    unsigned char *metadata;
    struct part *parts;
    size_t nparts;
    uint16_t *owners;
    uint32_t *pressed; /* of each data cluster, in order */
};

static unsigned get16(const uint8_t *at)
{
    return at[0] | (unsigned)at[1] << 8;
}

/* ---- writing ---- */

/* False for a disk of no size, which is not worth more. */
static bool make_plan(struct image *image, const uint8_t *data, size_t size)
{
    uint64_t bytes;

    image->cluster = 4096u << data[0] % 10;
    bytes =
        (uint64_t)get16(data + 2) * image->cluster / 21 % (CLUSTERS_MAX * (uint64_t)image->cluster);
    if (bytes == 0)
        return false;
    fuzz_require(plan_new(bytes, image->cluster, &image->plan, NULL) == 0, "a plan can be made");
    for (size_t at = 4; at + 5 <= size; at += 5)
        fuzz_require(plan_mark(image->plan, get16(data + at + 1) * (bytes / 65536 + 1),
                               get16(data + at + 3) * (uint64_t)image->cluster / 256,
                               (enum cluster_state)(data[at] % 3), NULL) == 0,
                     "extents can be marked");
    return true;
}

static void write_front_to_back(struct image *image)
{
    for (uint64_t at = 0; at < image->layout.file_bytes;) {
        uint64_t from, n = target_qcow2.find(image->target, at, &from);
        size_t half = (size_t)(n / 1024 * 512);

        if (n > 0) {
            target_qcow2.render(image->target, from, image->metadata + from, half);
            target_qcow2.render(image->target, from + half, image->metadata + from + half,
                                (size_t)n - half);
            image->parts[image->nparts++] = (struct part){at, from, n};
        }
        at += n > 0 ? n : image->cluster;
    }
    image->length = image->layout.file_bytes;
}

static void settle(struct image *image)
{
    struct target_piece piece;

    while (target_qcow2.settle(image->target, &piece)) {
        fuzz_require(piece.offset + piece.length <= image->layout.metadata_bytes,
                     "pieces are metadata");
        memcpy(image->metadata + piece.offset, piece.data, piece.length);
    }
}

static void write_compressed(struct image *image, const uint8_t *data, size_t size)
{
    uint64_t total = plan_count(image->plan, CLUSTER_DATA), offsets[TARGET_PLACE_MAX];
    size_t most = (2u << 20) / image->cluster;

    for (uint64_t i = 0; i < total; i++)
        image->pressed[i] =
            data[i % size] < 200 ? data[i * 7 % size] * (image->cluster / 272) : image->cluster;
    settle(image);
    for (uint64_t done = 0, n; done < total; done += n) {
        n = total - done < most ? total - done : most;
        target_qcow2.place(image->target, image->pressed + done, (size_t)n, offsets);
        settle(image);
    }
    image->parts[image->nparts++] = (struct part){0, 0, image->layout.metadata_bytes};
    image->length = target_qcow2.length(image->target);
}

/* ---- reading ---- */

static const unsigned char *at_offset(const struct image *image, uint64_t offset, size_t length)
{
    for (size_t i = 0; i < image->nparts; i++) {
        const struct part *part = &image->parts[i];

        if (offset >= part->file && offset + length <= part->file + part->length)
            return image->metadata + part->metadata + (offset - part->file);
    }
    fuzz_require(false, "what is followed leads to metadata");
    return NULL;
}

static uint64_t read64(const struct image *image, uint64_t offset)
{
    uint64_t value;

    memcpy(&value, at_offset(image, offset, sizeof value), sizeof value);
    return be64toh(value);
}

static uint32_t read32(const struct image *image, uint64_t offset)
{
    uint32_t value;

    memcpy(&value, at_offset(image, offset, sizeof value), sizeof value);
    return be32toh(value);
}

static void own(struct image *image, uint64_t offset, uint64_t length)
{
    fuzz_require(length > 0 && offset + length <= image->length, "nothing is beyond the end");
    for (uint64_t i = offset / image->cluster; i <= (offset + length - 1) / image->cluster; i++)
        image->owners[i]++;
}

static void check_compressed(struct image *image, uint64_t entry, uint32_t pressed)
{
    unsigned shift = 62 - ((unsigned)__builtin_ctz(image->cluster) - 8);
    uint64_t offset = entry & ((UINT64_C(1) << shift) - 1);
    uint64_t sectors = ((entry & ~COMPRESSED) >> shift) + 1;

    fuzz_require(!(entry & COPIED), "a compressed cluster is never marked as copied");
    fuzz_require(offset % 512 + pressed <= sectors * 512 &&
                     (sectors - 1) * 512 < offset % 512 + pressed,
                 "the sectors are those of the compressed cluster");
    own(image, offset, pressed);
}

/* `next`: where the next data cluster of a file that is not compressed must stand. */
static void check_entry(struct image *image, uint64_t entry, enum cluster_state state,
                        uint64_t *ndata, uint64_t *next)
{
    uint32_t pressed = image->cluster;

    if (state != CLUSTER_DATA) {
        fuzz_require(entry == (state == CLUSTER_ZERO), "a cluster without data has no place");
        return;
    }
    if (image->layout.compressed)
        pressed = image->pressed[*ndata];
    ++*ndata;
    if (pressed == 0) {
        fuzz_require(entry == 1, "a cluster of zeros has no place");
    } else if (pressed < image->cluster) {
        fuzz_require(entry & COMPRESSED, "a cluster that shrank is compressed");
        check_compressed(image, entry, pressed);
    } else {
        fuzz_require(entry & COPIED && !(entry & COMPRESSED),
                     "a whole cluster is marked as copied");
        fuzz_require((entry & ~COPIED) % image->cluster == 0, "a whole cluster is aligned");
        fuzz_require((entry & ~COPIED) >= *next, "data stands in guest order");
        *next = image->layout.compressed ? 0 : (entry & ~COPIED) + image->cluster;
        own(image, entry & ~COPIED, image->cluster);
    }
}

static void check_clusters(struct image *image)
{
    uint64_t l1 = read64(image, 40), per_table = image->cluster / 8, ndata = 0, next = 0;
    uint64_t clusters = (plan_size_bytes(image->plan) + image->cluster - 1) / image->cluster;
    uint64_t entries = read32(image, 36), table = 0;
    struct plan_run run;

    fuzz_require(entries * per_table >= clusters, "the L1 table covers the disk");
    own(image, l1, entries * 8);
    for (uint64_t i = 0; i < clusters; i++) {
        uint64_t at = i * image->cluster;

        if (i % per_table == 0) {
            table = read64(image, l1 + i / per_table * 8);
            fuzz_require(!table || table & COPIED, "a table is marked as copied");
            table &= ~COPIED;
            if (table)
                own(image, table, image->cluster);
        }
        fuzz_require(plan_run_within(image->plan, at, at + image->cluster, &run),
                     "the plan covers it");
        check_entry(image, table ? read64(image, table + i % per_table * 8) : 0, run.state, &ndata,
                    &next);
    }
}

static void check_refcounts(struct image *image)
{
    uint64_t table = read64(image, 48), clusters = read32(image, 56);
    uint64_t per_block = image->cluster / 2, total = image->length / image->cluster;

    own(image, 0, image->cluster);
    own(image, table, clusters * image->cluster);
    for (uint64_t i = 0; i < clusters * image->cluster / 8; i++)
        if (read64(image, table + i * 8))
            own(image, read64(image, table + i * 8), image->cluster);
    for (uint64_t i = 0; i < total; i++) {
        uint64_t block = read64(image, table + i / per_block * 8);
        uint16_t count;

        fuzz_require(block != 0, "each cluster of the file is counted");
        memcpy(&count, at_offset(image, block + i % per_block * 2, 2), 2);
        fuzz_require(be16toh(count) == image->owners[i], "a refcount is the number of owners");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target_params params = {0};
    struct image image = {0};
    struct rp_error e = RP_ERROR_INIT;

    if (size < 4 || !make_plan(&image, data, size))
        return 0;
    params.compressed = data[1] & 1;
    params.backing_file = data[1] & 2 ? "base" : NULL;
    params.backing_format = "qcow2";
    fuzz_require(target_qcow2.open(image.plan, &params, &image.target, &image.layout, &e) == 0,
                 "it can be written");
    image.metadata = calloc(1, image.layout.metadata_bytes);
    image.parts = calloc(image.layout.file_bytes / image.cluster + 1, sizeof *image.parts);
    image.owners = calloc(image.layout.file_bytes / image.cluster + 1, sizeof *image.owners);
    image.pressed = calloc(CLUSTERS_MAX + 1, sizeof *image.pressed);
    if (params.compressed)
        write_compressed(&image, data, size);
    else
        write_front_to_back(&image);
    fuzz_require(read32(&image, 0) == 0x514649fb && 1u << read32(&image, 20) == image.cluster,
                 "the header is that of qcow2");
    check_clusters(&image);
    check_refcounts(&image);
    target_qcow2.close(image.target);
    plan_free(image.plan);
    free(image.metadata);
    free(image.parts);
    free(image.owners);
    free(image.pressed);
    return 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Packing what the press made of clusters into one stream of aligned writes. Knows nothing of
 * formats or of compression. Its own thread, which ends at the ring's end or first error.
 */
#include "packer.h"

#include <stdlib.h>
#include <string.h>

/* A write of the ring's size: as good for the disk as those of a plain copy. */
#define BUFFER_BYTES (size_t)(2u << 20)

static int flush(struct packer *p, struct rp_error *e)
{
    int rc = p->length ? writer_put(p->writer, p->buffer, p->length, p->offset, e) : 0;

    p->offset += p->length;
    p->length = 0;
    return rc;
}

/* `data` NULL: zeros. */
static int append(struct packer *p, const unsigned char *data, uint64_t length, struct rp_error *e)
{
    int rc = 0;

    while (length > 0 && rc == 0) {
        uint64_t left = BUFFER_BYTES - p->length;
        size_t n = (size_t)(length < left ? length : left);

        if (data)
            memcpy(p->buffer + p->length, data, n);
        else
            memset(p->buffer + p->length, 0, n);
        p->length += n;
        length -= n;
        data = data ? data + n : NULL;
        if (p->length == BUFFER_BYTES)
            rc = flush(p, e);
    }
    return rc;
}

/* What lies between the end of the stream and the place is padding. */
static int append_at(struct packer *p, uint64_t offset, const unsigned char *data, size_t length,
                     struct rp_error *e)
{
    int rc = append(p, NULL, offset - (p->offset + p->length), e);

    return rc == 0 ? append(p, data, length, e) : rc;
}

static int settle(struct packer *p, struct rp_error *e)
{
    struct target_piece piece;
    int rc = 0;

    while (rc == 0 && p->ops->settle(p->target, &piece))
        rc = writer_put(p->writer, piece.data, piece.length, piece.offset, e);
    return rc;
}

/* In the order of the places: first the clusters that shrank, then the others. */
static int pack_block(struct packer *p, const struct ring_block *block, struct rp_error *e)
{
    const uint32_t *lengths = block->pressed_bytes;
    size_t count = block->length / p->cluster_bytes;
    uint64_t offsets[RING_CLUSTERS_MAX];
    int rc = 0;

    p->ops->place(p->target, lengths, count, offsets);
    for (int whole = 0; whole < 2; whole++)
        for (size_t i = 0; i < count && rc == 0; i++)
            if (lengths[i] > 0 && (lengths[i] == p->cluster_bytes) == whole)
                rc = append_at(p, offsets[i], block->data + i * p->cluster_bytes, lengths[i], e);
    return rc == 0 ? settle(p, e) : rc;
}

static int finish(struct packer *p, struct rp_error *e)
{
    uint64_t end = p->ops->length(p->target);
    int rc = append(p, NULL, end - (p->offset + p->length), e);

    p->writer->file_bytes = end;
    if (rc == 0)
        rc = flush(p, e);
    if (rc == 0)
        rc = settle(p, e);
    return rc == 0 ? writer_finish(p->writer, e) : rc;
}

static int pack_blocks(struct packer *p, struct rp_error *e)
{
    struct ring *ring = p->writer->ring;
    struct ring_block *block;
    void *buffer;
    int rc;

    if (posix_memalign(&buffer, RING_ALIGN_BYTES, BUFFER_BYTES) != 0)
        return rp_fail_memory(e);
    p->buffer = buffer;
    p->offset = p->data_offset;
    rc = settle(p, e);
    while (rc == 0 && (block = ring_next(ring, RING_WRITER))) {
        rc = pack_block(p, block, e);
        if (rc == 0)
            ring_release(ring, RING_WRITER, block);
    }
    return rc == 0 && ring_touch(ring) ? finish(p, e) : rc;
}

void *packer_run(void *opaque)
{
    struct packer *p = opaque;
    struct rp_error e = RP_ERROR_INIT;

    writer_begin(p->writer);
    if (pack_blocks(p, &e) < 0)
        ring_fail(p->writer->ring, &e);
    writer_end(p->writer);
    free(p->buffer);
    ring_leave(p->writer->ring);
    return NULL;
}

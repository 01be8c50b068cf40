// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Compressing clusters, each on its own, as QEMU reads them: one zstd frame without a dictionary.
 * The only file that includes zstd; knows nothing of files or where a cluster goes. Its own
 * threads, which end at the ring's end or first error.
 */
#include "compress.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

/*
 * A reader decompresses a whole cluster for each of its sectors: what saves less than this part of
 * it is kept as it is.
 */
#define MIN_GAIN_DIVISOR 16u

/* From this level on, larger clusters than 256 KiB would take tens of MiB in each thread. */
#define LARGE_TABLES_LEVEL 6
#define TABLE_LOG_MAX      18

/* One thread's. */
struct press {
    const struct compress *params;
    ZSTD_CCtx *context;
    unsigned char *scratch; /* a frame of the most that is kept */
    size_t frame_max;
};

static int fail_zstd(size_t code, struct rp_error *e)
{
    if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation)
        return rp_fail_memory(e);
    return rp_fail(e, RESULT_FAILED, "zstd: %s", ZSTD_getErrorName(code));
}

static int open_press(struct press *press, struct rp_error *e)
{
    const struct compress *params = press->params;
    size_t code;

    press->frame_max = params->cluster_bytes - params->cluster_bytes / MIN_GAIN_DIVISOR;
    press->scratch = malloc(press->frame_max);
    press->context = ZSTD_createCCtx();
    if (!press->scratch || !press->context)
        return rp_fail_memory(e);
    code = ZSTD_CCtx_setParameter(press->context, ZSTD_c_compressionLevel, params->level);
    if (!ZSTD_isError(code) && params->level >= LARGE_TABLES_LEVEL &&
        params->cluster_bytes >> TABLE_LOG_MAX) {
        code = ZSTD_CCtx_setParameter(press->context, ZSTD_c_hashLog, TABLE_LOG_MAX);
        if (!ZSTD_isError(code))
            code = ZSTD_CCtx_setParameter(press->context, ZSTD_c_chainLog, TABLE_LOG_MAX);
    }
    return ZSTD_isError(code) ? fail_zstd(code, e) : 0;
}

static void close_press(struct press *press)
{
    free(press->scratch);
    ZSTD_freeCCtx(press->context);
}

static bool is_zero(const unsigned char *data, size_t length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static int press_cluster(struct press *press, unsigned char *cluster, uint32_t *ret_bytes,
                         struct rp_error *e)
{
    uint32_t cluster_bytes = press->params->cluster_bytes;
    size_t n;

    *ret_bytes = 0;
    if (is_zero(cluster, cluster_bytes))
        return 0;
    n = ZSTD_compress2(press->context, press->scratch, press->frame_max, cluster, cluster_bytes);
    if (!ZSTD_isError(n))
        memcpy(cluster, press->scratch, n);
    else if (ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall)
        n = cluster_bytes;
    else
        return fail_zstd(n, e);
    *ret_bytes = (uint32_t)n;
    return 0;
}

/* Ends early, and without an error of its own, when the copy is given up. */
static int press_block(struct press *press, struct ring_block *block, struct rp_error *e)
{
    const struct compress *params = press->params;
    int rc = 0;

    for (size_t i = 0; i < block->length / params->cluster_bytes && rc == 0; i++)
        if (ring_touch(params->ring))
            rc = press_cluster(press, block->data + i * params->cluster_bytes,
                               &block->pressed_bytes[i], e);
    return rc;
}

static int press_blocks(struct press *press, struct rp_error *e)
{
    struct ring *ring = press->params->ring;
    struct ring_block *block;
    int rc = open_press(press, e);

    while (rc == 0 && (block = ring_next(ring, RING_PRESS))) {
        rc = press_block(press, block, e);
        if (rc == 0)
            ring_release(ring, RING_PRESS, block);
    }
    return rc;
}

void *compress_run(void *opaque)
{
    struct press press = {.params = opaque};
    struct rp_error e = RP_ERROR_INIT;

    if (press_blocks(&press, &e) < 0)
        ring_fail(press.params->ring, &e);
    close_press(&press);
    ring_leave(press.params->ring);
    return NULL;
}

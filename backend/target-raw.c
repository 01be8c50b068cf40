// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The raw kind: every cluster at its guest offset, no metadata, holes where nothing is written.
 * Does no input or output. Any thread.
 */
#include "target.h"

int target_check_plan(const struct plan *plan, const char *format, struct rp_error *e)
{
    uint32_t cluster_bytes = plan_cluster_bytes(plan);

    if (cluster_bytes < TARGET_CLUSTER_MIN_BYTES || cluster_bytes > TARGET_CLUSTER_MAX_BYTES)
        return rp_fail(e, RESULT_NOT_SUPPORTED, "%s with clusters of %u bytes is not supported",
                       format, (unsigned)cluster_bytes);
    return 0;
}

static int raw_open(const struct plan *plan, const struct target_params *params,
                    struct target **ret_target, struct target_layout *ret_layout,
                    struct rp_error *e)
{
    int rc = target_check_plan(plan, target_raw.format, e);

    if (rc < 0)
        return rc;
    if (params->backing_file)
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "a raw file cannot hold the changes since a base: use qcow2");
    if (params->compressed)
        return rp_fail(e, RESULT_NOT_SUPPORTED, "a raw file cannot be compressed: use qcow2");
    *ret_target = NULL;
    *ret_layout = (struct target_layout){.file_bytes = plan_size_bytes(plan)};
    return 0;
}

static uint64_t raw_find(struct target *target, uint64_t offset, uint64_t *ret_metadata)
{
    (void)target;
    (void)offset;
    (void)ret_metadata;
    return 0;
}

/* Never called with a length: there is no metadata. */
static void raw_render(struct target *target, uint64_t offset, void *buffer, size_t length)
{
    (void)target;
    (void)offset;
    (void)buffer;
    (void)length;
}

static void raw_close(struct target *target)
{
    (void)target;
}

const struct target_ops target_raw = {
    .format = "raw",
    .open = raw_open,
    .find = raw_find,
    .render = raw_render,
    .close = raw_close,
};

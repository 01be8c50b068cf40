// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The files of a reference point: vms/<vm>/refpoints/<name>/. Shows snapshots (any thread);
 * writing to `hold` is slow.
 */
#include <stdlib.h>

#include "record.h"
#include "rows.h"

static const char *const health_names[] = {
    [HEALTH_UNKNOWN] = "unknown", [HEALTH_OK] = "ok", [HEALTH_BROKEN] = "broken"};

static void show_disk(const struct refpoint_disk *disk, bool held, FILE *out)
{
    fprintf(out, "disk.%s.changed_bytes=", disk->target);
    if (disk->has_changed_bytes)
        fprintf(out, "%llu", (unsigned long long)disk->changed_bytes);
    fprintf(out, "\ndisk.%s.health=%s\n", disk->target, health_names[disk->health]);
    fprintf(out, "disk.%s.base=", disk->target);
    record_escape(out, held && disk->base ? disk->base : "");
    fprintf(out, "\ndisk.%s.why_full=", disk->target);
    record_escape(out, held && disk->why_full ? disk->why_full : "");
    putc('\n', out);
}

static int show_info(const struct node *node, FILE *out, struct rp_error *e)
{
    struct refpoint_info info;
    int ret = backend_refpoint_info(node->backend, node->serial, &info, e);

    if (ret < 0)
        return ret;
    record_text(out, "name", info.name);
    record_text(out, "vm", info.vm);
    record_text(out, "instance_id", info.instance_id);
    record_number(out, "reference_point_type", 2); /* CIM: resilient change tracking */
    record_number(out, "consistency_level", (uint64_t)info.consistency_level);
    record_bool(out, "has_associated_data", info.held);
    record_time(out, "created", info.created);
    record_text(out, "parent", info.parent);
    fputs("disks=", out);
    for (size_t i = 0; i < info.ndisks; i++)
        fprintf(out, "%s%s", i ? " " : "", info.disks[i].target);
    putc('\n', out);
    for (size_t i = 0; i < info.ndisks; i++)
        show_disk(&info.disks[i], info.held, out);
    record_time(out, "hold_expires", info.held ? info.hold_expires : (struct timespec){0});
    record_text(out, "last_export", info.last_export);
    refpoint_info_clear(&info);
    return 0;
}

static int show_checkpoint(const struct node *node, FILE *out, struct rp_error *e)
{
    char *xml;
    int ret = backend_refpoint_xml(node->backend, node->serial, &xml, e);

    if (ret < 0)
        return ret;
    fputs(xml, out);
    free(xml);
    return 0;
}

static int show_hold(const struct node *node, FILE *out, struct rp_error *e)
{
    (void)e;
    fprintf(out, "%d\n", backend_refpoint_is_held(node->backend, node->serial) ? 1 : 0);
    return 0;
}

/*
 * 0 lets go. 1 is taken while the instant is held, and does nothing, so that what was read can be
 * written back; it cannot bring back data that is gone.
 */
static int check_hold(const struct node *node, const char *text, size_t length,
                      enum text_state state, const struct caller *caller, unsigned *ret_values,
                      struct rp_error *e)
{
    (void)state, (void)caller;
    record_trim(&text, &length);
    if (length == 1 && *text == '1') {
        if (!backend_refpoint_is_held(node->backend, node->serial))
            return rp_fail(e, RESULT_INVALID_PARAMETER,
                           "the held data is gone; only a new reference point holds again");
        length = 0;
    }
    if (length > 1 || (length == 1 && *text != '0'))
        return rp_fail(e, RESULT_INVALID_PARAMETER, "only 0 can be written to hold");
    *ret_values = length > 0;
    return 0;
}

static int commit_hold(const struct node *node, const char *text, size_t length,
                       const struct caller *caller, struct rp_error *e)
{
    (void)text, (void)length, (void)caller;
    return backend_hold_release(node->backend, node->serial, e);
}

static const struct store store_hold = {
    .max = 4096, /* as sysfs: one page is more than any single value */
    .at_write = true,
    .check = check_hold,
    .commit = commit_hold,
};

static const struct attr rows[] = {
    {.path = "", .mode = S_IFDIR | 0755},
    {.path = "info", .mode = S_IFREG | 0444, .topics = TOPIC_INFO | TOPIC_HOLD, .show = show_info},
    {.path = "checkpoint.xml",
     .mode = S_IFREG | 0444,
     .show = show_checkpoint,
     .changes = tree_never_changes},
    {.path = "export",
     .mode = S_IFREG | 0644,
     .show = rows_show_export,
     .store = &rows_store_export},
    {.path = "hold",
     .mode = S_IFREG | 0644,
     .topics = TOPIC_HOLD,
     .show = show_hold,
     .store = &store_hold},
    {.path = "disks", .mode = S_IFDIR | 0555, .each = &class_disk},
    {.path = "job", .mode = S_IFDIR | 0755, .flags = ATTR_JOB_TIME},
    JOB_ROWS("job/"),
};

const struct class class_refpoint = {"refpoint", KIND_REFPOINT, sizeof rows / sizeof rows[0], rows};

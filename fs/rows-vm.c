// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The files of a virtual machine: vms/<vm>/. Shows snapshots (any thread); mkdir and rmdir in
 * refpoints/ are slow.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "record.h"
#include "rows.h"

static void show_disk(const struct vm_disk *disk, FILE *out)
{
    fprintf(out, "disk.%s.source=", disk->target);
    record_escape(out, disk->source);
    fprintf(out, "\ndisk.%s.format=", disk->target);
    record_escape(out, disk->format);
    fprintf(out, "\ndisk.%s.size=", disk->target);
    if (disk->size_bytes > 0)
        fprintf(out, "%" PRIu64, disk->size_bytes);
    fprintf(out, "\ndisk.%s.tracked=%s", disk->target, disk->tracked ? "yes" : "no");
    fprintf(out, "\ndisk.%s.why_not=", disk->target);
    record_escape(out, disk->why_not);
    putc('\n', out);
}

static int show_info(const struct node *node, FILE *out, struct rp_error *e)
{
    struct vm_info info;
    int ret = backend_vm_info(node->backend, node->serial, &info, e);

    if (ret < 0)
        return ret;
    record_text(out, "name", info.name);
    record_text(out, "uuid", info.uuid);
    record_text(out, "state", info.state);
    record_bool(out, "persistent", info.persistent);
    record_time(out, "changed", info.changed);
    record_text(out, "held", info.held);
    record_text(out, "last_refusal", info.last_refusal);
    fputs("disks=", out);
    for (size_t i = 0; i < info.ndisks; i++)
        fprintf(out, "%s%s", i ? " " : "", info.disks[i].target);
    putc('\n', out);
    for (size_t i = 0; i < info.ndisks; i++)
        show_disk(&info.disks[i], out);
    vm_info_clear(&info);
    return 0;
}

static int show_domain(const struct node *node, FILE *out, struct rp_error *e)
{
    char *xml;
    int ret = backend_vm_xml(node->backend, node->serial, &xml, e);

    if (ret < 0)
        return ret;
    fputs(xml, out);
    free(xml);
    return 0;
}

static int show_create(const struct node *node, FILE *out, struct rp_error *e)
{
    return backend_create_template(node->backend, node->serial, out, e);
}

static int check_create(const struct node *node, const char *text, size_t length,
                        enum text_state state, const struct caller *caller, unsigned *ret_values,
                        struct rp_error *e)
{
    (void)caller;
    return backend_create_check(node->backend, node->serial, text, length, state, ret_values, e);
}

static int commit_create(const struct node *node, const char *text, size_t length,
                         const struct caller *caller, struct rp_error *e)
{
    uint64_t refpoint;

    (void)caller;
    return backend_create_start(node->backend, node->serial, text, length, &refpoint, e);
}

static void receiving_create(const struct node *node, int delta)
{
    backend_create_receiving(node->backend, node->serial, delta);
}

static void refused_create(const struct node *node, const struct rp_error *e)
{
    backend_create_refused(node->backend, node->serial, e);
}

static const struct store store_create = {
    .max = 64 * 1024, /* the longest settings text that the backend takes */
    .check = check_create,
    .commit = commit_create,
    .receiving = receiving_create,
    .refused = refused_create,
};

static int make_refpoint(const struct node *dir, const char *name, const struct caller *caller,
                         uint64_t *ret_serial, struct rp_error *e)
{
    return backend_refpoint_create(dir->backend, dir->serial, name, caller, ret_serial, e);
}

static int remove_refpoint(const struct node *dir, uint64_t serial, struct rp_error *e)
{
    return backend_refpoint_delete(dir->backend, serial, e);
}

static const struct attr rows[] = {
    {.path = "", .mode = S_IFDIR | 0755},
    {.path = "info", .mode = S_IFREG | 0444, .topics = TOPIC_INFO | TOPIC_HOLD, .show = show_info},
    {.path = "domain.xml", .mode = S_IFREG | 0444, .topics = TOPIC_INFO, .show = show_domain},
    {.path = "create", .mode = S_IFREG | 0644, .show = show_create, .store = &store_create},
    {.path = "export",
     .mode = S_IFREG | 0644,
     .show = rows_show_export,
     .store = &rows_store_export},
    {.path = "job", .mode = S_IFDIR | 0755, .flags = ATTR_JOB_TIME},
    JOB_ROWS("job/"),
    {.path = "refpoints",
     .mode = S_IFDIR | 0755,
     .each = &class_refpoint,
     .make = make_refpoint,
     .remove = remove_refpoint},
};

const struct class class_vm = {"vm", KIND_VM, sizeof rows / sizeof rows[0], rows};

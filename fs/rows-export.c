// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * `export`: how a settings text reaches the backend, for every class of object that has the file.
 * Knows the steps, not the settings. Any thread; check and commit are slow.
 */
#include "rows.h"

int rows_show_export(const struct node *node, FILE *out, struct rp_error *e)
{
    return backend_export_template(node->backend, node->serial, out, e);
}

static int begin_export(const struct node *node, struct rp_error *e)
{
    return backend_export_may_begin(node->backend, node->serial, e);
}

static int check_export(const struct node *node, const char *text, size_t length,
                        enum text_state state, const struct caller *caller, unsigned *ret_values,
                        struct rp_error *e)
{
    return backend_export_check(node->backend, node->serial, text, length, state, caller,
                                ret_values, e);
}

static int commit_export(const struct node *node, const char *text, size_t length,
                         const struct caller *caller, struct rp_error *e)
{
    uint64_t job;
    int ret = backend_export_start(node->backend, node->serial, text, length, caller, &job, e);

    return ret == 0 && job ? 1 : ret;
}

static void receiving_export(const struct node *node, int delta)
{
    backend_export_receiving(node->backend, node->serial, delta);
}

static void refused_export(const struct node *node, const struct rp_error *e)
{
    backend_export_refused(node->backend, node->serial, e);
}

const struct store rows_store_export = {
    .max = 64 * 1024, /* the longest settings text that the backend takes */
    .begin = begin_export,
    .check = check_export,
    .commit = commit_export,
    .receiving = receiving_export,
    .refused = refused_export,
};

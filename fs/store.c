// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Texts and their refusals (store.h). Owns nothing; knows of a file only its row. Any thread.
 */
#include "store.h"

#include <errno.h>

#include "log.h"

int store_too_long(const struct node *node, struct rp_error *e)
{
    rp_fail(e, RESULT_INVALID_PARAMETER, "the text is longer than %zu bytes",
            node->attr->store->max);
    e->err = EFBIG;
    return -EFBIG;
}

void store_log(const struct node *node, const struct rp_error *e)
{
    char what[512];

    tree_describe(node, what, sizeof what);
    log_message(LOG_INFO, "%s: %s", what, e->message);
}

void store_refuse(const struct node *node, const struct rp_error *e)
{
    const struct store *store = node->attr->store;

    store_log(node, e);
    if (store->refused)
        store->refused(node, e);
}

int store_begin(const struct node *node, struct rp_error *e)
{
    const struct store *store = node->attr->store;
    int ret = store->begin ? store->begin(node, e) : 0;

    if (ret < 0)
        store_refuse(node, e);
    return ret;
}

static int check_and_commit(const struct node *node, const char *text, size_t length,
                            const struct caller *caller, struct rp_error *e)
{
    const struct store *store = node->attr->store;
    unsigned values = 0;
    int ret = store->check(node, text, length, TEXT_WHOLE, caller, &values, e);

    if (ret < 0) {
        store_refuse(node, e);
        return ret;
    }
    ret = values > 0 ? store->commit(node, text, length, caller, e) : 0;
    if (ret < 0)
        store_log(node, e);
    return ret;
}

int store_take(const struct node *node, const char *text, size_t length,
               const struct caller *caller, struct rp_error *e)
{
    const struct store *store = node->attr->store;
    int ret = store_begin(node, e);

    if (ret < 0)
        return ret;
    if (store->receiving)
        store->receiving(node, 1);
    ret = check_and_commit(node, text, length, caller, e);
    /* Last, so that the state passes straight from receiving to what came of it. */
    if (store->receiving && ret <= 0)
        store->receiving(node, -1);
    return ret < 0 ? ret : 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Follows backing files as QEMU does, and judges bitmaps that go over several of them as libvirt
 * does. Believes no header. Any thread.
 */
#include "qcow2-chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX 200u /* libvirt's own limit; it also ends a chain that is a circle */

static int add_layer(struct qcow2_chain *chain, char *path, struct qcow2_facts *facts)
{
    struct qcow2_layer *layers =
        reallocarray(chain->layers, chain->nlayers + 1, sizeof *chain->layers);

    if (!layers)
        return -ENOMEM;
    chain->layers = layers;
    layers[chain->nlayers++] = (struct qcow2_layer){.path = path, .facts = *facts};
    *facts = (struct qcow2_facts){0};
    return 0;
}

/* True for what QEMU takes for "protocol:...", json: among them, and not for a path. */
static bool has_protocol(const char *name)
{
    size_t before = strcspn(name, ":/");

    return name[before] == ':';
}

/* The path of a layer's backing file; *ret_path is NULL when it is none. */
static int backing_path(const struct qcow2_layer *layer, char **ret_path)
{
    const char *name = layer->facts.backing, *slash = strrchr(layer->path, '/');
    size_t folder = slash ? (size_t)(slash - layer->path) + 1 : 0, length;

    *ret_path = NULL;
    if (strncmp(name, "file:", 5) == 0)
        name += 5;
    else if (has_protocol(name))
        return 0;
    if (*name == '/')
        folder = 0;
    length = strlen(name);
    *ret_path = malloc(folder + length + 1);
    if (!*ret_path)
        return -ENOMEM;
    memcpy(*ret_path, layer->path, folder);
    memcpy(*ret_path + folder, name, length + 1);
    return 0;
}

static bool may_be_qcow2(const struct qcow2_facts *facts)
{
    return facts->backing &&
           (!facts->backing_format || strcmp(facts->backing_format, "qcow2") == 0);
}

/*
 * Adds the layer below the last one, if it is one; true in *ret_more. Where no format is said QEMU
 * looks for itself, and something other than qcow2 has no bitmaps.
 */
static int descend(struct qcow2_chain *chain, bool *ret_more)
{
    const struct qcow2_layer *last = &chain->layers[chain->nlayers - 1];
    struct qcow2_facts facts = {0};
    struct rp_error ignored;
    char *path = NULL;
    int rc = 0;

    *ret_more = false;
    if (!may_be_qcow2(&last->facts))
        return 0;
    if (backing_path(last, &path) < 0)
        return -ENOMEM;
    if (path && chain->nlayers < LAYERS_MAX) {
        rc = qcow2_file_read(path, &facts, &ignored);
        if (rc == -EINVAL && !last->facts.backing_format) {
            free(path);
            return 0;
        }
        *ret_more = rc == 0;
    }
    if (*ret_more) {
        rc = add_layer(chain, path, &facts);
        if (rc == 0)
            return 0;
    } else {
        chain->unseen = strdup(last->facts.backing);
        rc = chain->unseen ? 0 : -ENOMEM;
    }
    qcow2_file_clear(&facts);
    free(path);
    return rc;
}

int qcow2_chain_read(const char *path, struct qcow2_chain *ret_chain, struct rp_error *e)
{
    struct qcow2_chain chain = {0};
    struct qcow2_facts facts;
    bool more = true;
    char *copy;
    int rc = qcow2_file_read(path, &facts, e);

    if (rc < 0)
        return rc;
    copy = strdup(path);
    rc = copy ? add_layer(&chain, copy, &facts) : -ENOMEM;
    if (rc < 0)
        free(copy);
    while (rc == 0 && more)
        rc = descend(&chain, &more);
    if (rc < 0) {
        qcow2_file_clear(&facts);
        qcow2_chain_clear(&chain);
        return rp_fail_memory(e);
    }
    *ret_chain = chain;
    return 0;
}

void qcow2_chain_clear(struct qcow2_chain *chain)
{
    for (size_t i = 0; i < chain->nlayers; i++) {
        free(chain->layers[i].path);
        qcow2_file_clear(&chain->layers[i].facts);
    }
    free(chain->layers);
    free(chain->unseen);
    *chain = (struct qcow2_chain){0};
}

struct qcow2_span qcow2_chain_find_bitmap(const struct qcow2_chain *chain, const char *name)
{
    const struct qcow2_bitmap *bitmap = NULL;
    struct qcow2_span span = {0};
    size_t i = 0;

    while (i < chain->nlayers && !(bitmap = qcow2_file_find_bitmap(&chain->layers[i].facts, name)))
        i++;
    if (i > 0 || !bitmap)
        span.why_not = "the bitmap is not in the image";
    for (span.first = i; bitmap; span.count++) {
        if (bitmap->in_use && !span.why_not)
            span.why_not = "the bitmap is broken";
        i = span.first + span.count + 1;
        bitmap = i < chain->nlayers ? qcow2_file_find_bitmap(&chain->layers[i].facts, name) : NULL;
    }
    /* What is below may have it too, and then only both tell what changed. */
    if (span.first + span.count == chain->nlayers && span.count > 0 && chain->unseen &&
        !span.why_not)
        span.why_not = "a backing file of the image cannot be looked at";
    return span;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Changes bitmaps in the images of a VM that is off, and gathers those that go over several images,
 * by qemu-img. Any thread.
 */
#include "offline.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "process.h"

/* qemu-img writes a few clusters; more is a file system that hangs. */
#define IMAGE_TIMEOUT_MS 30000

static int change_bitmap(const char *file, char *action, const char *name, struct rp_error *e)
{
    char *const arguments[] = {(char[]){"qemu-img"},    (char[]){"bitmap"},      action,
                               (char[]){"-f"},          (char[]){"qcow2"},       (char[]){"--"},
                               (char *)(uintptr_t)file, (char *)(uintptr_t)name, NULL};

    return process_run(arguments, IMAGE_TIMEOUT_MS, e);
}

int offline_add_bitmap(const char *file, const char *name, struct rp_error *e)
{
    return change_bitmap(file, (char[]){"--add"}, name, e);
}

/*
 * From the top: were a lower one without it while the upper still has it, the upper would pass for
 * all that changed.
 */
int offline_remove_bitmap(const char *file, const char *name, struct rp_error *e)
{
    struct qcow2_chain chain;
    struct qcow2_span span;
    int rc = qcow2_chain_read(file, &chain, e);

    if (rc < 0)
        return rc;
    span = qcow2_chain_find_bitmap(&chain, name);
    for (size_t i = 0; i < span.count && rc == 0; i++)
        rc = change_bitmap(chain.layers[span.first + i].path, (char[]){"--remove"}, name, e);
    qcow2_chain_clear(&chain);
    return rc;
}

/* ---- bitmaps that go over several images ---- */

/* A JSON string. */
static void print_json(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putc('\\', out);
        if ((unsigned char)*text < ' ')
            fprintf(out, "\\u%04x", (unsigned)*text);
        else
            putc(*text, out);
    }
    putc('"', out);
}

/* The layer alone, and without its lock, which a VM that starts just now needs. */
static char *name_layer(const struct qcow2_layer *layer)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        return NULL;
    fprintf(out,
            "json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":{\"driver\":\"%s\","
            "\"locking\":\"off\",\"filename\":",
            offline_file_driver(layer->path));
    print_json(out, layer->path);
    fputs("}}", out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static int merge_bitmap(const struct qcow2_layer *layer, const char *name, const char *path,
                        struct rp_error *e)
{
    char *source = name_layer(layer);
    char *const arguments[] = {
        (char[]){"qemu-img"},    (char[]){"bitmap"},      (char[]){"--merge"},
        (char *)(uintptr_t)name, (char[]){"-b"},          source,
        (char[]){"-f"},          (char[]){"qcow2"},       (char[]){"--"},
        (char *)(uintptr_t)path, (char *)(uintptr_t)name, NULL};
    int rc = source ? process_run(arguments, IMAGE_TIMEOUT_MS, e) : rp_fail_memory(e);

    free(source);
    return rc;
}

static int create_image(const char *path, const struct qcow2_facts *like, uint64_t size_bytes,
                        struct rp_error *e)
{
    char options[48], size[24];
    char *const arguments[] = {(char[]){"qemu-img"},
                               (char[]){"create"},
                               (char[]){"-q"},
                               (char[]){"-f"},
                               (char[]){"qcow2"},
                               (char[]){"-o"},
                               options,
                               (char[]){"--"},
                               (char *)(uintptr_t)path,
                               size,
                               NULL};

    /* Bitmaps are as fine as the image's clusters: no coarser than those they come from. */
    snprintf(options, sizeof options, "cluster_size=%u", (unsigned)like->cluster_bytes);
    snprintf(size, sizeof size, "%llu", (unsigned long long)size_bytes);
    return process_run(arguments, IMAGE_TIMEOUT_MS, e);
}

static int resize_image(const char *path, uint64_t size_bytes, struct rp_error *e)
{
    char size[24];
    char *const arguments[] = {(char[]){"qemu-img"},
                               (char[]){"resize"},
                               (char[]){"-q"},
                               (char[]){"-f"},
                               (char[]){"qcow2"},
                               (char[]){"--"},
                               (char *)(uintptr_t)path,
                               size,
                               NULL};

    snprintf(size, sizeof size, "%llu", (unsigned long long)size_bytes);
    return process_run(arguments, IMAGE_TIMEOUT_MS, e);
}

/* Layer `i` of those that go into the image: those of its bitmaps that are asked for. */
static int gather_layer(const struct qcow2_chain *chain, size_t i, const char *const *names,
                        size_t count, const char *path, struct rp_error *e)
{
    int rc = 0;

    for (size_t n = 0; n < count && rc == 0; n++) {
        struct qcow2_span span = qcow2_chain_find_bitmap(chain, names[n]);

        if (i >= span.first + span.count)
            continue;
        if (i + 1 == span.first + span.count)
            rc = offline_add_bitmap(path, names[n], e);
        if (rc == 0)
            rc = merge_bitmap(&chain->layers[i], names[n], path, e);
    }
    return rc;
}

/* From the bottom, since an image with bitmaps can grow and not shrink. */
int offline_gather_bitmaps(const struct qcow2_chain *chain, const char *const *names, size_t count,
                           const char *path, struct rp_error *e)
{
    uint64_t size_bytes;
    size_t nlayers = 1;
    int rc;

    for (size_t n = 0; n < count; n++) {
        struct qcow2_span span = qcow2_chain_find_bitmap(chain, names[n]);
        nlayers = span.count > nlayers ? span.count : nlayers;
    }
    size_bytes = chain->layers[nlayers - 1].facts.size_bytes;
    rc = create_image(path, &chain->layers[0].facts, size_bytes, e);
    for (size_t i = nlayers; i > 0 && rc == 0; i--) {
        uint64_t bytes = chain->layers[i - 1].facts.size_bytes;

        if (bytes != size_bytes)
            rc = resize_image(path, bytes, e);
        size_bytes = bytes;
        if (rc == 0)
            rc = gather_layer(chain, i - 1, names, count, path, e);
    }
    if (rc < 0)
        rp_error_prefix(e, "gathering the bitmaps of '%s': ", chain->layers[0].path);
    return rc;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The text of export.ini. Knows its keys and nothing of directories or VMs; no I/O; any thread.
 */
#include "manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ini.h"

enum kind { TEXT, U64, TIME, YES_NO, NUMBER, MODE };

/* One table for both directions: what is printed is what is read. */
struct key {
    const char *name;
    enum kind kind;
    size_t offset;
};

#define EXPORT(name, kind, member)                                                                 \
    {                                                                                              \
        name, kind, offsetof(struct manifest, member)                                              \
    }
static const struct key export_keys[] = {
    EXPORT("vm", TEXT, vm),
    EXPORT("uuid", TEXT, uuid),
    EXPORT("reference_point", TEXT, refpoint),
    EXPORT("reference_point_id", TEXT, id),
    EXPORT("base", TEXT, base),
    EXPORT("base_id", TEXT, base_id),
    EXPORT("moment", TIME, moment),
    EXPORT("exact", YES_NO, exact),
    EXPORT("consistency_level", NUMBER, consistency_level),
    EXPORT("nvram", TEXT, nvram),
    EXPORT("nvram_why", TEXT, nvram_why),
    EXPORT("left_out", TEXT, left_out),
    EXPORT("result", NUMBER, result),
};

#define DISK(name, kind, member)                                                                   \
    {                                                                                              \
        name, kind, offsetof(struct manifest_disk, member)                                         \
    }
static const struct key disk_keys[] = {
    DISK("file", TEXT, file),       DISK("format", TEXT, format),    DISK("size", U64, size_bytes),
    DISK("bytes", U64, data_bytes), DISK("mode", MODE, incremental), DISK("why", TEXT, why),
    DISK("base", TEXT, base),       DISK("backing", TEXT, backing),  DISK("sha256", TEXT, sha256),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void manifest_print_time(time_t time, char *ret_text)
{
    struct tm tm;

    gmtime_r(&time, &tm);
    strftime(ret_text, MANIFEST_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void manifest_print_sha256(const unsigned char *sha256, char *ret_text)
{
    for (size_t i = 0; i < MANIFEST_SHA256_SIZE / 2; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", sha256[i]);
}

/* ---- printing ---- */

static void print_value(const void *at, enum kind kind, FILE *out)
{
    char time[MANIFEST_TIME_SIZE];

    switch (kind) {
    case TEXT:
        /* One line whatever it holds: names and paths may have control characters. */
        for (const char *c = *(char *const *)at; *c; c++)
            fputc((unsigned char)*c < ' ' ? '?' : *c, out);
        break;
    case U64:
        fprintf(out, "%" PRIu64, *(const uint64_t *)at);
        break;
    case NUMBER:
        fprintf(out, "%d", *(const int *)at);
        break;
    case TIME:
        manifest_print_time(*(const time_t *)at, time);
        fputs(time, out);
        break;
    case YES_NO:
        fputs(*(const bool *)at ? "yes" : "no", out);
        break;
    case MODE:
        fputs(*(const bool *)at ? "incremental" : "full", out);
        break;
    }
}

static void print_keys(const void *object, const struct key *keys, size_t count, FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s=", keys[i].name);
        print_value((const char *)object + keys[i].offset, keys[i].kind, out);
        fputc('\n', out);
    }
}

void manifest_print(const struct manifest *manifest, FILE *out)
{
    fputs("[export]\n", out);
    print_keys(manifest, export_keys, COUNT(export_keys), out);
    for (size_t i = 0; i < manifest->ndisks; i++) {
        fprintf(out, "\n[disk %s]\n", manifest->disks[i].target);
        print_keys(&manifest->disks[i], disk_keys, COUNT(disk_keys), out);
    }
}

/* ---- parsing ---- */

static bool parse_time(const char *text, time_t *ret_time)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (!end || *end)
        return false;
    *ret_time = timegm(&tm);
    return true;
}

static bool parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || *end || value > max)
        return false;
    *ret_value = value;
    return true;
}

static int parse_value(void *at, const struct key *key, const char *value, struct rp_error *e)
{
    uint64_t number;
    bool ok = true;
    char *copy;

    switch (key->kind) {
    case TEXT:
        copy = strdup(value);
        if (!copy)
            return rp_fail_memory(e);
        free(*(char **)at);
        *(char **)at = copy;
        break;
    case U64:
        ok = parse_u64(value, UINT64_MAX, at);
        break;
    case NUMBER:
        ok = parse_u64(value, INT32_MAX, &number);
        if (ok)
            *(int *)at = (int)number;
        break;
    case TIME:
        ok = parse_time(value, at);
        break;
    case YES_NO:
        *(bool *)at = strcmp(value, "yes") == 0;
        break;
    case MODE:
        *(bool *)at = strcmp(value, "incremental") == 0;
        break;
    }
    return ok ? 0
              : rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "'%s' is not a value of %s", value,
                        key->name);
}

static int new_disk(struct manifest *manifest, const char *target, struct rp_error *e)
{
    struct manifest_disk *disks =
                             reallocarray(manifest->disks, manifest->ndisks + 1, sizeof *disks),
                         *disk;

    if (!disks)
        return rp_fail_memory(e);
    manifest->disks = disks;
    disk = &disks[manifest->ndisks++];
    *disk = (struct manifest_disk){
        .target = strdup(target),
        .file = strdup(""),
        .format = strdup(""),
        .why = strdup(""),
        .base = strdup(""),
        .backing = strdup(""),
        .sha256 = strdup(""),
    };
    return disk->target && disk->file && disk->format && disk->why && disk->base && disk->backing &&
                   disk->sha256
               ? 0
               : rp_fail_memory(e);
}

static int on_entry(void *opaque, const char *section, const char *name, const char *value,
                    unsigned line, struct rp_error *e)
{
    struct manifest *manifest = opaque;
    bool of_disk = strncmp(section, "disk ", 5) == 0;
    const struct key *keys = of_disk ? disk_keys : export_keys;
    size_t count = of_disk ? COUNT(disk_keys) : COUNT(export_keys);
    void *object = manifest;
    int rc;

    if (of_disk) {
        const struct manifest_disk *last =
            manifest->ndisks ? &manifest->disks[manifest->ndisks - 1] : NULL;
        if (!last || strcmp(last->target, section + 5) != 0) {
            rc = new_disk(manifest, section + 5, e);
            if (rc < 0)
                return rc;
        }
        object = &manifest->disks[manifest->ndisks - 1];
    } else if (strcmp(section, "export") != 0) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        rc = parse_value((char *)object + keys[i].offset, &keys[i], value, e);
        if (rc < 0)
            rp_error_prefix(e, "line %u: ", line);
        return rc;
    }
    return 0;
}

int manifest_parse(const char *text, size_t length, struct manifest *ret_manifest,
                   struct rp_error *e)
{
    struct manifest manifest = {
        .vm = strdup(""),
        .uuid = strdup(""),
        .refpoint = strdup(""),
        .base = strdup(""),
        .id = strdup(""),
        .base_id = strdup(""),
        .nvram = strdup(""),
        .nvram_why = strdup(""),
        .left_out = strdup(""),
        .result = RESULT_FAILED, /* until the text says otherwise */
    };
    int rc = manifest.vm && manifest.uuid && manifest.refpoint && manifest.base && manifest.id &&
                     manifest.base_id && manifest.nvram && manifest.nvram_why && manifest.left_out
                 ? ini_read(text, length, true, on_entry, &manifest, e)
                 : rp_fail_memory(e);

    if (rc < 0) {
        manifest_clear(&manifest);
        return rc;
    }
    *ret_manifest = manifest;
    return 0;
}

void manifest_clear(struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->ndisks; i++) {
        free(manifest->disks[i].target);
        free(manifest->disks[i].file);
        free(manifest->disks[i].format);
        free(manifest->disks[i].why);
        free(manifest->disks[i].base);
        free(manifest->disks[i].backing);
        free(manifest->disks[i].sha256);
    }
    free(manifest->disks);
    free(manifest->vm);
    free(manifest->uuid);
    free(manifest->refpoint);
    free(manifest->id);
    free(manifest->base);
    free(manifest->base_id);
    free(manifest->nvram);
    free(manifest->nvram_why);
    free(manifest->left_out);
    *manifest = (struct manifest){0};
}

const struct manifest_disk *manifest_find_disk(const struct manifest *manifest, const char *target)
{
    for (size_t i = 0; i < manifest->ndisks; i++)
        if (strcmp(manifest->disks[i].target, target) == 0)
            return &manifest->disks[i];
    return NULL;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The texts of what is kept: tables of fields, and lists of sections.
 */
#include "kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fields.h"
#include "ini.h"

#define FIELD(type, member, kind)                                                                  \
    {                                                                                              \
#member, kind, offsetof(type, member)                                                      \
    }

static const struct field job_fields[] = {
    FIELD(struct kept_job, id, FIELD_NUMBER),
    FIELD(struct kept_job, vm, FIELD_TEXT),
    FIELD(struct kept_job, uuid, FIELD_TEXT),
    FIELD(struct kept_job, refpoint, FIELD_TEXT),
    FIELD(struct kept_job, point_id, FIELD_TEXT),
    FIELD(struct kept_job, directory, FIELD_TEXT),
    FIELD(struct kept_job, settings, FIELD_LINES),
    FIELD(struct kept_job, state, FIELD_NUMBER),
    FIELD(struct kept_job, result, FIELD_NUMBER),
    FIELD(struct kept_job, error, FIELD_TEXT),
    FIELD(struct kept_job, bytes_done, FIELD_NUMBER),
    FIELD(struct kept_job, bytes_total, FIELD_NUMBER),
    FIELD(struct kept_job, moment, FIELD_TIME),
    FIELD(struct kept_job, submitted, FIELD_TIME),
    FIELD(struct kept_job, started, FIELD_TIME),
    FIELD(struct kept_job, ended, FIELD_TIME),
    FIELD(struct kept_job, exact, FIELD_NUMBER),
    FIELD(struct kept_job, uid, FIELD_NUMBER),
    FIELD(struct kept_job, gid, FIELD_NUMBER),
    FIELD(struct kept_job, groups, FIELD_TEXT),
    FIELD(struct kept_job, unclean, FIELD_FLAG),
    FIELD(struct kept_job, made_directory, FIELD_FLAG),
    FIELD(struct kept_job, tag, FIELD_TEXT),
    FIELD(struct kept_job, files, FIELD_LINES),
    {0},
};

static const struct field hold_fields[] = {
    FIELD(struct kept_hold, refpoint, FIELD_TEXT),
    FIELD(struct kept_hold, id, FIELD_TEXT),
    FIELD(struct kept_hold, socket, FIELD_TEXT),
    FIELD(struct kept_hold, nvram, FIELD_TEXT),
    FIELD(struct kept_hold, nvram_why, FIELD_TEXT),
    FIELD(struct kept_hold, frozen, FIELD_FLAG),
    FIELD(struct kept_hold, offline, FIELD_FLAG),
    FIELD(struct kept_hold, begun, FIELD_FLAG),
    FIELD(struct kept_hold, seconds, FIELD_NUMBER),
    FIELD(struct kept_hold, boot, FIELD_TEXT),
    FIELD(struct kept_hold, used_ms, FIELD_NUMBER),
    FIELD(struct kept_hold, in_use, FIELD_FLAG),
    {0},
};

static const struct field disk_fields[] = {
    FIELD(struct kept_disk, target, FIELD_TEXT),
    FIELD(struct kept_disk, export_name, FIELD_TEXT),
    FIELD(struct kept_disk, base, FIELD_TEXT),
    FIELD(struct kept_disk, bitmap, FIELD_TEXT),
    FIELD(struct kept_disk, why_full, FIELD_TEXT),
    FIELD(struct kept_disk, scratch, FIELD_TEXT),
    {0},
};

static const struct field mark_fields[] = {
    FIELD(struct kept_mark, refpoint, FIELD_TEXT),
    FIELD(struct kept_mark, files, FIELD_LINES),
    {0},
};

static const struct field export_fields[] = {
    FIELD(struct kept_export, refpoint, FIELD_TEXT),
    FIELD(struct kept_export, id, FIELD_TEXT),
    FIELD(struct kept_export, directory, FIELD_TEXT),
    FIELD(struct kept_export, created, FIELD_NUMBER),
    {0},
};

static const struct field version_field[] = {{"version", FIELD_NUMBER, 0}, {0}};

/* ---- any of them ---- */

/* A text: fields of the whole, and a list of like sections. */
struct reader {
    const char *section;        /* of the fields of the whole; NULL: it has none */
    const struct field *fields; /* of the whole */
    const char *items;          /* what the sections of the list begin with; NULL: it has none */
    const struct field *item_fields;
    size_t item_size;
    uint64_t version;
    void *object;
    void **list;
    size_t *count;
};

static void print_head(const char *section, FILE *out)
{
    fprintf(out, "; Kept by refpointfs; it may be read at any time.\n[%s]\nversion=%d\n", section,
            KEPT_VERSION);
}

static void *last_item(const struct reader *reader)
{
    return (char *)*reader->list + (*reader->count - 1) * reader->item_size;
}

static int add_item(const struct reader *reader)
{
    void *list = reallocarray(*reader->list, *reader->count + 1, reader->item_size);

    if (!list)
        return -ENOMEM;
    *reader->list = list;
    ++*reader->count;
    memset(last_item(reader), 0, reader->item_size);
    return 0;
}

static bool is_item(const struct reader *reader, const char *section)
{
    return reader->items && strncmp(section, reader->items, strlen(reader->items)) == 0;
}

static int on_section(void *opaque, const char *section, unsigned line, struct rp_error *e)
{
    const struct reader *reader = opaque;

    (void)line;
    return is_item(reader, section) && add_item(reader) < 0 ? rp_fail_memory(e) : 0;
}

static int on_entry(void *opaque, const char *section, const char *name, const char *value,
                    unsigned line, struct rp_error *e)
{
    struct reader *reader = opaque;
    int rc = 0;

    if (is_item(reader, section))
        rc = fields_take(reader->item_fields, last_item(reader), name, value);
    else if (strcmp(section, reader->section) == 0 && strcmp(name, "version") == 0)
        rc = fields_take(version_field, &reader->version, name, value);
    else if (strcmp(section, reader->section) == 0)
        rc = fields_take(reader->fields, reader->object, name, value);
    if (rc == -ENOMEM)
        return rp_fail_memory(e);
    if (rc < 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "line %u: '%s' cannot be %s", line, value,
                       name);
    return 0;
}

/* -EINVAL for whatever makes no sense, -ENOMEM; the object is then still to be cleared. */
static int read_kept(struct reader *reader, const char *text, size_t length, struct rp_error *e)
{
    int rc = ini_read_sections(text, length, true, on_entry, on_section, reader, e);

    if (rc == 0 && reader->version != KEPT_VERSION)
        rc = rp_fail(e, RESULT_INVALID_PARAMETER, "it is of version %llu",
                     (unsigned long long)reader->version);
    if (rc == 0 && fields_complete(reader->fields, reader->object) < 0)
        rc = rp_fail_memory(e);
    for (size_t i = 0; rc == 0 && reader->items && i < *reader->count; i++)
        if (fields_complete(reader->item_fields, (char *)*reader->list + i * reader->item_size) < 0)
            rc = rp_fail_memory(e);
    return rc == 0 || rc == -ENOMEM ? rc : -EINVAL;
}

/* ---- a job ---- */

void kept_job_print(const struct kept_job *job, FILE *out)
{
    print_head("job", out);
    fields_print(job_fields, job, out);
}

int kept_job_parse(const char *text, size_t length, struct kept_job *ret_job, struct rp_error *e)
{
    struct kept_job job = {0};
    struct reader reader = {.section = "job", .fields = job_fields, .object = &job};
    int rc = read_kept(&reader, text, length, e);

    if (rc < 0) {
        kept_job_clear(&job);
        return rc;
    }
    *ret_job = job;
    return 0;
}

void kept_job_clear(struct kept_job *job)
{
    fields_clear(job_fields, job);
}

/* ---- a hold ---- */

void kept_hold_print(const struct kept_hold *hold, FILE *out)
{
    print_head("hold", out);
    fields_print(hold_fields, hold, out);
    for (size_t i = 0; i < hold->ndisks; i++) {
        fprintf(out, "\n[disk %zu]\n", i + 1);
        fields_print(disk_fields, &hold->disks[i], out);
    }
}

int kept_hold_parse(const char *text, size_t length, struct kept_hold *ret_hold, struct rp_error *e)
{
    struct kept_hold hold = {0};
    void *disks = NULL;
    struct reader reader = {
        .section = "hold",
        .fields = hold_fields,
        .object = &hold,
        .items = "disk ",
        .item_fields = disk_fields,
        .item_size = sizeof *hold.disks,
        .list = &disks,
        .count = &hold.ndisks,
    };
    int rc = read_kept(&reader, text, length, e);

    hold.disks = disks;
    if (rc < 0) {
        kept_hold_clear(&hold);
        return rc;
    }
    *ret_hold = hold;
    return 0;
}

void kept_hold_clear(struct kept_hold *hold)
{
    for (size_t i = 0; i < hold->ndisks; i++)
        fields_clear(disk_fields, &hold->disks[i]);
    free(hold->disks);
    hold->disks = NULL;
    hold->ndisks = 0;
    fields_clear(hold_fields, hold);
}

/* ---- a mark ---- */

void kept_mark_print(const struct kept_mark *mark, FILE *out)
{
    print_head("mark", out);
    fields_print(mark_fields, mark, out);
}

int kept_mark_parse(const char *text, size_t length, struct kept_mark *ret_mark, struct rp_error *e)
{
    struct kept_mark mark = {0};
    struct reader reader = {.section = "mark", .fields = mark_fields, .object = &mark};
    int rc = read_kept(&reader, text, length, e);

    if (rc < 0) {
        kept_mark_clear(&mark);
        return rc;
    }
    *ret_mark = mark;
    return 0;
}

void kept_mark_clear(struct kept_mark *mark)
{
    fields_clear(mark_fields, mark);
}

/* ---- exports ---- */

void kept_exports_print(const struct kept_exports *exports, FILE *out)
{
    print_head("exports", out);
    for (size_t i = 0; i < exports->count; i++) {
        fprintf(out, "\n[export %zu]\n", i + 1);
        fields_print(export_fields, &exports->items[i], out);
    }
}

int kept_exports_parse(const char *text, size_t length, struct kept_exports *ret_exports,
                       struct rp_error *e)
{
    static const struct field none[] = {{0}};
    struct kept_exports exports = {0};
    void *items = NULL;
    struct reader reader = {
        .section = "exports",
        .fields = none,
        .items = "export ",
        .item_fields = export_fields,
        .item_size = sizeof *exports.items,
        .list = &items,
        .count = &exports.count,
    };
    int rc = read_kept(&reader, text, length, e);

    exports.items = items;
    if (rc < 0) {
        kept_exports_clear(&exports);
        return rc;
    }
    *ret_exports = exports;
    return 0;
}

struct kept_export *kept_exports_add(struct kept_exports *exports)
{
    struct kept_export *items =
        reallocarray(exports->items, exports->count + 1, sizeof *exports->items);

    if (!items)
        return NULL;
    exports->items = items;
    items[exports->count] = (struct kept_export){0};
    return &items[exports->count++];
}

void kept_exports_remove(struct kept_exports *exports, size_t index)
{
    fields_clear(export_fields, &exports->items[index]);
    exports->items[index] = exports->items[--exports->count];
}

void kept_exports_clear(struct kept_exports *exports)
{
    for (size_t i = 0; i < exports->count; i++)
        fields_clear(export_fields, &exports->items[i]);
    free(exports->items);
    *exports = (struct kept_exports){0};
}

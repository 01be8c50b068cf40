// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The text of a plan (extents.h). Owns the index; knows nothing of disks or files.
 */
#include "extents.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two numbers of 20 digits, a word of four, what stands between them, and the NUL. */
#define LINE_SIZE 48

/* A line begins at `text_bytes` of the text and tells of what lies at `disk_bytes`. */
struct place {
    uint64_t text_bytes, disk_bytes;
};

struct extents {
    const struct plan *plan;
    uint64_t length_bytes;
    struct place *index;
    size_t count, capacity;
};

/*
 * The first line at or after *at, which is moved behind its extent. Returns its length, 0 when
 * there is none; *ret_begin is where its extent begins.
 */
static size_t next_line(const struct plan *plan, uint64_t *at, char *line, uint64_t *ret_begin)
{
    struct plan_run run;

    while (plan_run_at(plan, *at, &run)) {
        *at = run.offset_bytes + run.length_bytes;
        if (run.state == CLUSTER_SKIP)
            continue;
        *ret_begin = run.offset_bytes;
        return (size_t)snprintf(line, LINE_SIZE, "%" PRIu64 " %" PRIu64 " %s\n", run.offset_bytes,
                                run.length_bytes, run.state == CLUSTER_DATA ? "data" : "zero");
    }
    return 0;
}

static int note_place(struct extents *extents, uint64_t disk_bytes)
{
    if (extents->count == extents->capacity) {
        size_t capacity = extents->capacity ? extents->capacity * 2 : 16;
        struct place *index = reallocarray(extents->index, capacity, sizeof *index);

        if (!index)
            return -1;
        extents->index = index;
        extents->capacity = capacity;
    }
    extents->index[extents->count++] =
        (struct place){.text_bytes = extents->length_bytes, .disk_bytes = disk_bytes};
    return 0;
}

int extents_new(const struct plan *plan, struct extents **ret_extents, struct rp_error *e)
{
    struct extents *extents = calloc(1, sizeof *extents);
    uint64_t at = 0, begin, next_note = 0;
    char line[LINE_SIZE];
    size_t length;

    if (!extents)
        return rp_fail_memory(e);
    while ((length = next_line(plan, &at, line, &begin)) > 0) {
        if (extents->length_bytes >= next_note) {
            if (note_place(extents, begin) < 0) {
                extents_free(extents);
                return rp_fail_memory(e);
            }
            next_note += EXTENTS_INDEX_BYTES;
        }
        extents->length_bytes += length;
    }
    extents->plan = plan;
    *ret_extents = extents;
    return 0;
}

void extents_free(struct extents *extents)
{
    if (!extents)
        return;
    free(extents->index);
    free(extents);
}

uint64_t extents_length_bytes(const struct extents *extents)
{
    return extents->length_bytes;
}

/* The last place that is not behind `offset` of the text; there is one. */
static const struct place *find_place(const struct extents *extents, uint64_t offset)
{
    size_t low = 0, high = extents->count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (extents->index[middle].text_bytes <= offset)
            low = middle;
        else
            high = middle;
    }
    return &extents->index[low];
}

size_t extents_print(const struct extents *extents, uint64_t offset, char *buffer, size_t size)
{
    const struct place *place;
    uint64_t at, text, begin;
    char line[LINE_SIZE];
    size_t length, used = 0;

    if (offset >= extents->length_bytes)
        return 0;
    place = find_place(extents, offset);
    text = place->text_bytes;
    at = place->disk_bytes;
    while (used < size && (length = next_line(extents->plan, &at, line, &begin)) > 0) {
        size_t skip = offset > text ? (size_t)(offset - text) : 0;

        text += length;
        if (skip >= length)
            continue;
        length -= skip;
        if (length > size - used)
            length = size - used;
        memcpy(buffer + used, line + skip, length);
        used += length;
    }
    return used;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reads the header and the bitmap directory of a qcow2 file, believing nothing. Blocks as long as
 * the file system does. Any thread.
 */
#include "qcow2-file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES      104u
#define V2_HEADER_BYTES   72u
#define EXTENSION_BITMAPS 0x23852875u
#define EXTENSION_BACKING 0xe2792acau /* the backing file's format */
#define EXTENSIONS_MAX    64u         /* far more than there are kinds */
#define BITMAPS_MAX       65535u      /* QEMU's own limits */
#define DIRECTORY_MAX     (64u << 20)
#define ENTRY_BYTES       24u
#define FLAG_IN_USE       1u
#define AUTOCLEAR_BITMAPS 1u    /* who does not know them clears this with the first write */
#define BACKING_MAX       1023u /* bytes of the name */
#define FORMAT_MAX        63u   /* longer than any format is called */

/* Where in the file the rest stands. */
struct places {
    uint64_t extensions, backing_offset;
    uint32_t backing_bytes;
    bool bitmaps_are_valid;
    struct {
        uint32_t count;
        uint64_t directory_bytes, directory_offset;
    } bitmaps;
};

static uint32_t get32(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return be32toh(value);
}

static uint64_t get64(const unsigned char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof value);
    return be64toh(value);
}

static int read_at(int fd, void *buffer, size_t length, uint64_t offset, struct rp_error *e)
{
    ssize_t got;

    if (offset > INT64_MAX - length)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "it points past the end of any file");
    got = pread(fd, buffer, length, (off_t)offset);
    if (got < 0)
        return rp_fail_errno(e, errno, "reading at %llu", (unsigned long long)offset);
    if ((size_t)got != length)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "it ends within what should be there");
    return 0;
}

static int read_header(int fd, struct qcow2_facts *facts, struct places *places, struct rp_error *e)
{
    unsigned char header[HEADER_BYTES];
    uint32_t bits;
    int rc = read_at(fd, header, sizeof header, 0, e);

    if (rc < 0)
        return rc;
    if (memcmp(header, "QFI\xfb", 4) != 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "it is no qcow2 file");
    facts->version = get32(header + 4);
    places->backing_offset = get64(header + 8);
    places->backing_bytes = get32(header + 16);
    bits = get32(header + 20);
    facts->size_bytes = get64(header + 24);
    if (facts->version < 2 || facts->version > 3)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "it is qcow2 of version %u, which is unknown",
                       facts->version);
    if (bits < 9 || bits > 21)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "its clusters have 2^%u bytes", bits);
    facts->cluster_bytes = 1u << bits;
    places->bitmaps_are_valid = facts->version >= 3 && get64(header + 88) & AUTOCLEAR_BITMAPS;
    places->extensions = facts->version >= 3 ? get32(header + 100) : V2_HEADER_BYTES;
    return 0;
}

/* A text of so many bytes, allocated. */
static int read_text(int fd, uint64_t offset, uint32_t bytes, char **ret_text, struct rp_error *e)
{
    char *text = calloc(1, (size_t)bytes + 1);
    int rc = text ? read_at(fd, text, bytes, offset, e) : rp_fail_memory(e);

    if (rc < 0) {
        free(text);
        return rc;
    }
    *ret_text = text;
    return 0;
}

static int read_extension(int fd, uint32_t type, uint32_t length, uint64_t at,
                          struct qcow2_facts *facts, struct places *places, struct rp_error *e)
{
    unsigned char body[24];
    int rc = 0;

    if (type == EXTENSION_BITMAPS && length >= sizeof body && facts->version >= 3) {
        rc = read_at(fd, body, sizeof body, at, e);
        if (rc < 0)
            return rc;
        places->bitmaps.count = get32(body);
        places->bitmaps.directory_bytes = get64(body + 8);
        places->bitmaps.directory_offset = get64(body + 16);
    } else if (type == EXTENSION_BACKING && length <= FORMAT_MAX && !facts->backing_format) {
        rc = read_text(fd, at, length, &facts->backing_format, e);
    }
    return rc;
}

/* A file without bitmaps and backing file may have no extensions at all. */
static int read_extensions(int fd, struct qcow2_facts *facts, struct places *places,
                           struct rp_error *e)
{
    uint64_t at = places->extensions, end = facts->cluster_bytes;
    unsigned char head[8];
    int rc = 0;

    /* The name may follow without anything that ends them. */
    if (places->backing_offset && places->backing_offset < end)
        end = places->backing_offset;
    for (unsigned i = 0; i < EXTENSIONS_MAX && at + sizeof head <= end; i++) {
        uint32_t type, length;

        rc = read_at(fd, head, sizeof head, at, e);
        if (rc < 0)
            return rc;
        type = get32(head);
        length = get32(head + 4);
        if (type == 0)
            return 0;
        rc = read_extension(fd, type, length, at + sizeof head, facts, places, e);
        if (rc < 0)
            return rc;
        at += sizeof head + (((uint64_t)length + 7) & ~UINT64_C(7));
    }
    return 0;
}

static int read_backing(int fd, struct qcow2_facts *facts, const struct places *places,
                        struct rp_error *e)
{
    if (places->backing_offset == 0 || places->backing_bytes == 0)
        return 0;
    if (places->backing_bytes > BACKING_MAX)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "its backing file's name has %u bytes",
                       places->backing_bytes);
    return read_text(fd, places->backing_offset, places->backing_bytes, &facts->backing, e);
}

/* One entry: 24 fixed bytes, extra data, the name, padded to a multiple of 8. */
static int read_entry(const unsigned char *directory, size_t size, size_t *at,
                      struct qcow2_bitmap *ret_bitmap)
{
    const unsigned char *entry = directory + *at;
    size_t name_bytes, extra_bytes, total;

    if (size - *at < ENTRY_BYTES)
        return -EINVAL;
    name_bytes = (size_t)entry[18] << 8 | entry[19];
    extra_bytes = get32(entry + 20);
    if (extra_bytes > size || name_bytes > size)
        return -EINVAL;
    total = (ENTRY_BYTES + extra_bytes + name_bytes + 7) & ~(size_t)7;
    if (total > size - *at)
        return -EINVAL;
    ret_bitmap->in_use = get32(entry + 12) & FLAG_IN_USE;
    ret_bitmap->name = strndup((const char *)entry + ENTRY_BYTES + extra_bytes, name_bytes);
    *at += total;
    return ret_bitmap->name ? 0 : -ENOMEM;
}

static int parse_directory(const unsigned char *directory, const struct places *places,
                           struct qcow2_facts *facts, struct rp_error *e)
{
    size_t at = 0;

    facts->bitmaps = calloc(places->bitmaps.count + 1, sizeof *facts->bitmaps);
    if (!facts->bitmaps)
        return rp_fail_memory(e);
    while (facts->nbitmaps < places->bitmaps.count) {
        int rc = read_entry(directory, (size_t)places->bitmaps.directory_bytes, &at,
                            &facts->bitmaps[facts->nbitmaps]);
        if (rc < 0)
            return rc == -ENOMEM ? rp_fail_memory(e)
                                 : rp_fail(e, RESULT_INCORRECT_DATA_TYPE,
                                           "its directory of bitmaps makes no sense");
        facts->bitmaps[facts->nbitmaps++].in_use |= !places->bitmaps_are_valid;
    }
    return 0;
}

static int read_bitmaps(int fd, const struct places *places, struct qcow2_facts *facts,
                        struct rp_error *e)
{
    uint64_t bytes = places->bitmaps.directory_bytes;
    unsigned char *directory;
    int rc;

    if (places->bitmaps.count == 0)
        return 0;
    if (places->bitmaps.count > BITMAPS_MAX || bytes > DIRECTORY_MAX)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "its directory of bitmaps makes no sense");
    directory = malloc((size_t)bytes + 1);
    if (!directory)
        return rp_fail_memory(e);
    rc = read_at(fd, directory, (size_t)bytes, places->bitmaps.directory_offset, e);
    if (rc == 0)
        rc = parse_directory(directory, places, facts, e);
    free(directory);
    return rc;
}

static int read_rest(int fd, struct qcow2_facts *facts, struct places *places, struct rp_error *e)
{
    int rc = read_backing(fd, facts, places, e);

    if (rc == 0)
        rc = read_extensions(fd, facts, places, e);
    return rc == 0 ? read_bitmaps(fd, places, facts, e) : rc;
}

static int read_file(const char *path, bool with_rest, struct qcow2_facts *ret_facts,
                     struct rp_error *e)
{
    struct qcow2_facts facts = {0};
    struct places places = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    if (fd < 0)
        return rp_fail_errno(e, errno, "cannot open '%s'", path);
    rc = read_header(fd, &facts, &places, e);
    if (rc == 0 && with_rest)
        rc = read_rest(fd, &facts, &places, e);
    close(fd);
    if (rc < 0) {
        qcow2_file_clear(&facts);
        rp_error_prefix(e, "'%s': ", path);
        return rc;
    }
    *ret_facts = facts;
    return 0;
}

int qcow2_file_read(const char *path, struct qcow2_facts *ret_facts, struct rp_error *e)
{
    return read_file(path, true, ret_facts, e);
}

int qcow2_file_read_header(const char *path, struct qcow2_facts *ret_facts, struct rp_error *e)
{
    return read_file(path, false, ret_facts, e);
}

void qcow2_file_clear(struct qcow2_facts *facts)
{
    for (size_t i = 0; i < facts->nbitmaps; i++)
        free(facts->bitmaps[i].name);
    free(facts->bitmaps);
    free(facts->backing);
    free(facts->backing_format);
    *facts = (struct qcow2_facts){0};
}

const struct qcow2_bitmap *qcow2_file_find_bitmap(const struct qcow2_facts *facts, const char *name)
{
    for (size_t i = 0; i < facts->nbitmaps; i++)
        if (strcmp(facts->bitmaps[i].name, name) == 0)
            return &facts->bitmaps[i];
    return NULL;
}

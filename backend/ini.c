// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * INI text through inih, one line at a time: the reader below finds the lines, judges their bytes
 * and keeps their values; inih is shown "[section]" and "name=" and keeps the structure. A value
 * never passes through inih, which would cut it at 199 bytes or at " ;". Knows no key and no
 * section by name. No state outside the call; any thread.
 */
#include "ini.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>
#ifndef INI_API
#error "<ini.h> is not inih's: build without -I of this directory"
#endif

struct reader {
    char *next, *end; /* what has not been read, in a writable copy that ends in a NUL */
    unsigned line;    /* the one read last, from 1 */
    char *value;      /* of that line */
    ini_entry *entry;
    ini_section *section;
    void *opaque;
    int status; /* 0, or the -errno that ends the parse at `line` */
    struct rp_error *e;
};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Trims [begin, end) in place, ends it in a NUL and returns where it begins. */
static char *trim(char *begin, char *end)
{
    while (begin < end && is_blank(*begin))
        begin++;
    while (end > begin && is_blank(end[-1]))
        end--;
    *end = '\0';
    return begin;
}

static int refuse(struct reader *r, const char *sentence)
{
    return rp_fail(r->e, RESULT_INCORRECT_DATA_TYPE, "line %u: %s", r->line, sentence);
}

static int check_bytes(struct reader *r, const char *line, const char *end)
{
    for (const char *s = line; s < end;) {
        size_t len = rp_utf8_sequence(s, (size_t)(end - s));
        if (*s == '\0')
            return rp_fail(r->e, RESULT_INCORRECT_DATA_TYPE, "line %u: byte %zu is NUL", r->line,
                           (size_t)(s - line) + 1);
        if (len == 0)
            return rp_fail(r->e, RESULT_INCORRECT_DATA_TYPE,
                           "line %u: byte %zu (0x%02x) is not UTF-8", r->line,
                           (size_t)(s - line) + 1, (unsigned char)*s);
        s += len;
    }
    return 0;
}

/* Shows inih the line "name=", without the value, which stays here. */
static int show_setting(struct reader *r, char *line, char *out, size_t size)
{
    char *equals = strchr(line, '=');
    char *name;

    if (!equals)
        return refuse(r, strchr(line, ':') ? "a setting is written NAME=VALUE, with '=' and not ':'"
                                           : "neither NAME=VALUE, [SECTION] nor a comment");
    name = trim(line, equals);
    r->value = trim(equals + 1, strchr(equals + 1, '\0'));
    if (*name == '\0')
        return refuse(r, "there is no name before '='");
    /* inih would take the ':' for the separator and the rest of the name for the value. */
    if (strchr(name, ':'))
        return refuse(r, "a setting is written NAME=VALUE, with '=' and not ':'");
    if (strlen(name) > INI_NAME_MAX || (size_t)snprintf(out, size, "%s=\n", name) >= size)
        return rp_fail(r->e, RESULT_INCORRECT_DATA_TYPE,
                       "line %u: the name before '=' is longer than %d bytes", r->line,
                       INI_NAME_MAX);
    return 0;
}

/* Shows inih the line "[section]". inih overlooks what follows the ']', so that is judged here. */
static int show_section(struct reader *r, char *line, char *out, size_t size)
{
    char *close = strchr(line, ']');

    if (!close || close[1] != '\0' || close == line + 1)
        return refuse(r, "a section is written [NAME], alone on its line");
    if (close - line - 1 > INI_SECTION_MAX || (size_t)snprintf(out, size, "%s\n", line) >= size)
        return rp_fail(r->e, RESULT_INCORRECT_DATA_TYPE,
                       "line %u: the name of the section is longer than %d bytes", r->line,
                       INI_SECTION_MAX);
    *close = '\0';
    return r->section ? r->section(r->opaque, line + 1, r->line, r->e) : 0;
}

/* inih's fgets(): one call a line, also for lines it need not see, so that it counts as we do. */
static char *read_line(char *out, int size, void *opaque)
{
    struct reader *r = opaque;
    char *line = r->next, *end;

    if (r->status || line == r->end)
        return NULL;
    end = memchr(line, '\n', (size_t)(r->end - line));
    r->next = end ? end + 1 : r->end;
    end = end ? end : r->end;
    r->line++;

    snprintf(out, (size_t)size, "\n");
    r->status = check_bytes(r, line, end);
    if (r->status)
        return NULL;
    line = trim(line, end);
    if (*line == '[')
        r->status = show_section(r, line, out, (size_t)size);
    else if (*line != '\0' && *line != ';' && *line != '#')
        r->status = show_setting(r, line, out, (size_t)size);
    return r->status ? NULL : out;
}

static int take_entry(void *opaque, const char *section, const char *name, const char *value)
{
    struct reader *r = opaque;

    (void)value; /* empty: see read_line() */
    r->status = r->entry(r->opaque, section, name, r->value, r->line, r->e);
    return r->status == 0;
}

static int run(struct reader *r)
{
    int at_fault = ini_parse_stream(read_line, r, take_entry, r);

    if (at_fault < 0)
        return rp_fail_memory(r->e);
    /* A line that the reader let pass and inih did not; it has gone on to later ones since. */
    if (at_fault > 0 && (!r->status || (unsigned)at_fault != r->line)) {
        r->line = (unsigned)at_fault;
        return refuse(r, "neither NAME=VALUE, [SECTION] nor a comment");
    }
    return r->status;
}

int ini_read_sections(const char *text, size_t length, bool whole, ini_entry *entry,
                      ini_section *section, void *opaque, struct rp_error *e)
{
    static const char bom[] = "\xef\xbb\xbf";
    struct reader r = {.entry = entry, .section = section, .opaque = opaque, .e = e};
    char *copy;
    int status;

    if (!whole)
        while (length > 0 && text[length - 1] != '\n')
            length--;
    copy = malloc(length + 1);
    if (!copy)
        return rp_fail_memory(e);
    if (length > 0)
        memcpy(copy, text, length);
    copy[length] = '\0';

    r.next = copy;
    r.end = copy + length;
    if (length >= strlen(bom) && memcmp(copy, bom, strlen(bom)) == 0)
        r.next += strlen(bom);
    status = run(&r);
    free(copy);
    return status;
}

int ini_read(const char *text, size_t length, bool whole, ini_entry *entry, void *opaque,
             struct rp_error *e)
{
    return ini_read_sections(text, length, whole, entry, NULL, opaque, e);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Printing of key=value lines (record.h). Knows no object and no file; any thread.
 */
#include "record.h"

#include <inttypes.h>

void record_escape(FILE *out, const char *value)
{
    for (const char *s = value; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\%03o", c);
        else
            putc(c, out);
    }
}

void record_text(FILE *out, const char *key, const char *value)
{
    fprintf(out, "%s=", key);
    record_escape(out, value ? value : "");
    putc('\n', out);
}

void record_number(FILE *out, const char *key, uint64_t value)
{
    fprintf(out, "%s=%" PRIu64 "\n", key, value);
}

void record_bool(FILE *out, const char *key, bool value)
{
    fprintf(out, "%s=%s\n", key, value ? "yes" : "no");
}

void record_time(FILE *out, const char *key, struct timespec time)
{
    char text[64] = "";
    struct tm tm;

    if (time.tv_sec != 0 && gmtime_r(&time.tv_sec, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    fprintf(out, "%s=%s\n", key, text);
}

void record_empty(FILE *out, const char *key)
{
    fprintf(out, "%s=\n", key);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void record_trim(const char **text, size_t *length)
{
    while (*length > 0 && is_space(**text)) {
        (*text)++;
        (*length)--;
    }
    while (*length > 0 && is_space((*text)[*length - 1]))
        (*length)--;
}

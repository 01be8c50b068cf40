// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Structs as lines of key=value. INI trims values and wants UTF-8, so all that is not plain is
 * escaped as a backslash and three octal digits.
 */
#include "fields.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *member(const struct field *field, void *object)
{
    return (char *)object + field->offset;
}

static const void *const_member(const struct field *field, const void *object)
{
    return (const char *)object + field->offset;
}

/* ---- printing ---- */

static void print_escaped(const char *text, size_t length, FILE *out)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool at_edge = i == 0 || i + 1 == length;

        if (c < ' ' || c >= 0x7f || c == '\\' || (c == ' ' && at_edge))
            fprintf(out, "\\%03o", c);
        else
            fputc(c, out);
    }
}

static void print_lines(const char *key, const char *lines, FILE *out)
{
    while (*lines) {
        size_t length = strcspn(lines, "\n");

        fprintf(out, "%s=", key);
        print_escaped(lines, length, out);
        fputc('\n', out);
        lines += length + (lines[length] == '\n');
    }
}

static void print_one(const struct field *field, const void *value, FILE *out)
{
    const struct timespec *time = value;

    if (field->kind == FIELD_LINES) {
        print_lines(field->key, *(char *const *)value, out);
        return;
    }
    fprintf(out, "%s=", field->key);
    switch (field->kind) {
    case FIELD_TEXT:
        print_escaped(*(char *const *)value, strlen(*(char *const *)value), out);
        break;
    case FIELD_NUMBER:
        fprintf(out, "%" PRIu64, *(const uint64_t *)value);
        break;
    case FIELD_FLAG:
        fputs(*(const bool *)value ? "yes" : "no", out);
        break;
    case FIELD_TIME:
        fprintf(out, "%lld.%09ld", (long long)time->tv_sec, time->tv_nsec);
        break;
    case FIELD_LINES:
        break;
    }
    fputc('\n', out);
}

void fields_print(const struct field *fields, const void *object, FILE *out)
{
    for (; fields->key; fields++)
        print_one(fields, const_member(fields, object), out);
}

/* ---- reading ---- */

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* What three octal digits say; -1 when they are none, or too much for a byte. */
static int read_octal(const char *text)
{
    if (!is_octal(text[0]) || !is_octal(text[1]) || !is_octal(text[2]) || text[0] > '3')
        return -1;
    return (text[0] - '0') * 64 + (text[1] - '0') * 8 + (text[2] - '0');
}

/* Appends to `before`, which may be NULL, and a NUL in a text is no text of ours. */
static int append_unescaped(const char *before, const char *value, char **ret_text)
{
    size_t used = before ? strlen(before) : 0;
    char *text = malloc(used + strlen(value) + 2);

    if (!text)
        return -ENOMEM;
    if (before)
        memcpy(text, before, used);
    while (*value) {
        int c = (unsigned char)*value++;

        if (c == '\\') {
            c = read_octal(value);
            value += 3;
        }
        if (c <= 0) {
            free(text);
            return -EINVAL;
        }
        text[used++] = (char)c;
    }
    text[used] = '\0';
    *ret_text = text;
    return 0;
}

static int take_text(char **slot, const char *value, bool is_line)
{
    char *text;
    int rc = append_unescaped(is_line ? *slot : NULL, value, &text);

    if (rc < 0)
        return rc;
    if (is_line)
        memcpy(text + strlen(text), "\n", 2); /* room for it is there */
    free(*slot);
    *slot = text;
    return 0;
}

static int take_number(const char *value, uint64_t *ret_number, char end)
{
    char *rest;

    errno = 0;
    if (*value < '0' || *value > '9')
        return -EINVAL;
    *ret_number = strtoull(value, &rest, 10);
    return errno || *rest != end ? -EINVAL : 0;
}

static int take_time(struct timespec *time, const char *value)
{
    const char *dot = strchr(value, '.');
    uint64_t seconds = 0, nanoseconds = 0;

    if (!dot || take_number(value, &seconds, '.') < 0 ||
        take_number(dot + 1, &nanoseconds, '\0') < 0)
        return -EINVAL;
    if (seconds > INT64_MAX || nanoseconds >= 1000000000)
        return -EINVAL;
    *time = (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)nanoseconds};
    return 0;
}

static int take_flag(bool *flag, const char *value)
{
    *flag = strcmp(value, "yes") == 0;
    return *flag || strcmp(value, "no") == 0 ? 0 : -EINVAL;
}

int fields_take(const struct field *fields, void *object, const char *key, const char *value)
{
    while (fields->key && strcmp(fields->key, key) != 0)
        fields++;
    if (!fields->key)
        return 0;
    switch (fields->kind) {
    case FIELD_TEXT:
    case FIELD_LINES:
        return take_text(member(fields, object), value, fields->kind == FIELD_LINES);
    case FIELD_NUMBER:
        return take_number(value, member(fields, object), '\0');
    case FIELD_FLAG:
        return take_flag(member(fields, object), value);
    case FIELD_TIME:
        return take_time(member(fields, object), value);
    }
    return -EINVAL;
}

int fields_complete(const struct field *fields, void *object)
{
    for (; fields->key; fields++) {
        char **text = member(fields, object);

        if (fields->kind != FIELD_TEXT && fields->kind != FIELD_LINES)
            continue;
        if (!*text && !(*text = strdup("")))
            return -ENOMEM;
    }
    return 0;
}

void fields_clear(const struct field *fields, void *object)
{
    for (; fields->key; fields++)
        if (fields->kind == FIELD_TEXT || fields->kind == FIELD_LINES) {
            char **text = member(fields, object);

            free(*text);
            *text = NULL;
        }
}

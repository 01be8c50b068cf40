// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The kinds of values a setting can have: how each is read from text, written back, copied and
 * freed. Knows no key by name. No state; any thread.
 */
#include "settings-kinds.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ZSTD_LEVEL_MAX 19 /* the levels above need memory without bound (--ultra) */
#define TIMEOUT_MAX    (365 * 24 * 3600)

/* ---- words and numbers ---- */

static void *field(const struct settings_row *row, struct export_settings *s)
{
    return (char *)s + row->offset;
}

static const void *field_const(const struct settings_row *row, const struct export_settings *s)
{
    return (const char *)s + row->offset;
}

/* Reads decimal digits at *ret_rest, which ends up behind them. False: none, or out of range. */
static bool read_number(const char **ret_rest, uint64_t *ret_number, bool *ret_too_large)
{
    const char *digit = *ret_rest;
    uint64_t number = 0;

    *ret_too_large = false;
    for (; *digit >= '0' && *digit <= '9'; digit++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*digit - '0'), &number))
            *ret_too_large = true;
    if (digit == *ret_rest)
        return false;
    *ret_rest = digit;
    *ret_number = number;
    return true;
}

/* Each enum of a choice is read and written as an int. */
_Static_assert(sizeof(enum settings_format) == sizeof(int) &&
                   sizeof(enum settings_checksum) == sizeof(int) &&
                   sizeof(enum settings_base_lost) == sizeof(int),
               "choices are ints");

static int parse_choice(const struct settings_row *row, const char *value,
                        struct export_settings *s, struct rp_error *e)
{
    char known[128] = "";

    for (int i = 0; row->words[i]; i++) {
        if (strcasecmp(value, row->words[i]) == 0) {
            memcpy(field(row, s), &i, sizeof i);
            return 0;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? " or " : "", row->words[i]);
    }
    return rp_fail(e, RESULT_INVALID_PARAMETER, "%s is '%s', but can be %s", row->key, value,
                   known);
}

static void print_choice(const struct settings_row *row, const struct export_settings *s, FILE *out)
{
    int i;

    memcpy(&i, field_const(row, s), sizeof i);
    fputs(row->words[i], out);
}

const struct settings_kind settings_kind_choice = {.parse = parse_choice, .print = print_choice};

static int parse_yes_no(const struct settings_row *row, const char *value,
                        struct export_settings *s, struct rp_error *e)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(value, words[i]) == 0) {
            *(bool *)field(row, s) = i % 2;
            return 0;
        }
    return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "%s is '%s', but can be yes or no", row->key,
                   value);
}

static void print_yes_no(const struct settings_row *row, const struct export_settings *s, FILE *out)
{
    fputs(*(const bool *)field_const(row, s) ? "yes" : "no", out);
}

const struct settings_kind settings_kind_yes_no = {.parse = parse_yes_no, .print = print_yes_no};

static int parse_compression(const struct settings_row *row, const char *value,
                             struct export_settings *s, struct rp_error *e)
{
    static const char zstd[] = "zstd:";
    uint64_t level = 0;
    bool too_large = false;

    if (strcasecmp(value, "none") == 0) {
        s->compression = SETTINGS_COMPRESSION_NONE;
        return 0;
    }
    if (strncasecmp(value, zstd, strlen(zstd)) == 0) {
        const char *rest = value + strlen(zstd);
        if (!read_number(&rest, &level, &too_large) || *rest)
            return rp_fail(e, RESULT_INCORRECT_DATA_TYPE,
                           "%s is '%s', but the level of zstd is a number", row->key, value);
        if (too_large || level < 1 || level > ZSTD_LEVEL_MAX)
            return rp_fail(e, RESULT_INVALID_PARAMETER,
                           "%s is '%s', but the levels of zstd are 1 to %d", row->key, value,
                           ZSTD_LEVEL_MAX);
    } else if (strcasecmp(value, "zstd") != 0) {
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "%s is '%s', but can be none, zstd or zstd:LEVEL", row->key, value);
    }
    s->compression = SETTINGS_COMPRESSION_ZSTD;
    s->compression_level = (int)level;
    return 0;
}

static void print_compression(const struct settings_row *row, const struct export_settings *s,
                              FILE *out)
{
    (void)row;
    fputs(s->compression == SETTINGS_COMPRESSION_ZSTD ? "zstd" : "none", out);
    if (s->compression_level)
        fprintf(out, ":%d", s->compression_level);
}

const struct settings_kind settings_kind_compression = {.parse = parse_compression,
                                                        .print = print_compression};

/* How many bits the suffix shifts by; -1 for none that is known. */
static int suffix_bits(const char *suffix)
{
    static const char suffixes[] = "kKmMgG";
    const char *found;

    if (*suffix == '\0')
        return 0;
    found = strchr(suffixes, *suffix);
    return found && suffix[1] == '\0' ? 10 * (1 + (int)(found - suffixes) / 2) : -1;
}

static int parse_bandwidth(const struct settings_row *row, const char *value,
                           struct export_settings *s, struct rp_error *e)
{
    const char *rest = value;
    uint64_t number;
    bool too_large;
    int bits;

    if (!read_number(&rest, &number, &too_large) || (bits = suffix_bits(rest)) < 0)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE,
                       "%s is '%s', but is a whole number with K, M, G or nothing behind it",
                       row->key, value);
    /* Signed, so that byte counts computed from it fit an off_t. */
    if (too_large || number > (uint64_t)INT64_MAX >> bits)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s is '%s', but can be at most %" PRId64,
                       row->key, value, INT64_MAX);
    s->has_bandwidth = true;
    s->bandwidth_bytes = number << bits;
    return 0;
}

static void print_number(const struct settings_row *row, const struct export_settings *s, FILE *out)
{
    fprintf(out, "%" PRIu64, *(const uint64_t *)field_const(row, s));
}

static bool bandwidth_is_set(const struct settings_row *row, const struct export_settings *s)
{
    (void)row;
    return s->has_bandwidth;
}

const struct settings_kind settings_kind_bandwidth = {
    .parse = parse_bandwidth, .print = print_number, .is_set = bandwidth_is_set};

static int parse_seconds(const struct settings_row *row, const char *value,
                         struct export_settings *s, struct rp_error *e)
{
    const char *rest = value;
    uint64_t number;
    bool too_large;

    if (!read_number(&rest, &number, &too_large) || *rest)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE,
                       "%s is '%s', but is a whole number of seconds", row->key, value);
    if (too_large || number > TIMEOUT_MAX)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "%s is '%s', but can be at most %d seconds (a year)", row->key, value,
                       TIMEOUT_MAX);
    *(uint64_t *)field(row, s) = number;
    return 0;
}

const struct settings_kind settings_kind_seconds = {.parse = parse_seconds, .print = print_number};

/* ---- texts ---- */

static int parse_text(const struct settings_row *row, const char *value, struct export_settings *s,
                      struct rp_error *e)
{
    char *copy;

    if (strlen(value) > SETTINGS_VALUE_MAX)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s has %zu bytes, but can have at most %d",
                       row->key, strlen(value), SETTINGS_VALUE_MAX);
    copy = strdup(value);
    if (!copy)
        return rp_fail_memory(e);
    *(char **)field(row, s) = copy;
    return 0;
}

static int parse_path(const struct settings_row *row, const char *value, struct export_settings *s,
                      struct rp_error *e)
{
    if (*value != '/')
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "%s is a full path: it begins with '/', without quotes", row->key);
    return parse_text(row, value, s, e);
}

static void print_text(const struct settings_row *row, const struct export_settings *s, FILE *out)
{
    fputs(*(char *const *)field_const(row, s), out);
}

static bool text_is_set(const struct settings_row *row, const struct export_settings *s)
{
    return *(char *const *)field_const(row, s) != NULL;
}

static int copy_text(const struct settings_row *row, const struct export_settings *s,
                     struct export_settings *to)
{
    char *copy = strdup(*(char *const *)field_const(row, s));

    *(char **)field(row, to) = copy;
    return copy ? 0 : -ENOMEM;
}

static void clear_text(const struct settings_row *row, struct export_settings *s)
{
    free(*(char **)field(row, s));
}

const struct settings_kind settings_kind_path = {.parse = parse_path,
                                                 .print = print_text,
                                                 .is_set = text_is_set,
                                                 .copy = copy_text,
                                                 .clear = clear_text};
const struct settings_kind settings_kind_text = {.parse = parse_text,
                                                 .print = print_text,
                                                 .is_set = text_is_set,
                                                 .copy = copy_text,
                                                 .clear = clear_text};

/* ---- lists of disks ---- */

static int add_disk(struct export_settings *s, const char *name, size_t length)
{
    char **grown = reallocarray(s->disks, s->ndisks + 1, sizeof *grown);

    if (!grown)
        return -ENOMEM;
    s->disks = grown;
    s->disks[s->ndisks] = strndup(name, length);
    if (!s->disks[s->ndisks])
        return -ENOMEM;
    s->ndisks++;
    return 0;
}

static bool has_disk(const struct export_settings *s, const char *name, size_t length)
{
    for (size_t i = 0; i < s->ndisks; i++)
        if (strncmp(s->disks[i], name, length) == 0 && s->disks[i][length] == '\0')
            return true;
    return false;
}

static int parse_disk(const struct settings_row *row, const char *name, size_t length,
                      struct export_settings *s, struct rp_error *e)
{
    if (length > SETTINGS_DISK_MAX)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "%s names a disk with %zu bytes, but a target has at most %d", row->key,
                       length, SETTINGS_DISK_MAX);
    if (has_disk(s, name, length))
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s names '%.*s' twice", row->key, (int)length,
                       name);
    if (s->ndisks == SETTINGS_DISKS_MAX)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s names more than %d disks", row->key,
                       SETTINGS_DISKS_MAX);
    return add_disk(s, name, length) < 0 ? rp_fail_memory(e) : 0;
}

static int parse_disks(const struct settings_row *row, const char *value, struct export_settings *s,
                       struct rp_error *e)
{
    static const char separators[] = ", \t";
    size_t before = s->ndisks;
    size_t length;

    for (value += strspn(value, separators); *value; value += strspn(value, separators)) {
        length = strcspn(value, separators);
        int status = parse_disk(row, value, length, s, e);
        if (status < 0)
            return status;
        value += length;
    }
    if (s->ndisks == before)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "%s names no disk", row->key);
    return 0;
}

static void print_disks(const struct settings_row *row, const struct export_settings *s, FILE *out)
{
    (void)row;
    for (size_t i = 0; i < s->ndisks; i++)
        fprintf(out, "%s%s", i ? "," : "", s->disks[i]);
}

static bool disks_are_set(const struct settings_row *row, const struct export_settings *s)
{
    (void)row;
    return s->ndisks > 0;
}

static int copy_disks(const struct settings_row *row, const struct export_settings *s,
                      struct export_settings *to)
{
    (void)row;
    for (size_t i = 0; i < s->ndisks; i++)
        if (add_disk(to, s->disks[i], strlen(s->disks[i])) < 0)
            return -ENOMEM;
    return 0;
}

static void clear_disks(const struct settings_row *row, struct export_settings *s)
{
    (void)row;
    for (size_t i = 0; i < s->ndisks; i++)
        free(s->disks[i]);
    free(s->disks);
}

const struct settings_kind settings_kind_disks = {.parse = parse_disks,
                                                  .print = print_disks,
                                                  .is_set = disks_are_set,
                                                  .copy = copy_disks,
                                                  .clear = clear_disks,
                                                  .can_repeat = true};

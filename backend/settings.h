/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The settings INI that is written to `export`, read into a struct by one table of keys. Text in,
 * struct out: knows nothing of VMs, directories or jobs, does no I/O. Any thread.
 */
#ifndef REFPOINTFS_SETTINGS_H
#define REFPOINTFS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"

#define SETTINGS_TEXT_MAX (64 * 1024) /* longest text; past it EFBIG */

enum setting {
    SETTING_NAME,
    SETTING_EXPORT_DIRECTORY,
    SETTING_BASE_REFPOINT,
    SETTING_DISKS,
    SETTING_FORMAT,
    SETTING_COMPRESSION,
    SETTING_CHECKSUM,
    SETTING_BASE_EXPORT_DIRECTORY,
    SETTING_IF_BASE_LOST,
    SETTING_REQUIRE_EXACT,
    SETTING_BANDWIDTH,
    SETTING_TIMEOUT,
    SETTING_KEEP_HOLD,
    SETTING_REFPOINT,
    SETTING_CONSISTENCY,
    SETTING_HOLD,
    SETTING_COUNT
};

enum settings_format { SETTINGS_FORMAT_QCOW2, SETTINGS_FORMAT_RAW };
enum settings_compression { SETTINGS_COMPRESSION_NONE, SETTINGS_COMPRESSION_ZSTD };
enum settings_checksum { SETTINGS_CHECKSUM_SHA256, SETTINGS_CHECKSUM_NONE };
enum settings_base_lost { SETTINGS_BASE_LOST_FAIL, SETTINGS_BASE_LOST_FULL };

enum settings_consistency {
    SETTINGS_CONSISTENCY_AUTO, /* application consistent where that can be had */
    SETTINGS_CONSISTENCY_APPLICATION,
    SETTINGS_CONSISTENCY_CRASH,
};

/* Which file the text was written to: each has its own keys. */
enum settings_scope {
    SETTINGS_OF_REFPOINT, /* refpoints/<name>/export */
    SETTINGS_OF_VM,       /* vms/<vm>/export */
    SETTINGS_OF_CREATE,   /* vms/<vm>/create */
};

/* A zeroed struct is "no settings"; strings are owned by it and freed by settings_clear(). */
struct export_settings {
    char *export_directory; /* absolute, NULL if not given */
    char *base_refpoint;    /* as written: a name or a path; NULL = full export */
    char **disks;           /* ndisks targets, each once, in the order given; NULL = all */
    size_t ndisks;
    enum settings_format format;
    enum settings_compression compression;
    int compression_level; /* of zstd; 0 = the default level */
    enum settings_checksum checksum;
    char *base_export_directory; /* absolute, or NULL = where the service last exported the base */
    enum settings_base_lost if_base_lost;
    bool require_exact;
    bool has_bandwidth;       /* false: the mount's default holds */
    uint64_t bandwidth_bytes; /* per second; 0 = no limit */
    uint64_t timeout_seconds; /* 0 = none */
    bool keep_hold;
    char *refpoint; /* only in vms/<vm>/export; NULL = none */
    char *name;     /* this and the next two only in vms/<vm>/create */
    enum settings_consistency consistency;
    uint64_t hold_seconds; /* 0 = the mount's default */
    /* Line (from 1) on which each setting first stands, 0 where it does not: for messages. */
    unsigned line[SETTING_COUNT];
    unsigned count; /* settings given; 0 = the text holds only comments, and starts nothing */
};

/* The user's spelling of a key, e.g. "ExportDirectory". */
const char *settings_key(enum setting setting);

/*
 * Parses `length` bytes (not NUL-terminated; a NUL byte is refused). With `whole` false, only
 * complete lines, those that end in '\n', are judged: the rest may still be on its way. With
 * `whole` true, the last line counts without its '\n' and, when any setting is given, what concerns
 * several keys is checked too (ExportDirectory missing, raw with a base, ...). `of_vm` says whether
 * ReferencePoint= is allowed (vms/<vm>/export).
 *
 * On failure *ret is untouched and the message begins "line N: " wherever a line is at fault.
 * Results: RESULT_INCORRECT_DATA_TYPE (not UTF-8, NUL, a line that is neither section, key nor
 * comment, a value of the wrong type), RESULT_INVALID_PARAMETER (unknown or repeated key or
 * section, value out of range or not one of the words, relative path, no value at all, control
 * characters), RESULT_NOT_SUPPORTED (raw with a base or compression). A text longer than
 * SETTINGS_TEXT_MAX is RESULT_INVALID_PARAMETER with -EFBIG.
 */
int settings_parse(const char *text, size_t length, bool whole, enum settings_scope scope,
                   struct export_settings *ret_settings, struct rp_error *e);

void settings_clear(struct export_settings *settings);

/* Deep copy, for a job that outlives the text it came from. *ret_copy is untouched on failure. */
int settings_copy(const struct export_settings *settings, struct export_settings *ret_copy,
                  struct rp_error *e);

/*
 * The settings as understood, defaults filled in, as an INI that settings_parse() accepts. Parsed
 * again it gives the same settings, `line` and `count` aside.
 */
void settings_print(const struct export_settings *settings, enum settings_scope scope, FILE *out);

/*
 * A comment-only text that documents every key with its default: what reading `export` gives.
 * `disks` and `bases` (each may be NULL) are shown as the real choices, in lines already joined by
 * spaces. Parsing it yields no setting.
 */
void settings_print_template(FILE *out, enum settings_scope scope, const char *disks,
                             const char *bases);

#endif

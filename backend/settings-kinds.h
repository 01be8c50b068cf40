/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What can stand behind the '=' of a setting: the kinds of values that the table in settings.c is
 * made of. Internal to settings.c.
 */
#ifndef REFPOINTFS_SETTINGS_KINDS_H
#define REFPOINTFS_SETTINGS_KINDS_H

#include "settings.h"

/* Limits, so that what settings_print() gives is always short enough to be parsed again. */
#define SETTINGS_VALUE_MAX 4095 /* bytes of a path or name: PATH_MAX without its NUL */
#define SETTINGS_DISKS_MAX 1024 /* also bounds the search for disks named twice */
#define SETTINGS_DISK_MAX  32   /* bytes; libvirt's targets are a bus and a letter or two */

struct settings_row;

struct settings_kind {
    /*
     * Sets the field from `value`, which is not empty and has no control characters but tabs. The
     * sentence of a failure begins with the key; the caller puts "line N: " in front.
     */
    int (*parse)(const struct settings_row *row, const char *value, struct export_settings *s,
                 struct rp_error *e);
    /* Writes the value alone. */
    void (*print)(const struct settings_row *row, const struct export_settings *s, FILE *out);
    /* Whether there is a value to print or copy; NULL: always. */
    bool (*is_set)(const struct settings_row *row, const struct export_settings *s);
    /* For kinds that own memory, else NULL. copy() finds the field zeroed; 0 or -ENOMEM. */
    int (*copy)(const struct settings_row *row, const struct export_settings *s,
                struct export_settings *to);
    void (*clear)(const struct settings_row *row, struct export_settings *s);
    bool can_repeat; /* the key may stand on several lines, which add up */
};

struct settings_row {
    const char *key;
    const struct settings_kind *kind;
    size_t offset;            /* of the field in struct export_settings */
    const char *const *words; /* of a choice, in the order of its enum, up to a NULL */
    const char *initial;      /* the default as it would be written; NULL: absence is the default */
    const char *example;      /* shown in the template where there is no default */
    const char *help;         /* lines of the template */
    unsigned scopes;          /* where it can stand: bits 1 << enum settings_scope */
};

extern const struct settings_kind settings_kind_choice;
extern const struct settings_kind settings_kind_yes_no;
extern const struct settings_kind settings_kind_compression;
extern const struct settings_kind settings_kind_bandwidth;
extern const struct settings_kind settings_kind_seconds;
extern const struct settings_kind settings_kind_text;
extern const struct settings_kind settings_kind_path; /* a text that begins with '/' */
extern const struct settings_kind settings_kind_disks;

#endif

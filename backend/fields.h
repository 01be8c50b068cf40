/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A struct as lines of key=value and back, by a table that says which key is which member: for the
 * texts that survive the service. Any bytes come back as they were. Data in, data out.
 */
#ifndef REFPOINTFS_FIELDS_H
#define REFPOINTFS_FIELDS_H

#include <stddef.h>
#include <stdio.h>

enum field_kind {
    FIELD_TEXT,   /* char *, allocated */
    FIELD_LINES,  /* char *, allocated: the key is repeated for each of its lines */
    FIELD_NUMBER, /* uint64_t */
    FIELD_FLAG,   /* bool, yes or no */
    FIELD_TIME,   /* struct timespec; seconds since 1970 with nine decimals */
};

struct field {
    const char *key; /* NULL ends a table */
    enum field_kind kind;
    size_t offset;
};

void fields_print(const struct field *fields, const void *object, FILE *out);

/* One line. 0 also for a key that is not known; -EINVAL for a value that cannot be, -ENOMEM. */
int fields_take(const struct field *fields, void *object, const char *key, const char *value);

/* Gives each text that there is none of an empty one: texts are never NULL then. 0 or -ENOMEM. */
int fields_complete(const struct field *fields, void *object);

/* Frees the texts. */
void fields_clear(const struct field *fields, void *object);

#endif

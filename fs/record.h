/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `key=value` lines: the one form in which the tree's records are printed. A value is always one
 * line, whatever it contains; one that is not known is left empty behind the '='. No state; any
 * thread.
 */
#ifndef REFPOINTFS_RECORD_H
#define REFPOINTFS_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Control characters come out as \ooo (octal), so that no value can forge a line. NULL = "". */
void record_text(FILE *out, const char *key, const char *value);

/* The value alone, without key and newline. */
void record_escape(FILE *out, const char *value);

void record_number(FILE *out, const char *key, uint64_t value);

void record_bool(FILE *out, const char *key, bool value); /* yes or no */

/* RFC 3339, UTC, seconds: 2031-05-06T07:08:09Z. tv_sec 0 = not known. */
void record_time(FILE *out, const char *key, struct timespec time);

/* A key known but without a value now. */
void record_empty(FILE *out, const char *key);

/* For single values that are written: the span of `text` without the white space around it. */
void record_trim(const char **text, size_t *length);

#endif

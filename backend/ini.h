/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * INI text, read through inih; the only file that includes it.
 *
 * inih as distributions build it cuts lines at 199 bytes, takes " ;" inside a value for a comment
 * and an indented line for a continuation. Here values may be as long as the text, are taken
 * literally to the end of the line (surrounding white space trimmed), comments start only at the
 * start of a line, and indentation means nothing.
 */
#ifndef REFPOINTFS_INI_H
#define REFPOINTFS_INI_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

#define INI_NAME_MAX    100 /* longest name before '=', in bytes; longer ones are refused */
#define INI_SECTION_MAX 49  /* the same for a section: what inih keeps of one */

/*
 * Called for each "name = value", in order. `section` is "" before the first section; strings are
 * valid during the call only. `line` counts from 1. A non-zero return (a -errno, *e filled) ends
 * the parse and is what ini_read() returns.
 */
typedef int ini_entry(void *opaque, const char *section, const char *name, const char *value,
                      unsigned line, struct rp_error *e);

/* Called for each "[section]" line, before the entries below it; returns as ini_entry does. */
typedef int ini_section(void *opaque, const char *section, unsigned line, struct rp_error *e);

/*
 * Parses `length` bytes. With `whole` false a last line without '\n' is left alone. Fails with
 * RESULT_INCORRECT_DATA_TYPE and "line N: ..." for NUL bytes, text that is not UTF-8, and lines
 * that are neither "[section]", "name = value" nor a comment. The first line at fault is the one
 * reported; `entry` may have been called for lines before it. A UTF-8 byte order mark at the
 * start and '\r' at the end of lines are tolerated. The separator is '=' alone: "name: value" is
 * refused, so that a ':' in a path can never be taken for one.
 */
int ini_read(const char *text, size_t length, bool whole, ini_entry *entry, void *opaque,
             struct rp_error *e);

/* The same for a caller that minds which sections there are, even those without an entry. */
int ini_read_sections(const char *text, size_t length, bool whole, ini_entry *entry,
                      ini_section *section, void *opaque, struct rp_error *e);

#endif

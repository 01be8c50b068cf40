/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What has to be done with a store (tree.h) and a text, whichever way the text came: piece by
 * piece into an open file (handle.c), or whole, by a rename (replace.c).
 */
#ifndef REFPOINTFS_STORE_H
#define REFPOINTFS_STORE_H

#include "tree.h"

/* May a text be written now? A refusal is remembered and logged. */
int store_begin(const struct node *node, struct rp_error *e);

/* Fails with EFBIG. */
int store_too_long(const struct node *node, struct rp_error *e);

/* A text was refused before commit: remembered where its user can read it, and logged. */
void store_refuse(const struct node *node, const struct rp_error *e);

/* Logs alone: a refusal to commit is remembered by the backend. */
void store_log(const struct node *node, const struct rp_error *e);

/*
 * All that open, write, fsync and close do, for a text that is here in full and not too long. A
 * refusal is remembered and logged. Slow.
 */
int store_take(const struct node *node, const char *text, size_t length,
               const struct caller *caller, struct rp_error *e);

#endif

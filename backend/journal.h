/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must survive the service: a readable text in the state folder, replaced as a whole whenever
 * it changes. It knows where reference points were last exported, so that the next delta finds its
 * backing file, and the last number that a job had.
 */
#ifndef REFPOINTFS_JOURNAL_H
#define REFPOINTFS_JOURNAL_H

#include <stdint.h>
#include <time.h>

#include "error.h"

struct journal;

/*
 * Reads STATE_DIR/journal.ini, which need not exist. One that makes no sense is set aside under
 * another name (*e then says so, though 0 is returned): what it knew is convenient, not vital.
 */
int journal_open(const char *state_dir, struct journal **ret_journal, struct rp_error *e);
void journal_close(struct journal *journal); /* NULL is allowed */

/*
 * Directory of the last export of the point of that VM, name, instant and id ("" = it has none): a
 * point that was deleted and made again is another. Allocated; NULL if none is known. Memory, any
 * thread.
 */
char *journal_get_export(struct journal *journal, const char *uuid, const char *refpoint,
                         time_t created, const char *id);

/* Remembers it, on disk when this returns. Slow. */
int journal_set_export(struct journal *journal, const char *uuid, const char *refpoint,
                       time_t created, const char *id, const char *directory, struct rp_error *e);

/* Forgets the point. Slow. */
void journal_forget(struct journal *journal, const char *uuid, const char *refpoint);

uint64_t journal_last_job(struct journal *journal);
int journal_set_last_job(struct journal *journal, uint64_t id, struct rp_error *e);

#endif

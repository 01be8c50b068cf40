/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What must survive the service, in the state folder: jobs/ID.ini, and of VMs holds/UUID.ini,
 * marks/UUID.ini and exports/UUID.ini, each a readable text of its own (kept.h), so that a change
 * costs the same however much there is. Any thread. What changes something is slow: it writes to
 * the disk.
 */
#ifndef REFPOINTFS_JOURNAL_H
#define REFPOINTFS_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "error.h"
#include "kept.h"

struct journal;

/*
 * Reads what the service before left; there need not be anything. Texts that make no sense are set
 * aside under another name: what they knew is convenient, not vital.
 */
int journal_open(const char *state_dir, struct journal **ret_journal, struct rp_error *e);
void journal_close(struct journal *journal); /* NULL is allowed */

/* ---- jobs ---- */

/* On disk when this returns. */
int journal_write_job(struct journal *journal, const struct kept_job *job, struct rp_error *e);
void journal_remove_job(struct journal *journal, uint64_t id);

/*
 * The jobs of the services before, by ascending number; array and jobs become the caller's, once.
 */
void journal_take_jobs(struct journal *journal, struct kept_job **ret_jobs, size_t *ret_count);

/* The greatest number that a job there had, also one whose text makes no sense; 0: none. */
uint64_t journal_last_job(const struct journal *journal);

/* ---- holds: of a VM, one at most ---- */

/* Not synced: a hold ends with the machine, and so may what is known of it. */
int journal_write_hold(struct journal *journal, const char *uuid, const struct kept_hold *hold,
                       struct rp_error *e);
void journal_remove_hold(struct journal *journal, const char *uuid);

/* What the service before held, once: false when there is none, or it was taken. Memory. */
bool journal_take_hold(struct journal *journal, const char *uuid, struct kept_hold *ret_hold);

/* Takes any one that is left; `ret_uuid` has room for VIRT_UUID_SIZE. Memory. */
bool journal_take_any_hold(struct journal *journal, char *ret_uuid, struct kept_hold *ret_hold);

/* ---- marks of VMs that are off: of a VM, one at most ---- */

/* On disk when this returns. */
int journal_write_mark(struct journal *journal, const char *uuid, const struct kept_mark *mark,
                       struct rp_error *e);
void journal_remove_mark(struct journal *journal, const char *uuid);

/* What is on disk now; false when there is nothing. Slow. */
bool journal_read_mark(struct journal *journal, const char *uuid, struct kept_mark *ret_mark);

/* ---- where reference points were last exported ---- */

/*
 * Directory of the last export of the point of that VM, name, instant and id ("" = it has none): a
 * point that was deleted and made again is another. Allocated; NULL if none is known. Memory.
 */
char *journal_get_export(struct journal *journal, const char *uuid, const char *refpoint,
                         time_t created, const char *id);

/* Remembers it, on disk when this returns. */
int journal_set_export(struct journal *journal, const char *uuid, const char *refpoint,
                       time_t created, const char *id, const char *directory, struct rp_error *e);

void journal_forget(struct journal *journal, const char *uuid, const char *refpoint);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What of a job, a hold, a mark and a VM's exports is kept for the next service: structs and their
 * texts. Data in, data out; the texts are UTF-8 INI, meant to be read by people too.
 *
 * Strings are owned by the struct, and never NULL once it was read.
 */
#ifndef REFPOINTFS_KEPT_H
#define REFPOINTFS_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "error.h"

/* Texts of another version make no sense to this one. */
#define KEPT_VERSION 2

/* ---- a job ---- */

struct kept_job {
    uint64_t id;
    char *vm, *uuid;
    char *refpoint, *point_id; /* "" for the VM as it is; the point's id tells it from its like */
    char *directory, *settings;
    uint64_t state, result; /* enum job_state, enum rp_result */
    char *error;
    uint64_t bytes_done, bytes_total;
    struct timespec moment, submitted, started, ended;
    uint64_t exact; /* enum job_exact */
    uint64_t uid, gid;
    char *groups; /* numbers, separated by spaces */

    /* While it may have left something in the directory: see outdir.h. */
    bool unclean;
    bool made_directory; /* there was none when it was submitted */
    char *tag;           /* in the names of its temporary files */
    char *files;         /* a line for each file that was about to get its name */
};

void kept_job_print(const struct kept_job *job, FILE *out);
int kept_job_parse(const char *text, size_t length, struct kept_job *ret_job, struct rp_error *e);
void kept_job_clear(struct kept_job *job);

/* ---- a hold ---- */

struct kept_disk {
    char *target, *export_name, *base, *bitmap, *why_full, *scratch;
};

struct kept_hold {
    char *refpoint, *id; /* "" for a hold that a job made for itself */
    char *socket;
    char *nvram, *nvram_why; /* as in struct hold */
    bool frozen;
    bool offline;
    bool begun;       /* libvirt has said so */
    uint64_t seconds; /* how long it is kept unused */
    char *boot;       /* the machine's: its clock, and any hold, are of one boot only */
    uint64_t used_ms; /* when last used, of the monotonic clock */
    bool in_use;      /* an export reads it */
    size_t ndisks;
    struct kept_disk *disks;
};

void kept_hold_print(const struct kept_hold *hold, FILE *out);
int kept_hold_parse(const char *text, size_t length, struct kept_hold *ret_hold,
                    struct rp_error *e);
void kept_hold_clear(struct kept_hold *hold);

/* ---- a reference point that is being made of a VM that is off ---- */

struct kept_mark {
    char *refpoint;
    char *files; /* a line for each image that is about to get its bitmap, and had none */
};

void kept_mark_print(const struct kept_mark *mark, FILE *out);
int kept_mark_parse(const char *text, size_t length, struct kept_mark *ret_mark,
                    struct rp_error *e);
void kept_mark_clear(struct kept_mark *mark);

/* ---- where the points of a VM were last exported ---- */

struct kept_export {
    char *refpoint, *id, *directory;
    uint64_t created;
};

struct kept_exports {
    size_t count;
    struct kept_export *items;
};

void kept_exports_print(const struct kept_exports *exports, FILE *out);
int kept_exports_parse(const char *text, size_t length, struct kept_exports *ret_exports,
                       struct rp_error *e);
/* Adds an empty one at the end; NULL when out of memory. */
struct kept_export *kept_exports_add(struct kept_exports *exports);
void kept_exports_remove(struct kept_exports *exports, size_t index);
void kept_exports_clear(struct kept_exports *exports);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One export, from the held instant to the manifest. Runs in the worker of its job; knows the
 * facts it is given and nothing of the registry or the queue.
 */
#ifndef REFPOINTFS_EXPORT_H
#define REFPOINTFS_EXPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "backend.h"
#include "hold.h"
#include "settings.h"
#include "virt.h"

/* How what can be read of a disk relates to the base that was asked for. */
enum export_fit {
    FIT_FULL,      /* no base was asked for */
    FIT_EXACT,     /* its bitmap starts at the base */
    FIT_LARGER,    /* its bitmap starts before the base: right, but more than needed */
    FIT_TOO_SHORT, /* its bitmap starts after the base, or elsewhere: changes would be missed */
    FIT_LOST,      /* there is no usable bitmap */
    FIT_UNTRACKED, /* the disk cannot have one */
    FIT_GONE,      /* the reference point covers it, and the VM has it no longer */
};

struct export_disk {
    char *target;
    enum export_fit fit;
    char *start;            /* reference point its bitmap starts at, or "" */
    char *why;              /* why there is no bitmap, or "" */
    uint32_t cluster_bytes; /* of the image it lies in; 0: not known */
    bool is_encrypted;      /* its image is: what is exported is not */
};

/* What is exported; strings owned and never NULL unless it says so. */
struct export_subject {
    uint64_t vm;
    char *vm_name, *uuid;
    char *refpoint;       /* "" for the VM as it is */
    time_t moment;        /* the instant that the data shows; 0 while nothing is held yet */
    enum job_exact exact; /* whether that is the reference point's instant */
    int consistency_level;
    char id[HOLD_ID_SIZE], base_id[HOLD_ID_SIZE]; /* of the point and its base, or "" */
    struct hold *hold; /* NULL: nothing is held yet, the job has to see to it */
    size_t ndisks;
    struct export_disk *disks; /* all that could be exported */
    char *base;                /* name of the base; NULL for a full export */
    time_t base_created;
    char *base_last_export; /* directory, or "" */
};

void export_subject_clear(struct export_subject *subject);

struct export_request {
    struct virt *virt;
    const struct export_subject *subject;
    const struct export_settings *settings;
    const struct caller *caller;
    uint64_t bandwidth_bytes;
    const char *tag; /* for the names of temporary files */
    /* 0, or -errno with *e filled when the job is to end; called at least every 100 ms, by several
     * threads. */
    int (*check)(void *opaque, struct rp_error *e);
    /* The server that is read from is gone: -errno with *e filled if it can be said why. */
    int (*explain)(void *opaque, struct rp_error *e);
    /* The last question before the export is declared complete: is what was read still true? */
    int (*verify)(void *opaque, struct rp_error *e);
    /* Files are about to get their names: as outdir_print_files() prints them. */
    int (*naming)(void *opaque, const char *files, struct rp_error *e);
    /* The export is complete; if this fails, it is undone. */
    int (*commit)(void *opaque, struct rp_error *e);
    void (*running)(void *opaque, uint64_t bytes_total); /* preparations are over */
    void (*done)(void *opaque, uint64_t bytes_done);     /* by one thread at a time */
    void (*note)(void *opaque, const char *note); /* what a person should know of the export */
    void *opaque;
};

/*
 * What of the settings can be judged without beginning: disks, base, what is not supported. The
 * message names the line where one setting alone is at fault.
 */
int export_check(const struct export_subject *subject, const struct export_settings *settings,
                 enum text_state state, struct rp_error *e);

/* True when the settings want the disk of that target. */
bool export_is_wanted(const struct export_settings *settings, const char *target);

/*
 * Why a disk is exported as it is, for the manifest and its reader. Allocated; NULL when out of
 * memory.
 */
char *export_explain_disk(const struct export_subject *subject, const struct export_disk *disk);

/*
 * Exports. On success the export is complete and on disk; *ret_directory is where, without symbolic
 * links, to be freed by the caller; *ret_stands is false when an increment has no backing file. On
 * failure nothing of it is left.
 */
int export_run(const struct export_request *request, char **ret_directory, bool *ret_stands,
               struct rp_error *e);

#endif

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

/* How the bitmap of a held disk relates to the base that was asked for. */
enum export_fit {
    FIT_NO_BITMAP, /* the disk is held in full */
    FIT_EXACT,     /* it starts at the base */
    FIT_LARGER,    /* it starts before the base: right, but more than needed */
    FIT_TOO_SHORT, /* it starts after the base, or elsewhere: changes would be missed */
};

/* What is exported; strings owned, cleared by export_subject_clear(). */
struct export_subject {
    uint64_t vm;
    char *vm_name, *uuid, *refpoint;
    time_t created;
    struct hold *hold;     /* NULL when the point is bare */
    enum export_fit *fits; /* for each disk of the hold, when there is a base */
    char *base;            /* name of the base; NULL for a full export */
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
    /* 0, or -errno with *e filled when the job is to end; called at least every 100 ms. */
    int (*check)(void *opaque, struct rp_error *e);
    void (*running)(void *opaque, uint64_t bytes_total); /* preparations are over */
    void (*done)(void *opaque, uint64_t bytes_done);
    void *opaque;
};

/*
 * What of the settings can be judged without beginning: disks, base, what is not supported. The
 * message names the line where one setting alone is at fault.
 */
int export_check(const struct export_subject *subject, const struct export_settings *settings,
                 struct rp_error *e);

/*
 * Exports. On success the export is complete and on disk; *ret_directory is where, without symbolic
 * links, to be freed by the caller. On failure nothing of it is left.
 */
int export_run(const struct export_request *request, char **ret_directory, struct rp_error *e);

#endif

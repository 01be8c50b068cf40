/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The instant that is held: a libvirt checkpoint and a pull-mode backup job begun together. QEMU
 * then saves the old data of every cluster before it is overwritten, in a scratch file per disk,
 * and offers the disks as they were over NBD on a unix socket.
 *
 * A hold here is a plain record of what was begun; who may begin or end one, and when, is decided
 * above. All functions that take a `virt` make RPCs. `e` is never NULL.
 */
#ifndef REFPOINTFS_HOLD_H
#define REFPOINTFS_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "error.h"
#include "virt.h"

/* Strings are owned by the hold and never NULL. */
struct hold_disk {
    char *target;      /* "vda" */
    char *export_name; /* NBD export */
    char *base;        /* checkpoint its bitmap starts at; "" = held in full, no bitmap */
    char *bitmap;      /* name of the bitmap in the NBD export; "" if held in full */
    char *why_full;    /* why there is no base though the VM has older points; or "" */
    char *scratch;     /* file with the old data */
};

struct hold {
    char *socket_path;
    size_t ndisks;
    struct hold_disk *disks;
};

/* What hold_begin() needs to know; all borrowed. */
struct hold_request {
    struct virt *virt;
    const char *uuid;
    const char *refpoint;       /* name of the checkpoint to be made */
    const char *const *targets; /* disks that can carry a checkpoint */
    size_t ntargets;
    const char *const *others; /* disks to be left out by name, for libvirt includes all others */
    size_t nothers;
    const char *const *bases; /* older checkpoints, newest first: candidates for the bitmap */
    size_t nbases;
    const char *run_dir;     /* the socket lies in a folder of the VM's own in here */
    const char *scratch_dir; /* likewise the scratch files */
    bool has_owner;          /* the user QEMU runs as, who must reach both folders */
    uid_t owner_uid;
    gid_t owner_gid;
};

/*
 * Makes the checkpoint and begins the hold, both or neither. Each disk's bitmap starts at the
 * newest of `bases` that knows the disk and whose bitmap is healthy there. RESULT_IN_USE when the
 * domain has a backup job already.
 */
int hold_begin(const struct hold_request *request, struct hold **ret_hold, struct rp_error *e);

/* True in *ret_alive while the domain's backup job is this hold's. */
int hold_is_alive(struct virt *virt, const char *uuid, const struct hold *hold, bool *ret_alive,
                  struct rp_error *e);

/* Ends the job if it is still this hold's, and removes what it left. The checkpoint stays. */
int hold_end(struct virt *virt, const char *uuid, const struct hold *hold, struct rp_error *e);

/*
 * Ends a backup job whose socket lies in the VM's folder below `run_dir`: a hold that a service
 * which died left behind. Any other job is left alone. *ret_ended says whether there was one.
 */
int hold_end_orphan(struct virt *virt, const char *uuid, const char *run_dir, bool *ret_ended,
                    struct rp_error *e);

struct hold *hold_copy(const struct hold *hold); /* NULL when out of memory */
void hold_free(struct hold *hold);

/* The disk of that target, or NULL. */
const struct hold_disk *hold_find_disk(const struct hold *hold, const char *target);

#endif

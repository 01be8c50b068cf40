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
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "virt.h"

/*
 * What a checkpoint's description says, for whoever lists it later: libvirt keeps neither of these.
 * "refpointfs id=0123456789abcdef consistency_level=2 vda=67108864 ..."
 */
#define HOLD_ID_SIZE 17

struct hold_words {
    char id[HOLD_ID_SIZE]; /* tells it from another of its name, made in the same second; or "" */
    int consistency_level; /* 2 where nothing is said */
};

void hold_read_description(const char *description, struct hold_words *ret_words);

/* Size of that disk at the instant; 0 where nothing is said. */
uint64_t hold_read_size(const char *description, const char *target);

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
    char id[HOLD_ID_SIZE]; /* of the checkpoint made with it, if any; no two holds have the same */
    char *socket_path;
    bool is_frozen;  /* it is application consistent: file systems were frozen at the instant */
    bool is_offline; /* served for a VM that is off, by a process of ours: no job of libvirt's */
    char *nvram;     /* copy of the firmware's variables as of the instant; "" = there is none */
    char *nvram_why; /* why there is none though the VM has them; else "" */
    size_t ndisks;
    struct hold_disk *disks;
};

/* What becomes of a disk of the VM. All are named, for libvirt includes what is not. */
enum hold_part {
    HOLD_NOT,    /* left out */
    HOLD_ONLY,   /* held, in full; it cannot carry a checkpoint */
    HOLD_MARKED, /* held, and covered by the checkpoint if one is made */
};

struct hold_target {
    char *target;
    char *file, *format; /* where it is, for VMs that are off */
    uint64_t size_bytes; /* virtual; 0 = not known */
    enum hold_part part;
};

/* Whether the guest's file systems are frozen at the instant. */
enum hold_freeze {
    HOLD_FREEZE_NO,
    HOLD_FREEZE_TRY,  /* if it fails, the instant is crash consistent */
    HOLD_FREEZE_MUST, /* if it fails, there is no hold */
};

/* What hold_begin() needs to know; all borrowed. */
struct hold_request {
    struct virt *virt;
    const char *uuid;
    const char *refpoint; /* name of the checkpoint to be made; NULL: hold, and mark nothing */
    const struct hold_target *targets;
    size_t ntargets;
    const char *const *bases; /* older checkpoints, newest first: candidates for the bitmap */
    size_t nbases;
    const char *run_dir;     /* the socket lies in a folder of the VM's own in here */
    const char *scratch_dir; /* likewise the scratch files */
    const char *nvram;       /* file of the firmware's variables; "" = none */
    bool is_local;           /* the VM's files are on this host */
    enum hold_freeze freeze;
    bool *owes_thaw; /* set when file systems may be, or may yet become, frozen by us */
    bool has_owner;  /* the user QEMU runs as, who must reach both folders */
    uid_t owner_uid;
    gid_t owner_gid;
    /* All is chosen, nothing is begun: the last moment to write down what is about to be. */
    void (*prepared)(void *opaque, const struct hold *hold);
    void *opaque;
};

/*
 * True in *ret_changed unless it is certain that nothing was written to the held disks between
 * checkpoint `point` and the beginning of the hold. To be asked after hold_begin(), so that no
 * write can slip in between: the bitmap counts up to now, which is later still.
 */
int hold_has_changed_since(struct virt *virt, const char *uuid, const struct hold *hold,
                           const char *point, bool *ret_changed, struct rp_error *e);

/* Refuses a `run_dir` below which the socket's path would be longer than sockets can have. */
int hold_check_run_dir(const char *run_dir, struct rp_error *e);

/*
 * The record of a hold to be begun: folders made, leftovers removed, no bases chosen. For
 * hold_begin(), and for a VM that is off.
 */
int hold_prepare(const struct hold_request *request, struct hold **ret_hold, struct rp_error *e);

/*
 * Copies the firmware's variables for a hold that has just begun. They are not worth failing it
 * for: nvram_why then says what is missing. -ENOMEM when not even that can be kept.
 */
int hold_save_nvram(const struct hold_request *request, struct hold *hold);

/*
 * Makes the checkpoint and begins the hold, both or neither. Each disk's bitmap starts at the
 * newest of `bases` that knows the disk and whose bitmap is healthy there. RESULT_IN_USE when the
 * domain has a backup job already.
 */
int hold_begin(const struct hold_request *request, struct hold **ret_hold, struct rp_error *e);

void hold_make_id(char *ret_id); /* HOLD_ID_SIZE bytes */

/* Allocated; NULL when out of memory. */
char *hold_make_description(const struct hold_request *request, const char *id, bool is_frozen);

/* True in *ret_alive while the domain's backup job is this hold's. */
int hold_is_alive(struct virt *virt, const char *uuid, const struct hold *hold, bool *ret_alive,
                  struct rp_error *e);

/*
 * Ends the job if it is still this hold's, and removes what it left. The checkpoint stays. Of a
 * hold of a VM that is off, whoever serves it must have been stopped.
 */
int hold_end(struct virt *virt, const char *uuid, const struct hold *hold, struct rp_error *e);

/*
 * The path of the socket of all holds of that VM, by which a later service finds a job that one
 * before began. Allocated; NULL when out of memory.
 */
char *hold_socket_path(const char *run_dir, const char *uuid);

/* Likewise, of the copy of the firmware's variables. */
char *hold_nvram_path(const char *scratch_dir, const char *uuid);

/* Removes what a hold that has ended may have left on disk. */
void hold_remove_leftovers(const struct hold *hold);

/* An empty record of as many disks; takes over the path, which NULL is allowed for. */
struct hold *hold_new(char *socket_path, size_t ndisks);

struct hold *hold_copy(const struct hold *hold); /* NULL when out of memory */
void hold_free(struct hold *hold);

/* The disk of that target, or NULL. */
const struct hold_disk *hold_find_disk(const struct hold *hold, const char *target);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection to libvirt; the only file that includes it.
 *
 * Domains are named by their uuid, as text, so that nothing here has to outlive a connection that
 * breaks: after virt_connect() made a new one, the same calls work on. All calls but the
 * predicates make RPCs and may wait; with a remote libvirtd, keep-alive ends a call to a daemon
 * that hangs after about VIRT_KEEPALIVE_SECONDS x VIRT_KEEPALIVE_COUNT. Any thread, in parallel.
 *
 * Errors: what libvirt said, with the result that fits its code; a lost connection is
 * RESULT_NOT_AVAILABLE; a domain or checkpoint that is not there is -ENOENT. Here `e` is never
 * NULL.
 */
#ifndef REFPOINTFS_VIRT_H
#define REFPOINTFS_VIRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#define VIRT_UUID_SIZE         37
#define VIRT_KEEPALIVE_SECONDS 5
#define VIRT_KEEPALIVE_COUNT   3

struct virt;

/* Called from libvirt's event thread: must not make calls of virt_*(). */
struct virt_events {
    /* A domain was defined, started, stopped, changed, renamed or undefined. */
    void (*domain)(void *opaque, const char *uuid);
    /* A job of the domain, ours or foreign, ended. */
    void (*job_ended)(void *opaque, const char *uuid);
    /* A write of the guest failed; it may be paused for it. */
    void (*io_error)(void *opaque, const char *uuid);
    /* The connection broke. */
    void (*disconnected)(void *opaque);
    void *opaque;
};

/*
 * Starts the event thread; connects to nothing yet. libvirt's default event loop is one per
 * process, hence one struct virt at a time.
 */
int virt_open(const char *uri, const struct virt_events *events, struct virt **ret_virt,
              struct rp_error *e);
void virt_close(struct virt *virt);

/* (Re)connects; the former connection, if any, is dropped. One caller at a time. */
int virt_connect(struct virt *virt, struct rp_error *e);
bool virt_is_connected(struct virt *virt);

/* How many calls were made so far. */
uint64_t virt_rpcs(struct virt *virt);

struct virt_versions {
    char libvirt[32];    /* "9.0.0" */
    char hypervisor[64]; /* "QEMU 7.2.22" */
    bool is_test;        /* the test driver: no disks, no backups */
    char *uri;           /* as libvirt resolved it; freed by the caller */
};
int virt_get_versions(struct virt *virt, struct virt_versions *ret_versions, struct rp_error *e);

struct virt_domain {
    char uuid[VIRT_UUID_SIZE];
    char *name;
    const char *state; /* "running", "shut off", ...: static */
    bool active, persistent;
};
void virt_domain_clear(struct virt_domain *domain);

/* All domains; names and uuids only, in one call. Array and entries freed by the caller. */
int virt_list_domains(struct virt *virt, struct virt_domain **ret_domains, size_t *ret_count,
                      struct rp_error *e);

/* One domain with its XML as it is now (freed by the caller). */
int virt_get_domain(struct virt *virt, const char *uuid, struct virt_domain *ret_domain,
                    char **ret_xml, struct rp_error *e);

/* Virtual size of a disk; the VM need not run where the image is a file. */
int virt_get_disk_size(struct virt *virt, const char *uuid, const char *target, uint64_t *ret_bytes,
                       struct rp_error *e);

/*
 * Where a volume of a storage pool is: its path, and in *ret_is_file whether that is one of a file
 * or device. The path is freed by the caller. libvirt must have a storage driver, and the pool be
 * active.
 */
int virt_find_volume(struct virt *virt, const char *pool, const char *volume, char **ret_path,
                     bool *ret_is_file, struct rp_error *e);

/* What virt_walk_checkpoints() calls, in its caller's thread; may take locks. */
struct virt_walker {
    /* Called with each name. True: its XML is wanted, which costs one more call to libvirt. */
    bool (*wants)(void *opaque, const char *name);
    /* Then called with that, short, which it takes over; unless there is no such point any more. */
    void (*add)(void *opaque, const char *name, char *xml);
    void *opaque;
};

/* Goes over all checkpoints, parents first. On failure nothing was called. */
int virt_walk_checkpoints(struct virt *virt, const char *uuid, const struct virt_walker *walker,
                          struct rp_error *e);

enum virt_xml {
    VIRT_XML_SHORT, /* without the domain's definition */
    VIRT_XML_WHOLE,
    VIRT_XML_SIZES, /* short, with bytes changed since; a broken bitmap's disk has none */
};
int virt_get_checkpoint_xml(struct virt *virt, const char *uuid, const char *name,
                            enum virt_xml which, char **ret_xml, struct rp_error *e);

/* `redefine`: it exists in the images already, and is only to be known. */
int virt_create_checkpoint(struct virt *virt, const char *uuid, const char *xml, bool redefine,
                           struct rp_error *e);

/* `metadata_only`: the bitmaps in the images stay, or are gone already. */
int virt_delete_checkpoint(struct virt *virt, const char *uuid, const char *name,
                           bool metadata_only, struct rp_error *e);

/* Checkpoint and pull-mode backup job in one step, atomic in QEMU. */
int virt_begin_backup(struct virt *virt, const char *uuid, const char *backup_xml,
                      const char *checkpoint_xml, struct rp_error *e);

/* XML of the domain's backup job, NULL if there is none. Freed by the caller. */
int virt_get_backup_xml(struct virt *virt, const char *uuid, char **ret_xml, struct rp_error *e);

/*
 * Freezes all the guest's file systems through its agent. Bounded: an agent that does not answer
 * within VIRT_FREEZE_SECONDS has failed. *ret_owed, also set on failure: virt_thaw() is due, for
 * they are frozen, or may be when an agent that is merely slow comes to it.
 */
#define VIRT_FREEZE_SECONDS 10
int virt_freeze(struct virt *virt, const char *uuid, bool *ret_owed, struct rp_error *e);

/* Thaws them. Nothing being frozen is no failure. */
int virt_thaw(struct virt *virt, const char *uuid, struct rp_error *e);

/* True in *ret_busy while any job (backup, migration, save, snapshot) runs on the domain. */
int virt_has_job(struct virt *virt, const char *uuid, bool *ret_busy, struct rp_error *e);

/*
 * Returns when libvirt has finished what it was doing with the domain: a query that has to wait its
 * turn behind it. Fails where the domain does not run.
 */
int virt_settle(struct virt *virt, const char *uuid, struct rp_error *e);

/* True in *ret_paused when QEMU paused it because a write had failed. */
int virt_is_paused_by_io(struct virt *virt, const char *uuid, bool *ret_paused, struct rp_error *e);
int virt_resume(struct virt *virt, const char *uuid, struct rp_error *e);

/* Aborts the domain's job, whoever began it: the caller has made sure whose it is. */
int virt_abort_job(struct virt *virt, const char *uuid, struct rp_error *e);

#endif

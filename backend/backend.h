/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The service, as the file tree sees it: the only header of backend/ that fs/ includes.
 *
 * Objects (VMs, reference points, jobs, held disks) belong to the backend. Outside they are known
 * by their serial, a number that is never used again while the backend is open; what is known about
 * one is handed out as a snapshot by value, which the caller clears. A serial whose object has gone
 * answers -ENOENT everywhere, whenever it is used.
 *
 * Two kinds of function, told apart below:
 *   memory   answers from what is known, never waits for libvirt, a disk or a network; cheap.
 *   slow     may wait for libvirt or a file system; bounded where the other side lets us, so a
 *            mount must not call it from a thread that others need.
 * All may be called from any thread. All functions that can fail return 0 or a negative errno and
 * fill *e (see error.h); outputs (ret_*) are untouched on failure.
 */
#ifndef REFPOINTFS_BACKEND_H
#define REFPOINTFS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#include "error.h"

struct backend;

/* The low bits of a serial name the kind of its object; the service itself is serial 0. */
#define RP_KIND_BITS 3

enum rp_kind { KIND_SERVICE = 0, KIND_VM = 1, KIND_REFPOINT = 2, KIND_JOB = 3, KIND_DISK = 4 };

static inline enum rp_kind rp_serial_kind(uint64_t serial)
{
    return (enum rp_kind)(serial & ((1u << RP_KIND_BITS) - 1));
}

/* What changed, in the event callback: bits. */
enum topic {
    TOPIC_LIST = 1, /* children came or went: VMs (serial 0), reference points (of a VM), jobs */
    TOPIC_INFO = 2, /* the object's info or XML */
    TOPIC_HOLD = 4, /* a reference point's hold began or ended */
    TOPIC_JOB = 8,  /* state, result or progress of a job: sent for the job and for its owner */
    TOPIC_GONE = 16 /* the object is gone; its serial will not come back */
};

/* Whether the guest's file systems are frozen around the instant of a new reference point. */
enum backend_quiesce {
    QUIESCE_AUTO, /* where the guest agent is connected, and if it fails, not */
    QUIESCE_YES,  /* always; if it fails there is no reference point */
    QUIESCE_NO,
};

struct backend_options {
    const char *uri;         /* NULL = libvirt's default */
    const char *state_dir;   /* what must survive a restart; made if missing */
    const char *run_dir;     /* sockets of holds; made if missing; QEMU must be able to reach it */
    const char *scratch_dir; /* old data of held disks; NULL = inside state_dir */
    uint64_t scratch_reserve_bytes; /* holds end when less of it is free; 0 = by its size */
    unsigned hold_seconds;          /* a hold not used for this long ends */
    enum backend_quiesce quiesce;
    unsigned jobs;            /* exports that run at once; others wait in the queue */
    uint64_t bandwidth_bytes; /* per second and job, where the settings say nothing; 0 = no limit */
};

struct backend_events {
    /*
     * Something about `serial` changed. Called without any lock of the backend, from its threads
     * or that of whoever called it; may call memory functions, must not call slow ones. Whatever a
     * snapshot of `serial` shows is told so when it has changed, but for what the clock changes,
     * what a running job or a hold counts, and an export's template.
     *
     * With topics 0 nobody is to be woken, but what was kept of the object is not good any more:
     * sent first about all others, when a change concerns several objects, so that whoever is woken
     * by one of them finds the others as they are now.
     */
    void (*changed)(void *opaque, uint64_t serial, unsigned topics);
    void *opaque;
};

/*
 * Opens the service and starts its threads. Does not wait for the first connection to succeed when
 * the hypervisor is merely unreachable: the tree then comes up empty, service/info says why, and
 * the connection is tried again until it comes back. Slow.
 */
int backend_open(const struct backend_options *options, const struct backend_events *events,
                 struct backend **ret_backend, struct rp_error *e);

/*
 * Refuses new jobs, cancels running ones, ends holds or leaves them for the next service, joins
 * every thread and frees everything; but for what a thread uses that the kernel does not let go of.
 * No event is sent after it returned. NULL is allowed. Slow.
 */
void backend_close(struct backend *backend);

/* ---- who asks ---- */

#define CALLER_GROUPS_MAX 64

/* The process behind a file operation; what it may not do, is not done for it. */
struct caller {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    size_t ngroups;
    gid_t groups[CALLER_GROUPS_MAX]; /* supplementary groups; more are left out: fewer rights */
};

/* ---- directories: memory ---- */

#define RP_NAME_SIZE 256

struct child {
    uint64_t serial;
    struct timespec changed; /* last change of a VM, job; instant of a reference point, disk */
    char name[RP_NAME_SIZE];
};

/* The object itself, as its parent lists it. */
int backend_stat(struct backend *backend, uint64_t serial, struct child *ret_child);

/*
 * Children of `parent`: kind KIND_VM or KIND_JOB of serial 0, KIND_REFPOINT of a VM, KIND_DISK of a
 * reference point.
 * backend_children() gives up to `max` of them, ascending by serial, from the first whose serial is
 * greater than `after` (0 to begin), and returns how many; 0 = no more, or parent gone. Children
 * that come and go between two calls are listed or not; those that stay are listed once.
 */
int backend_child(struct backend *backend, uint64_t parent, enum rp_kind kind, const char *name,
                  uint64_t *ret_serial);
size_t backend_children(struct backend *backend, uint64_t parent, enum rp_kind kind, uint64_t after,
                        struct child *ret_children, size_t max);

/*
 * True when the list of children, which libvirt sends no events for, is older than a second, and
 * libvirt is not being asked for lists too often already.
 */
bool backend_is_stale(struct backend *backend, uint64_t parent, enum rp_kind kind);

/*
 * Brings the list up to date, waiting `timeout_ms` at most; then what is known will do. Any number
 * of callers share one request to libvirt. Slow; but with 0 it only asks, which is memory.
 */
void backend_refresh(struct backend *backend, uint64_t parent, enum rp_kind kind,
                     unsigned timeout_ms);

/* ---- snapshots: memory ---- */

struct service_info {
    char *uri;
    bool connected;
    bool connecting;  /* whether it can be reached is not known yet */
    char *connection; /* "connected", or the sentence why not */
    char *libvirt;    /* versions as "9.0.0"; "" while unknown */
    char *hypervisor; /* "QEMU 7.2.22"; "" while unknown */
    bool can_hold;    /* the driver has backup jobs: a reference point can be held and exported */
    size_t vms, refpoints, holds, jobs_queued, jobs_running, jobs_ended;
    uint64_t rpcs; /* calls made to libvirt so far */
    struct timespec started;
};
int backend_service_info(struct backend *backend, struct service_info *ret_info,
                         struct rp_error *e);
void service_info_clear(struct service_info *info);

/* The options in force, defaults filled in; borrowed, valid until backend_close(). */
const struct backend_options *backend_options_in_force(struct backend *backend);

struct vm_disk {
    char *target;           /* "vda" */
    char *source;           /* file or device, or "rbd:pool/image" and the like; "" if none */
    char *format;           /* "qcow2" */
    uint64_t size_bytes;    /* virtual size; 0 = not known yet */
    uint32_t cluster_bytes; /* of a qcow2 image that can be read from here; else 0 */
    bool is_file;           /* source is a path on the VM's host */
    bool is_encrypted;      /* with a secret that libvirt keeps */
    bool is_exportable;     /* a hard disk that the guest can write, whose data QEMU sees */
    bool tracked;           /* can carry reference points */
    char *why_not;          /* when not tracked: the reason; else "" */
};

struct vm_info {
    char *name;
    char *uuid;
    const char *state; /* "running", "paused", "shut off", ... static */
    bool persistent;
    char *held;         /* the reference point that is held, or "" */
    char *last_refusal; /* of mkdir, rmdir, hold: "NUMBER sentence", or "" */
    size_t ndisks;
    struct vm_disk *disks;
    struct timespec changed;
};
int backend_vm_info(struct backend *backend, uint64_t vm, struct vm_info *ret_info,
                    struct rp_error *e);
void vm_info_clear(struct vm_info *info);

/* The definition; freed by the caller. */
int backend_vm_xml(struct backend *backend, uint64_t vm, char **ret_xml, struct rp_error *e);

enum refpoint_health { HEALTH_UNKNOWN, HEALTH_OK, HEALTH_BROKEN };

struct refpoint_disk {
    char *target;
    enum refpoint_health health;
    bool has_changed_bytes;
    uint64_t changed_bytes; /* written since the instant, as last asked; rounded up to clusters */
    char *base;             /* while held: base of this disk's delta, "" = none: held in full */
    char *why_full;         /* while held in full though the VM has older points; else "" */
};

struct refpoint_info {
    char *name;
    char *vm;
    char *instance_id;
    char *parent; /* "" for the first */
    struct timespec created;
    int consistency_level; /* 1 application, 2 crash consistent */
    bool held;
    struct timespec hold_expires; /* while held and not in use; tv_sec 0 = not running out */
    size_t ndisks;
    struct refpoint_disk *disks;
    char *last_export; /* directory of the last completed export, or "" */
};
int backend_refpoint_info(struct backend *backend, uint64_t refpoint,
                          struct refpoint_info *ret_info, struct rp_error *e);
void refpoint_info_clear(struct refpoint_info *info);

int backend_refpoint_xml(struct backend *backend, uint64_t refpoint, char **ret_xml,
                         struct rp_error *e);

/* Whether its instant's data is held right now. */
bool backend_refpoint_is_held(struct backend *backend, uint64_t refpoint);

/* CIM's JobState numbers where CIM has one; 0 and 1 are ours and shown as job_state=0. */
enum job_state {
    JOB_NONE = 0,
    JOB_RECEIVING = 1, /* settings are being written */
    JOB_NEW = 2,       /* queued */
    JOB_STARTING = 3,
    JOB_RUNNING = 4,
    JOB_SUSPENDED = 5,
    JOB_SHUTTING_DOWN = 6,
    JOB_COMPLETED = 7,
    JOB_TERMINATED = 8, /* cancelled */
    JOB_KILLED = 9,     /* the service died */
    JOB_EXCEPTION = 10, /* failed, or refused */
};

static inline bool job_state_has_ended(enum job_state state)
{
    return state == JOB_NONE || state >= JOB_COMPLETED;
}

enum job_exact { EXACT_UNKNOWN, EXACT_NO, EXACT_YES };

struct job_info {
    uint64_t id; /* 0: no job (state none, receiving, or a refusal) */
    char *vm;
    char *refpoint; /* "" for an export of the VM as it is */
    enum job_state state;
    bool has_result; /* false only for JOB_NONE */
    int result;
    char *error; /* one sentence, or "" */
    uint64_t bytes_done, bytes_total;
    uint64_t rate_bytes;    /* per second, over the last seconds */
    struct timespec moment; /* the instant the data shows; tv_sec 0 = not known yet */
    enum job_exact exact;
    struct timespec submitted, started, ended; /* tv_sec 0 = not yet */
    char *export_directory;
    uid_t caller_uid;
    bool has_caller;
    bool cancel_requested;
    char *settings;     /* the INI as understood; "" if there is none */
    char *last_refusal; /* "NUMBER sentence" of the newest refused text, or "" */
};

/*
 * `serial` is a job, or the reference point or VM whose last export is asked for. Those always
 * answer: JOB_NONE before the first export; JOB_RECEIVING while settings are being written;
 * JOB_EXCEPTION with the refusal's result after one, when no job runs.
 */
int backend_job_info(struct backend *backend, uint64_t serial, struct job_info *ret_info,
                     struct rp_error *e);
void job_info_clear(struct job_info *info);

/*
 * The job that `serial` (a job, or the owner of one) stands for now. -ENOENT when its owner has
 * none: before the first export, while settings arrive, after a refusal. Memory.
 */
int backend_job_of(struct backend *backend, uint64_t serial, uint64_t *ret_job);

/* State and result alone, for waiters: no strings. */
int backend_job_state(struct backend *backend, uint64_t serial, enum job_state *ret_state,
                      int *ret_result);

/* ---- verbs on reference points: slow ---- */

/*
 * Makes reference point `name` on every disk of the VM that can carry one, and holds it, in one
 * virDomainBackupBegin(); on a driver without backup jobs, a plain checkpoint. A refusal is
 * remembered in vm_info.last_refusal. RESULT_IN_USE: the VM is held already or has a foreign
 * backup job; RESULT_INVALID_PARAMETER: the name is not one libvirt takes; -EEXIST (with
 * RESULT_INVALID_PARAMETER): the name exists.
 */
int backend_refpoint_create(struct backend *backend, uint64_t vm, const char *name,
                            const struct caller *caller, uint64_t *ret_refpoint,
                            struct rp_error *e);

/* Ends its hold if any and deletes checkpoint and bitmaps. RESULT_IN_USE while its job runs. */
int backend_refpoint_delete(struct backend *backend, uint64_t refpoint, struct rp_error *e);

/* Lets go of the held data; nothing to do when it is not held. RESULT_IN_USE while its job runs. */
int backend_hold_release(struct backend *backend, uint64_t refpoint, struct rp_error *e);

/* How much of a text that is being written is there. */
enum text_state {
    TEXT_GROWING,     /* what a further line may set right is no reason to refuse */
    TEXT_SEEMS_WHOLE, /* several lines in one piece: the last chance to tell who ignores close() */
    TEXT_WHOLE,
};

/*
 * The same by settings written to vms/<vm>/create: comments only; would this text be accepted; make
 * it (*ret_refpoint = 0 for a text without a setting). As for exports below.
 */
int backend_create_template(struct backend *backend, uint64_t vm, FILE *out, struct rp_error *e);
int backend_create_check(struct backend *backend, uint64_t vm, const char *text, size_t length,
                         enum text_state state, unsigned *ret_settings, struct rp_error *e);
void backend_create_receiving(struct backend *backend, uint64_t vm, int delta);
void backend_create_refused(struct backend *backend, uint64_t vm, const struct rp_error *e);
int backend_create_start(struct backend *backend, uint64_t vm, const char *text, size_t length,
                         uint64_t *ret_refpoint, struct rp_error *e);

/* ---- disks of a held instant: children of a reference point while it is held ---- */

/*
 * Its serial lives as long as the hold: held again, it is another disk. A disk is listed once its
 * size is known, which backend_refresh() sees to.
 */
struct disk_info {
    uint64_t size_bytes;
    bool has_data_bytes;
    uint64_t data_bytes; /* without what is known to read as zeros */
    bool has_map;
    uint64_t map_bytes; /* length of the map's text */
};

/* Memory. */
int backend_disk_info(struct backend *backend, uint64_t disk, struct disk_info *ret_info,
                      struct rp_error *e);

/* A disk that was opened: stays until it is closed, though its hold may end before. */
struct disk;

/*
 * Opens a disk to be read; without `data`, only its map. Counts as use of the hold, but keeps it
 * from nothing. Slow: connects. -ENODEV when the hold has ended.
 */
int backend_disk_open(struct backend *backend, uint64_t serial, bool data, struct disk **ret_disk,
                      struct rp_error *e);

/* `data` as when it was opened. Reads still under way fail, if nobody else has it open. Slow. */
void backend_disk_close(struct disk *disk, bool data);

/* What is known of it, as backend_disk_info(), and counts as use. -ENODEV when the hold has ended.
 * Memory. */
int backend_disk_look(struct disk *disk, struct disk_info *ret_info);

/* A read of an open disk. The range lies inside the disk. */
struct disk_read {
    void *buffer;
    size_t length;
    uint64_t offset;
    /* Called once, from a thread of the backend's or inside backend_disk_read(), with err = 0 and
     * the buffer filled, or with a positive errno: ENODEV when the hold has ended. */
    void (*done)(struct disk_read *read, int err);
    /* The backend's own. */
    void *owner;
    struct disk_read *next, *previous;
};

/* Begins the read; both it and its buffer must stay until `done` is called. Memory. */
void backend_disk_read(struct disk *disk, struct disk_read *read);

/*
 * The first offset from `offset` on that has data, or with `hole` the first that reads as zeros, of
 * which the disk's end is one. -ENXIO when there is none. Slow: waits until that is known.
 */
int backend_disk_seek(struct disk *disk, uint64_t offset, bool hole, uint64_t *ret_offset,
                      struct rp_error *e);

/* Part of the map's text: what changed since the hold's base, an extent a line. Memory. */
int backend_disk_print_map(struct disk *disk, uint64_t offset, char *buffer, size_t size,
                           size_t *ret_length);

/* ---- exports; `owner` is a reference point, or a VM as it is now ---- */

/* Prints what reading `export` gives: comments only. Memory. */
int backend_export_template(struct backend *backend, uint64_t owner, FILE *out, struct rp_error *e);

/*
 * May settings be written now? RESULT_IN_USE while a job of the owner's VM is queued or runs.
 * Memory. Not remembered as a refusal: the caller decides (backend_export_refused()).
 */
int backend_export_may_begin(struct backend *backend, uint64_t owner, struct rp_error *e);

/*
 * A writer has text in hand (+1) or let go of it (-1): state=receiving between. Memory. For a text
 * that became a job backend_export_start() has done the latter.
 */
void backend_export_receiving(struct backend *backend, uint64_t owner, int delta);

/*
 * Would this text be accepted? Before it is TEXT_WHOLE only its complete lines are judged. No side
 * effects. *ret_settings is the number of settings seen. Slow (looks at directories).
 */
int backend_export_check(struct backend *backend, uint64_t owner, const char *text, size_t length,
                         enum text_state state, const struct caller *caller, unsigned *ret_settings,
                         struct rp_error *e);

/* Remembers a refusal so that job/status shows it. Never disturbs a running job. Memory. */
void backend_export_refused(struct backend *backend, uint64_t owner, const struct rp_error *e);

/*
 * Checks the whole text once more and queues the job; a text without a setting starts nothing and
 * is no error (*ret_job = 0). A failure is remembered as a refusal by itself. With a job its
 * writer is no longer receiving, so that a state passes straight from that to the job's. Slow.
 */
int backend_export_start(struct backend *backend, uint64_t owner, const char *text, size_t length,
                         const struct caller *caller, uint64_t *ret_job, struct rp_error *e);

/*
 * `serial` as for backend_job_info(). Nothing to do when the job has ended. RESULT_IN_USE while an
 * owner's text is being received: one that is just being closed is waited for. Slow then.
 */
int backend_job_cancel(struct backend *backend, uint64_t serial, struct rp_error *e);

#endif

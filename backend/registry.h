/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VMs and reference points that are known, kept true to libvirt.
 *
 * registry.c   the tables: find, list, copy out                           any thread, memory
 * refresh.c    the threads that ask libvirt and put the answers in        its own threads
 * mark.c       making and destroying reference points, holds              the caller's thread, slow
 *
 * LOCKS. One mutex, registry->lock, protects every VM, reference point and hold record and the
 * queue of refreshes. It is a leaf: nobody takes another lock, makes an RPC, touches a disk or
 * calls back while holding it. What a thread works on while it does not hold the lock is kept from
 * being freed by vm->refs.
 */
#ifndef REFPOINTFS_REGISTRY_H
#define REFPOINTFS_REGISTRY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "export.h"
#include "hold.h"
#include "table.h"
#include "virt.h"
#include "xml.h"

#define REGISTRY_THREADS 4

/* A list of checkpoints older than this is asked for again before it is shown. */
#define REGISTRY_STALE_MS 1000

/* Costly values (bytes changed, health) are asked for again when read and older than this. */
#define REGISTRY_SIZES_MS 5000

/* What a VM's refresh is to do: bits of vm->tasks. */
enum task {
    TASK_DOMAIN = 1, /* name, state, XML, disks */
    TASK_LIST = 2,   /* names of checkpoints, and the XML of new ones */
    TASK_SIZES = 4,  /* sizes of the reference points that want them */
    TASK_HOLD = 8,   /* is the hold alive, has it run out? */
    TASK_ORPHAN = 16 /* a hold that a service which died left behind */
};

struct refpoint_disk_record {
    char *target;
    bool covered; /* the checkpoint has a bitmap for it */
    enum refpoint_health health;
    uint64_t changed_bytes;
};

/* What orders leave behind at the reference point they were written to: see order.c. */
struct slot {
    unsigned receiving;      /* writers with text in hand */
    struct rp_error refusal; /* of the newest refused text; result 0 = none */
    uint64_t refused_after;  /* the owner's last job at that time: later ones outdate the refusal */
    bool refused_while_busy; /* a job ran: the refusal is remembered but job/ goes on showing it */
    struct timespec refused;
};

struct refpoint {
    uint64_t serial; /* must be first: struct table */
    struct vm *vm;
    char *name, *parent, *xml, *last_export;
    time_t created;
    size_t ndisks;
    struct refpoint_disk_record *disks;
    bool wants_sizes;
    int64_t sizes_ms; /* monotonic time of the sizes; 0 = never */
    struct slot slot;
};

struct vm {
    uint64_t serial; /* must be first: struct table */
    unsigned refs;   /* the table's, the queue's, and of threads at work on it */
    bool gone;       /* out of the table; freed with the last reference */
    char uuid[VIRT_UUID_SIZE];
    char *name; /* NULL until libvirt told: not listed */
    const char *state;
    bool active, persistent;
    char *xml;
    size_t ndisks;
    struct vm_disk *disks;
    bool has_owner;
    uid_t owner_uid;
    gid_t owner_gid;
    struct timespec changed;
    struct table refpoints;
    struct rp_error refusal; /* of mkdir, rmdir, hold */

    int64_t list_ms;     /* when the list of reference points was last asked for, and came */
    unsigned generation; /* counts our own changes: a list asked for before one is thrown away */

    bool marking; /* mkdir or rmdir under way */
    struct hold *hold;
    uint64_t hold_refpoint;
    unsigned hold_uses; /* exports that read it */
    bool hold_ending;
    int64_t hold_used_ms;

    unsigned tasks;
    bool queued;
    struct vm *next_queued;
};

struct registry {
    struct virt *virt;
    const struct backend_options *options;
    struct backend_events events;

    pthread_mutex_t lock;  /* protects all below, and every record */
    pthread_cond_t work;   /* the queue got longer, or stop */
    pthread_cond_t fresh;  /* a refresh came to its end */
    pthread_cond_t keeper; /* the connection broke, or stop */
    struct table vms;
    struct vm *first_queued, *last_queued;
    bool stop;
    bool listed; /* the first list of domains is complete */
    bool is_test, is_local;
    struct virt_versions versions;
    struct rp_error connection; /* why there is none; result 0 while connected */

    pthread_t threads[REGISTRY_THREADS], keeper_thread;
    size_t nthreads;
    bool has_keeper;
};

int64_t registry_now_ms(void);

int registry_open(const struct backend_options *options, const struct backend_events *events,
                  struct registry **ret_registry, struct rp_error *e);

/* Ends every hold, joins the threads. */
void registry_close(struct registry *registry);

/* ---- tables; the functions of backend.h of like names ---- */

int registry_stat(struct registry *registry, uint64_t serial, struct child *ret_child);
int registry_child(struct registry *registry, uint64_t parent, const char *name,
                   uint64_t *ret_serial);
size_t registry_children(struct registry *registry, uint64_t parent, uint64_t after,
                         struct child *ret_children, size_t max);
int registry_vm_info(struct registry *registry, uint64_t vm, struct vm_info *ret_info,
                     struct rp_error *e);
int registry_vm_xml(struct registry *registry, uint64_t vm, char **ret_xml, struct rp_error *e);
int registry_refpoint_info(struct registry *registry, uint64_t refpoint,
                           struct refpoint_info *ret_info, struct rp_error *e);
int registry_refpoint_xml(struct registry *registry, uint64_t refpoint, char **ret_xml,
                          struct rp_error *e);
bool registry_is_held(struct registry *registry, uint64_t refpoint);

/* Fills what concerns libvirt, VMs and points; strings are the caller's. */
int registry_service_info(struct registry *registry, struct service_info *info, struct rp_error *e);

/* Serial of the VM that a reference point is of; 0 if it is gone. */
uint64_t registry_vm_of(struct registry *registry, uint64_t refpoint);

/* Calls `use` under the lock with the slot of an owner: no more than a copy. -ENOENT if gone. */
int registry_with_slot(struct registry *registry, uint64_t owner,
                       void (*use)(struct slot *slot, void *opaque), void *opaque);

void registry_set_last_export(struct registry *registry, uint64_t refpoint, const char *directory);

/* ---- refreshing ---- */

bool registry_is_stale(struct registry *registry, uint64_t parent);
void registry_refresh(struct registry *registry, uint64_t parent, unsigned timeout_ms);

/* ---- marking and holding: slow ---- */

int registry_create(struct registry *registry, uint64_t vm, const char *name,
                    uint64_t *ret_refpoint, struct rp_error *e);
int registry_delete(struct registry *registry, uint64_t refpoint, struct rp_error *e);
int registry_release(struct registry *registry, uint64_t refpoint, struct rp_error *e);

/*
 * Takes `refpoint` for an export, with its hold if it has one: until registry_export_end() that
 * neither runs out nor can be let go. `base` (NULL: none) is the name of another point of the same
 * VM; RESULT_INVALID_PARAMETER when there is none of that name. With `use` false nothing is taken:
 * a look, which only wants export_subject_clear().
 */
int registry_export_begin(struct registry *registry, uint64_t refpoint, const char *base, bool use,
                          struct export_subject *ret_subject, struct rp_error *e);

/* After an export: gives back what was taken, and clears the subject. */
void registry_export_end(struct registry *registry, uint64_t refpoint,
                         struct export_subject *subject);

/* ---- between registry.c, refresh.c and mark.c; `_locked`: the caller holds the lock ---- */

struct vm *registry_find_uuid_locked(struct registry *registry, const char *uuid);
struct refpoint *registry_find_refpoint_locked(struct registry *registry, uint64_t serial);
struct refpoint *registry_find_name_locked(const struct vm *vm, const char *name);
struct vm *registry_add_vm_locked(struct registry *registry, const char *uuid);
void registry_unref_vm_locked(struct vm *vm);
void registry_enqueue_locked(struct registry *registry, struct vm *vm, unsigned tasks);
struct refpoint *registry_add_refpoint_locked(struct vm *vm, const struct xml_checkpoint *point,
                                              char *xml);
void registry_free_refpoint(struct refpoint *refpoint);
void registry_drop_hold_locked(struct vm *vm);
void registry_changed(struct registry *registry, uint64_t serial, unsigned topics);
/* Until more than its name is known of the VM, at most so long. The lock is let go of meanwhile. */
void registry_wait_known_locked(struct registry *registry, const struct vm *vm,
                                unsigned timeout_ms);
int registry_start_threads(struct registry *registry, struct rp_error *e);
void registry_stop_threads(struct registry *registry);

/* Ends the hold of a VM that is due: mark.c, called by refresh.c. Slow. */
int registry_end_hold(struct registry *registry, struct vm *vm, uint64_t refpoint,
                      struct rp_error *e);

#endif

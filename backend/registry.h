/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VMs and reference points that are known, kept true to libvirt.
 *
 * registry.c          the tables: find and list                            any thread, memory
 * registry-copy.c     snapshots for fs/                                    any thread, memory
 * registry-export.c   what an export needs to know                         any thread
 * registry-disk.c     the disks of holds                                   any thread
 * registry-open.c     beginning, end, and libvirt's events
 * refresh.c           the threads that ask libvirt, their queue, the clock  its own threads
 * refresh-vm.c        what they ask of a VM, and put in                     likewise
 * readopt.c           holds written down, and found again                  likewise
 * guard.c             looks at the scratch space                            its own thread
 * mark.c              making reference points and holds                     the caller's, slow
 * release.c           ending holds, deleting points                         likewise
 * mark-offline.c      the same for VMs that are off                        likewise
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
#include <sys/queue.h>

#include "backend.h"
#include "held-disk.h"
#include "export.h"
#include "hold.h"
#include "index.h"
#include "journal.h"
#include "offline.h"
#include "settings.h"
#include "table.h"
#include "virt.h"
#include "xml.h"

#define REGISTRY_THREADS 4

/* A list of checkpoints older than this is asked for again before it is shown. */
#define REGISTRY_STALE_MS 1000

/* A list that was asked for and has not come for this long is not waited for any more. */
#define REGISTRY_OVERDUE_MS 400

/* A VM that only its name is known of is waited for this long when VMs are listed. */
#define REGISTRY_NEW_MS 2000

/*
 * What is asked of libvirt because somebody looks, lists and sizes of all VMs together: no more
 * than this a second, however many look at however much. Enough for every VM that people look at;
 * a walk through a thousand VMs is shown lists that are some seconds old.
 */
#define REGISTRY_LOOKS_PER_S 200

/* Between two tries to thaw a guest whose agent does not answer. */
#define REGISTRY_THAW_MS 2000

/* Costly values (bytes changed, health) are asked for again when read and older than this. */
#define REGISTRY_SIZES_MS 5000

/*
 * A definition is asked for again when read and older than this: not every change of it comes with
 * an event (virsh attach-disk --config, external snapshots). That costs libvirt as much as so many
 * looks.
 */
#define REGISTRY_DOMAIN_MS    10000
#define REGISTRY_DOMAIN_LOOKS 4

/* What a VM's refresh is to do: bits of vm->tasks. */
enum task {
    TASK_DOMAIN = 1,     /* name, state, XML, disks */
    TASK_LIST = 2,       /* names of checkpoints, and the XML of new ones */
    TASK_SIZES = 4,      /* sizes of the reference points that want them */
    TASK_HOLD = 8,       /* is the hold alive, has it run out? */
    TASK_THAW = 32,      /* try again to thaw the guest's file systems */
    TASK_ORPHAN = 16,    /* a hold that a service which died left behind */
    TASK_DEFINITION = 64 /* state and XML; what the disks are only if those have changed */
};

struct refpoint_disk_record {
    char *target;
    bool covered; /* the checkpoint has a bitmap for it */
    enum refpoint_health health;
    bool has_size;
    uint64_t changed_bytes;
    uint64_t size_bytes; /* of the disk at the instant; 0 = not known */
};

/* What orders leave behind at the reference point or VM they were written to: see order.c. */
struct slot {
    unsigned receiving;      /* writers with text in hand that is no job yet */
    bool is_bound;           /* jobs of the services before know that they are its */
    struct rp_error refusal; /* of the newest refused text; result 0 = none */
    uint64_t refused_after;  /* the owner's last job at that time: later ones outdate the refusal */
    bool refused_while_busy; /* a job ran: the refusal is remembered but job/ goes on showing it */
    struct timespec refused;
};

/* There may be a hundred thousand of them: what few need is not in here, but pointed to. */
struct refpoint {
    uint64_t serial; /* must be first: struct table */
    struct vm *vm;
    char *name, *parent, *xml;
    char *last_export; /* NULL: none */
    time_t created;
    int64_t sizes_ms; /* monotonic time of the sizes; 0 = never */
    struct refpoint_disk_record *disks;
    struct slot *slot;  /* NULL: nothing to remember */
    bool is_bound;      /* for slot->is_bound, which is not worth a slot */
    uint16_t receiving; /* for slot->receiving, which may not fail for want of one */
    unsigned ndisks;
    unsigned listed; /* the list of the VM's points that it last stood in */
    int consistency_level;
    char id[HOLD_ID_SIZE]; /* or "" */
    bool wants_sizes;
};

struct vm {
    uint64_t serial; /* must be first: struct table */
    unsigned refs;   /* the table's, the queue's, and of threads at work on it */
    bool gone;       /* out of the table; freed with the last reference */
    struct registry *registry;
    char uuid[VIRT_UUID_SIZE];
    char *name; /* NULL until libvirt told: not listed */
    const char *state;
    bool active, persistent;
    char *xml;
    char *nvram; /* file of the firmware's variables, "" or NULL: none */
    size_t ndisks;
    struct vm_disk *disks;
    bool has_owner;
    uid_t owner_uid;
    gid_t owner_gid;
    bool has_agent;
    bool owes_thaw;    /* a freeze of ours may still be in force: thawed until that succeeds */
    int64_t thawed_ms; /* when that was last tried */
    struct timespec changed;
    struct table refpoints;
    struct index refpoint_names;
    unsigned lists;          /* of points, that came; numbers them */
    struct rp_error refusal; /* of mkdir, rmdir, hold */
    struct slot slot;        /* of the VM's own export */

    int64_t domain_ms;   /* when the definition was last asked for, and came */
    int64_t wanted_ms;   /* since when somebody waits for it; 0 = nobody does */
    int64_t asked_ms;    /* since when a list of them is being waited for; 0 = it is not */
    int64_t list_ms;     /* when the list of reference points was last asked for, and came */
    unsigned generation; /* counts our own changes: a list asked for before one is thrown away */

    bool marking;      /* a point is being made */
    unsigned creating; /* writers with text for `create` in hand */
    struct hold *hold;
    struct offline *offline; /* what serves a hold of a VM that is off */
    uint64_t hold_refpoint;
    unsigned hold_uses;    /* exports that read it */
    unsigned hold_seconds; /* how long it is kept unused */
    bool hold_ending;
    int64_t hold_used_ms;    /* and see registry_hold_used_ms_locked() */
    struct table hold_disks; /* struct disk, of a hold of a reference point */
    struct kept_hold *left;  /* what a service before wrote down, until it is decided about */
    int64_t left_ms;         /* since when it is known */
    struct rp_error lost;    /* why the hold of lost_id was let go of; result 0 = none was */
    char lost_id[HOLD_ID_SIZE];

    unsigned tasks;
    bool queued;
    bool is_worked_on; /* one refresher at a time: an older answer must not overwrite a newer one */
    TAILQ_ENTRY(vm) queue;
};

TAILQ_HEAD(vm_queue, vm);

struct registry {
    struct virt *virt;
    struct journal *journal; /* borrowed */
    const struct backend_options *options;
    struct backend_events events;

    pthread_mutex_t keeping; /* of what is written down of holds: one writer; before `lock` */
    pthread_mutex_t lock;    /* protects all below, and every record */
    pthread_cond_t work;     /* the queue got longer, or stop */
    pthread_cond_t fresh;    /* a refresh came to its end */
    pthread_cond_t keeper;   /* the connection broke, or stop */
    struct table vms;
    struct index vm_uuids, vm_names; /* the latter: of those that are listed */
    struct index refpoints;          /* of all VMs, by serial */
    size_t unknown;                  /* VMs that only their name is known of */
    int64_t opened_ms;
    int64_t added_ms; /* when the last one of those came */
    struct vm_queue queued;
    int64_t looked_ms; /* until when looks at libvirt are paid: see registry_may_look_locked() */
    bool stop;
    bool listed; /* the first list of domains is complete */
    bool is_test, is_local;
    struct virt_versions versions;
    struct rp_error connection; /* why there is none; result 0 while connected */

    pthread_t threads[REGISTRY_THREADS], keeper_thread;
    size_t nthreads;
    bool has_keeper;
    pthread_t guard_thread;
    pthread_cond_t guard; /* something is held, or stop */
    bool has_guard;
};

int64_t registry_now_ms(void);

int registry_open(const struct backend_options *options, const struct backend_events *events,
                  struct journal *journal, struct registry **ret_registry, struct rp_error *e);

/*
 * Joins the threads. Ends all holds but those of reference points that can wait for the next
 * service without harm: what is written down of them stays. NULL is allowed. Slow.
 */
void registry_end(struct registry *registry);

/* After registry_end(): frees everything. NULL is allowed. */
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

/* ---- disks of holds; the functions of backend.h of like names ---- */

int registry_disk_stat(struct registry *registry, uint64_t disk, struct child *ret_child);
int registry_disk_child(struct registry *registry, uint64_t refpoint, const char *target,
                        uint64_t *ret_serial);
size_t registry_disk_children(struct registry *registry, uint64_t refpoint, uint64_t after,
                              struct child *ret_children, size_t max);
bool registry_disk_is_stale(struct registry *registry, uint64_t refpoint);
void registry_disk_refresh(struct registry *registry, uint64_t refpoint, unsigned timeout_ms);
int registry_disk_info(struct registry *registry, uint64_t disk, struct disk_info *ret_info,
                       struct rp_error *e);
int registry_disk_open(struct registry *registry, uint64_t disk, bool data, struct disk **ret_disk,
                       struct rp_error *e);

/* Makes the disks of the VM's hold, if it is a reference point's. Without memory there are fewer.
 */
void registry_add_disks_locked(struct vm *vm);

/* Takes them out. To be called before the hold ends; then, without the lock, the next. */
struct table registry_take_disks_locked(struct vm *vm);

/* Ends and frees the disks, and tells. Slow. */
void registry_end_disks(struct registry *registry, struct table *disks);

/* When the VM's hold was last used, by whoever. */
int64_t registry_hold_used_ms_locked(const struct vm *vm);

/* Serial of the VM that a reference point is of, or of the VM itself; 0 if it is gone. */
uint64_t registry_vm_of(struct registry *registry, uint64_t owner);

/* The names of an owner of jobs; *ret_refpoint is "" for a VM. Freed by the caller. */
int registry_names(struct registry *registry, uint64_t owner, char **ret_vm, char **ret_refpoint,
                   struct rp_error *e);

/*
 * What a later service will know an owner of jobs by: the VM's uuid, and of a point its name
 * (*ret_refpoint, freed by the caller) and id; both "" for a VM. Returns the VM's serial, 0 when
 * the owner is gone or memory is out.
 */
uint64_t registry_identify(struct registry *registry, uint64_t owner, char *ret_uuid, char *ret_id,
                           char **ret_refpoint);

/* A copy of the slot of an owner. -ENOENT if it is gone. */
int registry_get_slot(struct registry *registry, uint64_t owner, struct slot *ret_slot);

/* Calls `change` under the lock with the slot of an owner. -ENOENT if it is gone, or -ENOMEM. */
int registry_change_slot(struct registry *registry, uint64_t owner,
                         void (*change)(struct slot *slot, void *opaque), void *opaque);

/* The jobs of the services before know that they are this owner's. */
void registry_set_bound(struct registry *registry, uint64_t owner);

/* A writer has text for it in hand (+1), or let go of it (-1), or the text is a job now (-1). */
void registry_receiving(struct registry *registry, uint64_t owner, int delta);

/* Until nobody has a text for it in hand that is no job yet; at most so long. */
void registry_wait_received(struct registry *registry, uint64_t owner, unsigned timeout_ms);

/*
 * Remembers where a point was exported. An export that does not stand, because an increment has no
 * backing file, is no good base: it takes no other's place. Slow: the journal.
 */
void registry_set_last_export(struct registry *registry, uint64_t refpoint, const char *directory,
                              bool stands);

/* ---- refreshing ---- */

bool registry_is_stale(struct registry *registry, uint64_t parent);
void registry_refresh(struct registry *registry, uint64_t parent, unsigned timeout_ms);

/* ---- marking and holding: slow ---- */

/* What a new reference point, or the hold of a job, is to be like. All borrowed. */
struct registry_spec {
    const char *name;   /* NULL: no point is made */
    const char *base;   /* where the bitmaps start; NULL: at the newest healthy point */
    bool no_bitmap;     /* everything is wanted in full: choose no base at all */
    char *const *disks; /* NULL: all */
    size_t ndisks;
    bool untracked;    /* hold disks that cannot be marked as well */
    const char *point; /* point whose instant is hoped for, or NULL */
    enum settings_consistency consistency;
    unsigned hold_seconds; /* 0: the mount's */
};

int registry_create(struct registry *registry, uint64_t vm, const struct registry_spec *spec,
                    uint64_t *ret_refpoint, struct rp_error *e);

/* What registry_create() would refuse of it, as far as is known. Memory. */
int registry_check_name(struct registry *registry, uint64_t vm, const char *name,
                        struct rp_error *e);
int registry_check_base(struct registry *registry, uint64_t vm, const char *base,
                        struct rp_error *e);
int registry_check_disks(struct registry *registry, uint64_t vm, const struct registry_spec *spec,
                         struct rp_error *e);

/* A writer has text for `create` in hand (+1) or is done with it (-1): lists wait for it meanwhile.
 */
void registry_creating(struct registry *registry, uint64_t vm, int delta);

/* Remembers a refusal in last_refusal of the VM, or of the VM of the reference point. */
void registry_refused(struct registry *registry, uint64_t owner, const struct rp_error *e);

int registry_delete(struct registry *registry, uint64_t refpoint, struct rp_error *e);
int registry_release(struct registry *registry, uint64_t refpoint, struct rp_error *e);

/* RESULT_NOT_SUPPORTED on a driver that has no data to export. */
int registry_check_driver(struct registry *registry, struct rp_error *e);

/*
 * Describes `owner`, a reference point or a VM, for an export; with its hold if it has one, which
 * until registry_export_end() neither runs out nor can be let go. `base` (NULL: none) is the name
 * of a point of the same VM; RESULT_INVALID_PARAMETER when there is none of that name,
 * RESULT_INVALID_STATE when it is not older than the owner. With `use` false nothing is taken: a
 * look, which only wants export_subject_clear().
 */
int registry_export_begin(struct registry *registry, uint64_t owner, const char *base, bool use,
                          struct export_subject *ret_subject, struct rp_error *e);

/*
 * For a subject without a hold: holds the VM as it is now, for this job alone or, where spec names
 * one, together with a new reference point (*ret_refpoint, else 0). The subject then has the hold,
 * its moment, and whether that is still the instant of its reference point. Slow.
 */
int registry_export_hold(struct registry *registry, const struct registry_spec *spec,
                         struct export_subject *subject, uint64_t *ret_refpoint,
                         struct rp_error *e);

/*
 * Is what is read still what was held? Only a VM that was off can change that, by being started:
 * RESULT_INVALID_STATE then. Memory, but for `thorough`, which looks at the images' times.
 */
int registry_export_verify(struct registry *registry, const struct export_subject *subject,
                           bool thorough, struct rp_error *e);

/* Likewise, when what is read from is gone: waits a little for libvirt to tell why. Slow. */
int registry_export_explain(struct registry *registry, const struct export_subject *subject,
                            struct rp_error *e);

/* After an export: gives back what was taken, and clears the subject. */
void registry_export_end(struct registry *registry, struct export_subject *subject);

/* Ends the VM's hold, whether of a point or of a job; RESULT_IN_USE while an export reads it. */
int registry_release_vm(struct registry *registry, uint64_t vm, struct rp_error *e);

/* ---- between registry.c, refresh.c and mark.c; `_locked`: the caller holds the lock ---- */

void registry_init_tables(struct registry *registry);
void registry_clear_tables(struct registry *registry); /* at the end, without the lock */

/* Has somebody text for it in hand that is no job yet? */
bool registry_is_receiving_locked(struct registry *registry, uint64_t owner);

struct vm *registry_find_uuid_locked(struct registry *registry, const char *uuid);
struct refpoint *registry_find_refpoint_locked(struct registry *registry, uint64_t serial);
struct refpoint *registry_find_name_locked(const struct vm *vm, const char *name);
struct vm *registry_add_vm_locked(struct registry *registry, const char *uuid);
/* Out of the tables; the reference that they had is dropped. Its points must be gone before. */
void registry_remove_vm_locked(struct vm *vm);
/*
 * Gives the VM the name and returns the one before, to be freed. Without memory it keeps the one
 * it has, and the new one is returned.
 */
char *registry_rename_vm_locked(struct vm *vm, char *name);
void registry_unref_vm_locked(struct vm *vm);
void registry_enqueue_locked(struct registry *registry, struct vm *vm, unsigned tasks);
/* May libvirt be asked because somebody looks? With `take` one look is taken. */
bool registry_may_look_locked(struct registry *registry, bool take);
struct refpoint *registry_add_refpoint_locked(struct vm *vm, const struct xml_checkpoint *point,
                                              char *xml);
/*
 * Takes it out of the tables, hands its children on to its parent as libvirt does, and frees it.
 * Returns the serials of those children, 0 behind the last, to be told of and freed; or NULL.
 */
uint64_t *registry_remove_refpoint_locked(struct vm *vm, struct refpoint *refpoint);
/* Sends the events of that, without the lock; frees `children`. */
void registry_tell_removed(struct registry *registry, uint64_t refpoint, uint64_t *children);
/* The same without a thought for children: of a VM that is gone. */
void registry_drop_refpoint_locked(struct vm *vm, struct refpoint *refpoint);
void registry_free_disks(struct vm_disk *disks, size_t ndisks);
bool registry_is_listed(const struct vm *vm); /* has a name that a directory can have */
void registry_drop_hold_locked(struct vm *vm);
void registry_changed(struct registry *registry, uint64_t serial, unsigned topics);
/* Until more than its name is known of the VM, at most so long. The lock is let go of meanwhile. */
void registry_wait_known_locked(struct registry *registry, const struct vm *vm,
                                unsigned timeout_ms);
/*
 * For settings about the VM that are to be judged: what is known of its definition is asked for
 * again when older than that, and waited for, REGISTRY_FRESHEN_MS at most. Slow.
 */
#define REGISTRY_FRESHEN_MS 2000
void registry_freshen(struct registry *registry, uint64_t owner, unsigned max_age_ms);
/* Somebody reads: asks again where it is older than REGISTRY_DOMAIN_MS, and does not wait. */
void registry_look_at_vm(struct registry *registry, uint64_t vm);
/* TASK_DEFINITION here and now. Only while the VM is marked, and no refresher works on it. Slow. */
void registry_refresh_definition(struct registry *registry, struct vm *vm);
/*
 * Until no refresher works on the VM; false if one still does after that time. With vm->marking set
 * before, none begins again. QEMU 7.2 dies of an assertion when its block nodes are queried while
 * a scratch file is being made for a backup: so nobody asks libvirt for sizes meanwhile.
 */
bool registry_wait_idle_locked(struct registry *registry, const struct vm *vm, unsigned timeout_ms);
/*
 * refresh-disks.c: the disks of that definition, as many as it has; NULL when out of memory.
 * Volumes in it are replaced by the files that they are. Slow.
 */
struct vm_disk *refresh_disks(struct registry *registry, const struct vm *vm,
                              struct xml_domain *domain);
/* Does what the bits of `tasks` say: refresh-vm.c, for the refreshers. Slow. */
void registry_run_tasks(struct registry *registry, struct vm *vm, unsigned tasks);
int registry_start_threads(struct registry *registry, struct rp_error *e);
void registry_stop_threads(struct registry *registry);

/* Virtual size, from libvirt, or where `file` is given from that image; 0 = not known. Slow. */
uint64_t registry_disk_size(struct registry *registry, const char *uuid, const char *target,
                            const char *file, struct rp_error *e);

/* The disk of that target, or NULL. */
const struct vm_disk *registry_find_disk(const struct vm *vm, const char *target);

/* registry_create() for an export, whose hold is in use from the beginning: mark.c. Slow. */
int registry_make_hold(struct registry *registry, uint64_t vm, const struct registry_spec *spec,
                       uint64_t *ret_refpoint, struct rp_error *e);

struct mark;

/*
 * readopt.c. registry_keep_new_hold() writes down a hold that is about to be begun, and returns a
 * copy (NULL when out of memory) for vm->left, should it never be known what became of it;
 * registry_keep_hold() writes down that of a VM as it is now, or that there is none. Slow.
 */
struct kept_hold *registry_keep_new_hold(struct registry *registry, const struct mark *mark,
                                         const struct hold *hold);
void registry_keep_hold(struct registry *registry, struct vm *vm);

/* Gives VMs what the service before wrote down of their holds. */
void registry_take_left(struct registry *registry);

/* Removes what is left of such a hold, and frees it. */
void registry_drop_left(struct registry *registry, const char *uuid, struct kept_hold *left);

/* Takes over a hold that a service before left, or ends it. -errno: it cannot be told yet. Slow. */
int registry_readopt(struct registry *registry, struct vm *vm);

/* Until the condition is signalled, for so long at most, or not at all when it is to stop. */
void registry_sleep_locked(struct registry *registry, pthread_cond_t *condition, int64_t ms);

/* ---- guard.c ---- */

int guard_start(struct registry *registry, struct rp_error *e);
void guard_stop(struct registry *registry);
void guard_wake_locked(struct registry *registry);

/*
 * True when the VM's hold cannot fill the scratch space, whatever the guest writes, beside others
 * that need `*claimed_bytes` at most; what it needs is added there.
 */
bool guard_can_wait(struct registry *registry, struct vm *vm, uint64_t *claimed_bytes);

/* What is needed of a VM to mark it, copied, so that the lock is free while libvirt works. */
struct mark {
    const struct registry_spec *spec;
    struct vm *vm; /* with a reference */
    bool active, has_agent;
    char uuid[VIRT_UUID_SIZE];
    char *xml;    /* the domain's definition */
    char *nvram;  /* as in struct vm; "": none */
    char *parent; /* newest reference point, or "" */
    struct hold_target *targets;
    char **bases; /* newest first */
    size_t ntargets, nbases;
    bool has_owner;
    uid_t owner_uid;
    gid_t owner_gid;
};

/* What was made, to be put into the VM's record, which takes all of it over. */
struct made {
    bool owes_thaw;
    bool is_made; /* libvirt has the point */
    struct xml_checkpoint point;
    char *xml; /* of the point; NULL: none was made, or it cannot be described */
    struct hold *hold;
    struct offline *offline;
    unsigned uses; /* 1: an export's from the beginning */
};

void mark_describe(struct registry *registry, const struct mark *mark, struct made *made,
                   struct hold_request *ret_request);

/* mark-check.c: whether what the spec asks for may be marked, and which part a disk has in it. */
int mark_check_name(const char *name, struct rp_error *e);
int mark_check_free_locked(struct registry *registry, const struct vm *vm,
                           const struct registry_spec *spec, struct rp_error *e);
int mark_check_disks_locked(struct registry *registry, const struct vm *vm,
                            const struct registry_spec *spec, struct rp_error *e);
/*
 * Refuses a disk whose image cannot be read or changed here while the VM is off, by libvirt alone.
 * `or_else` is added to the advice to start it.
 */
int mark_check_file(const char *vm, const struct vm_disk *disk, const char *or_else,
                    struct rp_error *e);
enum hold_part mark_check_part(const struct registry_spec *spec, const struct vm_disk *disk);

/* mark-offline.c: the point in the images and in libvirt; the images served; the point removed. */
int mark_offline_point(struct registry *registry, const struct mark *mark, struct rp_error *e);
void mark_offline_undo(struct registry *registry, const struct mark *mark);
int mark_offline_serve(struct registry *registry, const struct mark *mark, struct made *made,
                       struct rp_error *e);
/* Removes the bitmaps of a point that was not defined any more, for the service ended before. */
void mark_offline_recover(struct registry *registry, const char *uuid);
int mark_offline_delete(struct registry *registry, struct vm *vm, uint64_t refpoint,
                        const char *name, struct rp_error *e);

/* Ends the hold of a VM that is due: mark.c, called by refresh.c. Slow. */
int registry_end_hold(struct registry *registry, struct vm *vm, uint64_t refpoint,
                      struct rp_error *e);

#endif

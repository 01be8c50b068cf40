// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What an export needs to know of its reference point or VM, and the hold it takes or makes. Any
 * thread; registry_export_hold() is slow.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2-file.h"

/* QEMU closes its sockets first when it ends, for which libvirt leaves it 15 s. */
#define EXPLAIN_MS       15000
#define EXPLAIN_PAUSE_MS 100

/* True when `point` is `ancestor` or came after it; bounded, should libvirt tell of a circle. */
static bool descends_locked(const struct vm *vm, const struct refpoint *point, const char *ancestor)
{
    for (size_t i = 0; point && i <= vm->refpoints.count; i++) {
        if (strcmp(point->name, ancestor) == 0)
            return true;
        point = registry_find_name_locked(vm, point->parent);
    }
    return false;
}

/* ---- disks ---- */

/* Adds a disk; `known` NULL: the VM has it no longer. `why` is copied; so is `start`. */
static int add_disk(struct export_subject *subject, const char *target, const struct vm_disk *known,
                    enum export_fit fit, const char *start, const char *why)
{
    struct export_disk *disk = &subject->disks[subject->ndisks++];

    *disk = (struct export_disk){.target = strdup(target),
                                 .fit = fit,
                                 .start = strdup(start),
                                 .why = strdup(why),
                                 .cluster_bytes = known ? known->cluster_bytes : 0,
                                 .is_encrypted = known && known->is_encrypted};
    return disk->target && disk->start && disk->why ? 0 : -ENOMEM;
}

/* A disk that is held: what its bitmap is, is known. */
static enum export_fit held_fit_locked(const struct vm *vm, const struct hold_disk *disk,
                                       const struct refpoint *base)
{
    const struct vm_disk *known = registry_find_disk(vm, disk->target);

    if (!base)
        return FIT_FULL;
    if (!*disk->base)
        return known && !known->tracked ? FIT_UNTRACKED : FIT_LOST;
    if (strcmp(disk->base, base->name) == 0)
        return FIT_EXACT;
    return descends_locked(vm, base, disk->base) ? FIT_LARGER : FIT_TOO_SHORT;
}

static int describe_held_locked(const struct vm *vm, const struct refpoint *base,
                                struct export_subject *subject)
{
    subject->disks = calloc(vm->hold->ndisks + 1, sizeof *subject->disks);
    if (!subject->disks)
        return -ENOMEM;
    for (size_t i = 0; i < vm->hold->ndisks; i++) {
        const struct hold_disk *disk = &vm->hold->disks[i];
        const char *why = *disk->why_full ? disk->why_full : "it is held in full";

        if (add_disk(subject, disk->target, registry_find_disk(vm, disk->target),
                     held_fit_locked(vm, disk, base), disk->base, *disk->base ? "" : why) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* A disk that would be held by the job: what its bitmap will be, as far as is known. */
static int expect_disk_locked(const struct vm_disk *disk, const struct refpoint *base,
                              struct export_subject *subject)
{
    const struct refpoint_disk_record *record = NULL;

    if (!base)
        return add_disk(subject, disk->target, disk, FIT_FULL, "", "");
    if (!disk->tracked)
        return add_disk(subject, disk->target, disk, FIT_UNTRACKED, "", disk->why_not);
    for (size_t i = 0; i < base->ndisks; i++)
        if (strcmp(base->disks[i].target, disk->target) == 0 && base->disks[i].covered)
            record = &base->disks[i];
    if (!record)
        return add_disk(subject, disk->target, disk, FIT_LOST, "", "the base does not cover it");
    if (record->health == HEALTH_BROKEN)
        return add_disk(subject, disk->target, disk, FIT_LOST, "", "the base's bitmap is broken");
    return add_disk(subject, disk->target, disk, FIT_EXACT, base->name, "");
}

static bool covers(const struct refpoint *refpoint, const char *target)
{
    for (size_t i = 0; i < refpoint->ndisks; i++)
        if (refpoint->disks[i].covered && strcmp(refpoint->disks[i].target, target) == 0)
            return true;
    return false;
}

/* `refpoint` NULL: the VM as it is, with all it has. */
static int expect_disks_locked(const struct vm *vm, const struct refpoint *refpoint,
                               const struct refpoint *base, struct export_subject *subject)
{
    size_t gone = refpoint ? refpoint->ndisks : 0;

    subject->disks = calloc(vm->ndisks + gone + 1, sizeof *subject->disks);
    if (!subject->disks)
        return -ENOMEM;
    for (size_t i = 0; i < gone; i++) {
        const struct refpoint_disk_record *disk = &refpoint->disks[i];

        if (disk->covered && !registry_find_disk(vm, disk->target) &&
            add_disk(subject, disk->target, NULL, FIT_GONE, "", "") < 0)
            return -ENOMEM;
    }
    for (size_t i = 0; i < vm->ndisks; i++) {
        const struct vm_disk *disk = &vm->disks[i];
        bool belongs = refpoint ? covers(refpoint, disk->target) : disk->is_exportable;

        if (belongs && expect_disk_locked(disk, base, subject) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* ---- subjects ---- */

static int find_base_locked(const struct vm *vm, const struct refpoint *refpoint, const char *name,
                            const struct refpoint **ret_base, struct rp_error *e)
{
    const struct refpoint *base = name ? registry_find_name_locked(vm, name) : NULL;

    if (name && !base)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "VM '%s' has no reference point '%s'", vm->name,
                       name);
    if (base && base == refpoint)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "reference point '%s' cannot be its own base",
                       name);
    if (base && refpoint && !descends_locked(vm, refpoint, name))
        return rp_fail(e, RESULT_INVALID_STATE, "'%s' is not older than '%s': no delta leads there",
                       name, refpoint->name);
    *ret_base = base;
    return 0;
}

static int describe_locked(const struct vm *vm, const struct refpoint *refpoint, const char *name,
                           struct export_subject *subject, struct rp_error *e)
{
    bool held = refpoint && vm->hold && vm->hold_refpoint == refpoint->serial && !vm->hold_ending;
    const struct refpoint *base = NULL;
    int rc = find_base_locked(vm, refpoint, name, &base, e);

    if (rc < 0)
        return rc;
    *subject = (struct export_subject){
        .vm = vm->serial,
        .vm_name = strdup(vm->name),
        .uuid = strdup(vm->uuid),
        .refpoint = strdup(refpoint ? refpoint->name : ""),
        .moment = held ? refpoint->created : 0,
        .exact = held ? EXACT_YES : EXACT_UNKNOWN,
        .consistency_level = refpoint ? refpoint->consistency_level : 2,
        .hold = held ? hold_copy(vm->hold) : NULL,
        .base = base ? strdup(base->name) : NULL,
        .base_created = base ? base->created : 0,
        .base_last_export = strdup(base && base->last_export ? base->last_export : ""),
    };
    if (refpoint)
        memcpy(subject->id, refpoint->id, sizeof subject->id);
    if (base)
        memcpy(subject->base_id, base->id, sizeof subject->base_id);
    if (!subject->vm_name || !subject->uuid || !subject->refpoint || !subject->base_last_export ||
        (held && !subject->hold) || (base && !subject->base))
        return rp_fail_memory(e);
    rc = held ? describe_held_locked(vm, base, subject)
              : expect_disks_locked(vm, refpoint, base, subject);
    return rc < 0 ? rp_fail_memory(e) : 0;
}

int registry_check_driver(struct registry *registry, struct rp_error *e)
{
    return registry->is_test
               ? rp_fail(e, RESULT_NOT_SUPPORTED, "libvirt's test driver has no data to export")
               : 0;
}

/* Is the VM's hold still the one that the subject has? */
static bool is_hold_of_locked(const struct vm *vm, const struct export_subject *subject)
{
    return vm->hold && strcmp(vm->hold->id, subject->hold->id) == 0;
}

/* The next service shall know whether it was in use. */
static void keep_and_unref(struct registry *registry, struct vm *vm)
{
    registry_keep_hold(registry, vm);
    pthread_mutex_lock(&registry->lock);
    registry_unref_vm_locked(vm);
    pthread_mutex_unlock(&registry->lock);
}

int registry_export_begin(struct registry *registry, uint64_t owner, const char *base, bool use,
                          struct export_subject *ret_subject, struct rp_error *e)
{
    struct export_subject subject = {0};
    struct refpoint *refpoint = NULL;
    struct vm *vm, *used = NULL;
    int rc;

    pthread_mutex_lock(&registry->lock);
    if (rp_serial_kind(owner) == KIND_VM) {
        vm = table_find(&registry->vms, owner);
    } else {
        refpoint = registry_find_refpoint_locked(registry, owner);
        vm = refpoint ? refpoint->vm : NULL;
    }
    rc = vm && vm->name ? describe_locked(vm, refpoint, base, &subject, e)
                        : rp_fail_errno(e, ENOENT, "no such reference point or VM");
    if (rc == 0 && use && subject.hold) {
        vm->hold_uses++;
        vm->refs++;
        used = vm;
    }
    pthread_mutex_unlock(&registry->lock);
    if (used)
        keep_and_unref(registry, used);
    if (rc < 0) {
        export_subject_clear(&subject);
        return rc;
    }
    *ret_subject = subject;
    return 0;
}

void registry_export_end(struct registry *registry, struct export_subject *subject)
{
    if (subject->hold) {
        pthread_mutex_lock(&registry->lock);
        struct vm *vm = table_find(&registry->vms, subject->vm);
        if (vm && is_hold_of_locked(vm, subject) && vm->hold_uses > 0) {
            vm->hold_uses--;
            vm->hold_used_ms = registry_now_ms();
            vm->refs++;
        } else {
            vm = NULL;
        }
        pthread_mutex_unlock(&registry->lock);
        if (vm)
            keep_and_unref(registry, vm);
    }
    export_subject_clear(subject);
}

/* ---- a hold for a job ---- */

/* The subject's disks once more, now by the hold that there is. */
static int adopt_hold_locked(const struct vm *vm, struct export_subject *subject)
{
    const struct refpoint *base =
        subject->base ? registry_find_name_locked(vm, subject->base) : NULL;
    struct export_subject fresh = {0};
    int rc = describe_held_locked(vm, base, &fresh);

    if (rc == 0) {
        struct export_disk *disks = subject->disks;
        size_t ndisks = subject->ndisks;

        subject->disks = fresh.disks;
        subject->ndisks = fresh.ndisks;
        fresh.disks = disks;
        fresh.ndisks = ndisks;
        subject->hold = hold_copy(vm->hold);
        rc = subject->hold ? 0 : -ENOMEM;
    }
    export_subject_clear(&fresh);
    return rc;
}

/* Of a VM that is off: the point's own bitmap tells, where it is offered. */
static int judge_images(struct export_subject *subject, struct rp_error *e)
{
    for (size_t i = 0; i < subject->hold->ndisks; i++) {
        bool is_empty = false;
        int rc =
            offline_is_bitmap_empty(subject->hold->socket_path, subject->hold->disks[i].export_name,
                                    subject->refpoint, &is_empty, e);

        if (rc < 0 && e->result != RESULT_INVALID_STATE)
            return rc;
        if (rc < 0 || !is_empty)
            subject->exact = EXACT_NO;
    }
    return 0;
}

uint64_t registry_disk_size(struct registry *registry, const char *uuid, const char *target,
                            const char *file, struct rp_error *e)
{
    struct qcow2_facts facts;
    uint64_t size = 0;

    if (!file)
        return virt_get_disk_size(registry->virt, uuid, target, &size, e) == 0 ? size : 0;
    if (qcow2_file_read(file, &facts, e) < 0)
        return 0;
    size = facts.size_bytes;
    qcow2_file_clear(&facts);
    return size;
}

/* What the point's instant is known to be like, of one of its disks. */
static uint64_t size_then(struct registry *registry, const struct export_subject *subject,
                          const char *target, char **ret_file)
{
    const struct refpoint *refpoint;
    const struct vm_disk *disk;
    uint64_t size = 0;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, subject->vm);
    refpoint = vm ? registry_find_name_locked(vm, subject->refpoint) : NULL;
    for (size_t i = 0; refpoint && i < refpoint->ndisks; i++)
        if (strcmp(refpoint->disks[i].target, target) == 0)
            size = refpoint->disks[i].size_bytes;
    disk = vm ? registry_find_disk(vm, target) : NULL;
    *ret_file = disk && disk->is_file && subject->hold->is_offline ? strdup(disk->source) : NULL;
    pthread_mutex_unlock(&registry->lock);
    return size;
}

/* Growing a disk writes nothing, and no bitmap tells of it. */
static void judge_sizes(struct registry *registry, struct export_subject *subject)
{
    struct rp_error ignored;

    for (size_t i = 0; i < subject->hold->ndisks; i++) {
        const char *target = subject->hold->disks[i].target;
        char *file;
        uint64_t then = size_then(registry, subject, target, &file), now;

        now = then ? registry_disk_size(registry, subject->uuid, target, file, &ignored) : 0;
        free(file);
        if (then && now && then != now)
            subject->exact = EXACT_NO;
    }
}

/* Is what is held still the instant of the subject's reference point? */
static int judge_exactness(struct registry *registry, struct export_subject *subject,
                           struct rp_error *e)
{
    bool changed = true;
    int rc;

    subject->exact = EXACT_YES;
    if (!*subject->refpoint) {
        subject->consistency_level = subject->hold->is_frozen ? 1 : 2;
        return 0;
    }
    judge_sizes(registry, subject);
    if (subject->hold->is_offline)
        return judge_images(subject, e);
    rc = hold_has_changed_since(registry->virt, subject->uuid, subject->hold, subject->refpoint,
                                &changed, e);
    if (rc < 0)
        return rc;
    if (changed)
        subject->exact = EXACT_NO;
    return 0;
}

static time_t created_locked(const struct vm *vm, const char *name)
{
    const struct refpoint *refpoint = registry_find_name_locked(vm, name);

    return refpoint ? refpoint->created : 0;
}

/* A hold that was begun for a job which does not come to know it: nobody else would end it. */
static void abandon_hold(struct registry *registry, uint64_t serial)
{
    struct rp_error ignored;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm && vm->hold && vm->hold_uses > 0)
        vm->hold_uses--;
    pthread_mutex_unlock(&registry->lock);
    registry_release_vm(registry, serial, &ignored);
}

int registry_export_hold(struct registry *registry, const struct registry_spec *spec,
                         struct export_subject *subject, uint64_t *ret_refpoint, struct rp_error *e)
{
    uint64_t refpoint = 0;
    int rc = registry_make_hold(registry, subject->vm, spec, &refpoint, e);
    time_t moment = time(NULL);
    struct vm *vm;

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, subject->vm);
    if (!vm || !vm->hold)
        rc = rp_fail(e, RESULT_NOT_AVAILABLE, "the VM went away");
    else if (adopt_hold_locked(vm, subject) < 0)
        rc = rp_fail_memory(e);
    if (rc == 0 && spec->name) {
        const struct refpoint *made = registry_find_name_locked(vm, spec->name);

        moment = made ? made->created : moment;
        memcpy(subject->id, made ? made->id : "", made ? sizeof subject->id : 1);
    }
    pthread_mutex_unlock(&registry->lock);
    subject->moment = moment;
    *ret_refpoint = refpoint;
    if (!subject->hold)
        abandon_hold(registry, subject->vm);
    if (rc == 0)
        rc = judge_exactness(registry, subject, e);
    if (rc == 0 && subject->exact == EXACT_YES && *subject->refpoint) {
        pthread_mutex_lock(&registry->lock);
        vm = table_find(&registry->vms, subject->vm);
        subject->moment = vm ? created_locked(vm, subject->refpoint) : moment;
        pthread_mutex_unlock(&registry->lock);
    }
    return rc;
}

/* A hold that has ended: our own reason if we have one, else what is known. */
static int verify_online(struct registry *registry, const struct export_subject *subject,
                         struct rp_error *e)
{
    const struct vm *vm;
    int rc = 0;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, subject->vm);
    if (vm && strcmp(vm->lost_id, subject->hold->id) == 0) {
        *e = vm->lost;
        rc = -e->err;
    } else if (!vm || !vm->active) {
        rc = rp_fail(e, RESULT_FAILED, "VM '%s' was shut off, or its QEMU ended, during the export",
                     subject->vm_name);
    } else if (!is_hold_of_locked(vm, subject)) {
        /* A VM that is being shut off loses its job seconds before it is off. */
        rc = rp_fail(e, RESULT_FAILED,
                     "the backup job that held the data of VM '%s' was ended during the export, by "
                     "another program or because the VM is being shut off",
                     subject->vm_name);
    }
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

int registry_export_verify(struct registry *registry, const struct export_subject *subject,
                           bool thorough, struct rp_error *e)
{
    struct offline *offline = NULL;
    bool started;
    struct vm *vm;

    if (!subject->hold)
        return 0;
    if (!subject->hold->is_offline)
        return verify_online(registry, subject, e);
    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, subject->vm);
    started = !vm || vm->active || !vm->offline;
    if (!started && thorough) {
        offline = vm->offline;
        offline_ref(offline);
    }
    pthread_mutex_unlock(&registry->lock);
    if (offline) {
        started = !offline_is_unchanged(offline);
        offline_unref(offline);
    }
    return started ? rp_fail(e, RESULT_INVALID_STATE,
                             "VM '%s' was started, or its images were written to, during the "
                             "export",
                             subject->vm_name)
                   : 0;
}

int registry_export_explain(struct registry *registry, const struct export_subject *subject,
                            struct rp_error *e)
{
    int64_t now = registry_now_ms(), end = now + EXPLAIN_MS, next = now;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    while (now < end && virt_is_connected(registry->virt) && !registry->stop &&
           (vm = table_find(&registry->vms, subject->vm)) && vm->active &&
           is_hold_of_locked(vm, subject)) {
        if (now >= next) {
            registry_enqueue_locked(registry, vm, TASK_DOMAIN | TASK_HOLD);
            next = now + EXPLAIN_PAUSE_MS;
        }
        registry_sleep_locked(registry, &registry->fresh, EXPLAIN_PAUSE_MS);
        now = registry_now_ms();
    }
    pthread_mutex_unlock(&registry->lock);
    return registry_export_verify(registry, subject, true, e);
}

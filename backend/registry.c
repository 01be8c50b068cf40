// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The tables of VMs and reference points, and copies of what they hold. Never waits: what is not
 * known yet is answered as unknown, and asked for in the background by refresh.c.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t registry_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void registry_changed(struct registry *registry, uint64_t serial, unsigned topics)
{
    registry->events.changed(registry->events.opaque, serial, topics);
}

/* ---- records ---- */

void registry_free_disks(struct vm_disk *disks, size_t ndisks)
{
    for (size_t i = 0; i < ndisks; i++) {
        free(disks[i].target);
        free(disks[i].source);
        free(disks[i].format);
        free(disks[i].why_not);
    }
    free(disks);
}

void registry_free_refpoint(struct refpoint *refpoint)
{
    for (size_t i = 0; i < refpoint->ndisks; i++)
        free(refpoint->disks[i].target);
    free(refpoint->disks);
    free(refpoint->name);
    free(refpoint->parent);
    free(refpoint->xml);
    free(refpoint->last_export);
    free(refpoint);
}

void registry_remove_refpoint_locked(struct vm *vm, struct refpoint *refpoint)
{
    table_remove(&vm->refpoints, refpoint->serial);
    for (size_t i = 0; i < vm->refpoints.count; i++) {
        struct refpoint *other = vm->refpoints.items[i];
        char *parent = strcmp(other->parent, refpoint->name) == 0 ? strdup(refpoint->parent) : NULL;

        if (parent) {
            free(other->parent);
            other->parent = parent;
        }
    }
    registry_free_refpoint(refpoint);
}

void registry_drop_hold_locked(struct vm *vm)
{
    hold_free(vm->hold);
    vm->hold = NULL;
    vm->hold_refpoint = 0;
    vm->hold_ending = false;
}

void registry_unref_vm_locked(struct vm *vm)
{
    if (--vm->refs > 0)
        return;
    for (size_t i = 0; i < vm->refpoints.count; i++)
        registry_free_refpoint(vm->refpoints.items[i]);
    table_clear(&vm->refpoints);
    registry_drop_hold_locked(vm);
    if (vm->left)
        kept_hold_clear(vm->left);
    free(vm->left);
    registry_free_disks(vm->disks, vm->ndisks);
    free(vm->name);
    free(vm->xml);
    free(vm->nvram);
    free(vm);
}

struct vm *registry_add_vm_locked(struct registry *registry, const char *uuid)
{
    struct vm *vm = calloc(1, sizeof *vm);

    if (!vm)
        return NULL;
    vm->serial = table_new_serial(KIND_VM);
    vm->refs = 1;
    vm->state = "unknown";
    snprintf(vm->uuid, sizeof vm->uuid, "%s", uuid);
    clock_gettime(CLOCK_REALTIME, &vm->changed);
    if (table_append(&registry->vms, vm) < 0) {
        free(vm);
        return NULL;
    }
    return vm;
}

/* Takes over `xml` if it succeeds. NULL when out of memory. */
struct refpoint *registry_add_refpoint_locked(struct vm *vm, const struct xml_checkpoint *point,
                                              char *xml)
{
    struct refpoint *refpoint = calloc(1, sizeof *refpoint);
    struct hold_words words;

    if (!refpoint)
        return NULL;
    refpoint->vm = vm;
    refpoint->serial = table_new_serial(KIND_REFPOINT);
    refpoint->name = strdup(point->name);
    refpoint->parent = strdup(point->parent);
    refpoint->last_export = strdup("");
    refpoint->created = point->created;
    hold_read_description(point->description, &words);
    refpoint->consistency_level = words.consistency_level;
    memcpy(refpoint->id, words.id, sizeof refpoint->id);
    refpoint->disks = calloc(point->ndisks + 1, sizeof *refpoint->disks);
    if (!refpoint->name || !refpoint->parent || !refpoint->last_export || !refpoint->disks)
        goto fail;
    for (size_t i = 0; i < point->ndisks; i++) {
        struct refpoint_disk_record *disk = &refpoint->disks[refpoint->ndisks++];

        disk->covered = *point->disks[i].bitmap != '\0';
        disk->target = strdup(point->disks[i].target);
        disk->size_bytes = hold_read_size(point->description, point->disks[i].target);
        if (!disk->target)
            goto fail;
    }
    if (table_append(&vm->refpoints, refpoint) < 0)
        goto fail;
    refpoint->xml = xml;
    refpoint->wants_sizes = true;
    return refpoint;

fail:
    registry_free_refpoint(refpoint);
    return NULL;
}

/* ---- finding ---- */

struct vm *registry_find_uuid_locked(struct registry *registry, const char *uuid)
{
    for (size_t i = 0; i < registry->vms.count; i++) {
        struct vm *vm = registry->vms.items[i];
        if (strcmp(vm->uuid, uuid) == 0)
            return vm;
    }
    return NULL;
}

struct refpoint *registry_find_name_locked(const struct vm *vm, const char *name)
{
    for (size_t i = 0; i < vm->refpoints.count; i++) {
        struct refpoint *refpoint = vm->refpoints.items[i];
        if (strcmp(refpoint->name, name) == 0)
            return refpoint;
    }
    return NULL;
}

struct refpoint *registry_find_refpoint_locked(struct registry *registry, uint64_t serial)
{
    for (size_t i = 0; i < registry->vms.count; i++) {
        struct refpoint *refpoint =
            table_find(&((struct vm *)registry->vms.items[i])->refpoints, serial);
        if (refpoint)
            return refpoint;
    }
    return NULL;
}

const struct vm_disk *registry_find_disk(const struct vm *vm, const char *target)
{
    for (size_t i = 0; i < vm->ndisks; i++)
        if (strcmp(vm->disks[i].target, target) == 0)
            return &vm->disks[i];
    return NULL;
}

/* ---- listing ---- */

static void describe(uint64_t serial, const char *name, struct timespec changed,
                     struct child *child)
{
    child->serial = serial;
    child->changed = changed;
    snprintf(child->name, sizeof child->name, "%s", name);
}

static void describe_refpoint(const struct refpoint *refpoint, struct child *child)
{
    describe(refpoint->serial, refpoint->name, (struct timespec){.tv_sec = refpoint->created},
             child);
}

/* A name that no directory can have cannot be shown: longer than a file name, or "." and "..". */
bool registry_is_listed(const struct vm *vm)
{
    return vm->name && *vm->name && strlen(vm->name) < RP_NAME_SIZE && !strchr(vm->name, '/') &&
           strcmp(vm->name, ".") != 0 && strcmp(vm->name, "..") != 0;
}

int registry_stat(struct registry *registry, uint64_t serial, struct child *ret_child)
{
    int rc = -ENOENT;

    pthread_mutex_lock(&registry->lock);
    if (rp_serial_kind(serial) == KIND_VM) {
        struct vm *vm = table_find(&registry->vms, serial);
        if (vm && registry_is_listed(vm)) {
            describe(serial, vm->name, vm->changed, ret_child);
            rc = 0;
        }
    } else {
        struct refpoint *refpoint = registry_find_refpoint_locked(registry, serial);
        if (refpoint) {
            describe_refpoint(refpoint, ret_child);
            rc = 0;
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

static uint64_t find_vm_locked(struct registry *registry, const char *name)
{
    for (size_t i = 0; i < registry->vms.count; i++) {
        const struct vm *vm = registry->vms.items[i];
        if (registry_is_listed(vm) && strcmp(vm->name, name) == 0)
            return vm->serial;
    }
    return 0;
}

int registry_child(struct registry *registry, uint64_t parent, const char *name,
                   uint64_t *ret_serial)
{
    uint64_t serial = 0;

    pthread_mutex_lock(&registry->lock);
    if (parent == 0) {
        serial = find_vm_locked(registry, name);
    } else {
        struct vm *vm = table_find(&registry->vms, parent);
        struct refpoint *refpoint = vm ? registry_find_name_locked(vm, name) : NULL;
        serial = refpoint ? refpoint->serial : 0;
    }
    pthread_mutex_unlock(&registry->lock);
    if (!serial)
        return -ENOENT;
    *ret_serial = serial;
    return 0;
}

size_t registry_children(struct registry *registry, uint64_t parent, uint64_t after,
                         struct child *ret_children, size_t max)
{
    const struct table *table = &registry->vms;
    size_t count = 0;

    pthread_mutex_lock(&registry->lock);
    if (parent != 0) {
        struct vm *vm = table_find(&registry->vms, parent);
        table = vm ? &vm->refpoints : NULL;
    }
    for (size_t i = table ? table_after(table, after) : 0; table && i < table->count && count < max;
         i++) {
        if (parent != 0)
            describe_refpoint(table->items[i], &ret_children[count++]);
        else if (registry_is_listed(table->items[i])) {
            const struct vm *vm = table->items[i];
            describe(vm->serial, vm->name, vm->changed, &ret_children[count++]);
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return count;
}

/* The reference point and VM of a serial that is either's. False when it is gone. */
static bool find_owner_locked(struct registry *registry, uint64_t owner, struct vm **ret_vm,
                              struct refpoint **ret_refpoint)
{
    *ret_refpoint = NULL;
    if (rp_serial_kind(owner) == KIND_VM) {
        *ret_vm = table_find(&registry->vms, owner);
        return *ret_vm != NULL;
    }
    *ret_refpoint = registry_find_refpoint_locked(registry, owner);
    *ret_vm = *ret_refpoint ? (*ret_refpoint)->vm : NULL;
    return *ret_refpoint != NULL;
}

int registry_with_slot(struct registry *registry, uint64_t owner,
                       void (*use)(struct slot *slot, void *opaque), void *opaque)
{
    struct refpoint *refpoint;
    struct vm *vm;
    bool found;

    pthread_mutex_lock(&registry->lock);
    found = find_owner_locked(registry, owner, &vm, &refpoint);
    if (found)
        use(refpoint ? &refpoint->slot : &vm->slot, opaque);
    pthread_mutex_unlock(&registry->lock);
    return found ? 0 : -ENOENT;
}

uint64_t registry_vm_of(struct registry *registry, uint64_t owner)
{
    struct refpoint *refpoint;
    struct vm *vm;
    uint64_t serial;

    pthread_mutex_lock(&registry->lock);
    serial = find_owner_locked(registry, owner, &vm, &refpoint) ? vm->serial : 0;
    pthread_mutex_unlock(&registry->lock);
    return serial;
}

uint64_t registry_identify(struct registry *registry, uint64_t owner, char *ret_uuid, char *ret_id,
                           char **ret_refpoint)
{
    struct refpoint *refpoint;
    uint64_t serial = 0;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    if (find_owner_locked(registry, owner, &vm, &refpoint) &&
        (*ret_refpoint = strdup(refpoint ? refpoint->name : ""))) {
        memcpy(ret_uuid, vm->uuid, VIRT_UUID_SIZE);
        memcpy(ret_id, refpoint ? refpoint->id : "", refpoint ? HOLD_ID_SIZE : 1);
        serial = vm->serial;
    }
    pthread_mutex_unlock(&registry->lock);
    return serial;
}

int registry_names(struct registry *registry, uint64_t owner, char **ret_vm, char **ret_refpoint,
                   struct rp_error *e)
{
    char *vm_name = NULL, *name = NULL;
    struct refpoint *refpoint;
    struct vm *vm;
    bool found;

    pthread_mutex_lock(&registry->lock);
    found = find_owner_locked(registry, owner, &vm, &refpoint);
    if (found) {
        vm_name = strdup(vm->name ? vm->name : "");
        name = strdup(refpoint ? refpoint->name : "");
    }
    pthread_mutex_unlock(&registry->lock);
    if (!found)
        return rp_fail_errno(e, ENOENT, "no such reference point or VM");
    if (!vm_name || !name) {
        free(vm_name);
        free(name);
        return rp_fail_memory(e);
    }
    *ret_vm = vm_name;
    *ret_refpoint = name;
    return 0;
}

void registry_set_last_export(struct registry *registry, uint64_t serial, const char *directory,
                              bool stands)
{
    char *copy = strdup(directory), *name = NULL, uuid[VIRT_UUID_SIZE], id[HOLD_ID_SIZE];
    struct refpoint *refpoint;
    struct rp_error ignored;
    time_t created = 0;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, serial);
    if (refpoint && copy && (stands || !*refpoint->last_export)) {
        free(refpoint->last_export);
        refpoint->last_export = copy;
        copy = NULL;
        created = refpoint->created;
        name = strdup(refpoint->name);
        memcpy(uuid, refpoint->vm->uuid, sizeof uuid);
        memcpy(id, refpoint->id, sizeof id);
    }
    pthread_mutex_unlock(&registry->lock);
    free(copy);
    /* The export is complete, whether or not a later service will know where it is. */
    if (name)
        journal_set_export(registry->journal, uuid, name, created, id, directory, &ignored);
    free(name);
    registry_changed(registry, serial, TOPIC_INFO);
}

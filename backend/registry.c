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

void registry_tell_removed(struct registry *registry, uint64_t refpoint, uint64_t *children)
{
    registry_changed(registry, refpoint, TOPIC_GONE);
    for (size_t i = 0; children && children[i]; i++)
        registry_changed(registry, children[i], TOPIC_INFO); /* another parent */
    free(children);
}

/* ---- keys ---- */

static uint64_t hash_vm_uuid(const void *item)
{
    return index_hash_text(((const struct vm *)item)->uuid);
}

static bool vm_has_uuid(const void *item, const void *key)
{
    return strcmp(((const struct vm *)item)->uuid, key) == 0;
}

static uint64_t hash_vm_name(const void *item)
{
    return index_hash_text(((const struct vm *)item)->name);
}

static bool vm_has_name(const void *item, const void *key)
{
    return strcmp(((const struct vm *)item)->name, key) == 0;
}

static uint64_t hash_refpoint_name(const void *item)
{
    return index_hash_text(((const struct refpoint *)item)->name);
}

static bool refpoint_has_name(const void *item, const void *key)
{
    return strcmp(((const struct refpoint *)item)->name, key) == 0;
}

static uint64_t hash_refpoint(const void *item)
{
    return index_hash_number(((const struct refpoint *)item)->serial);
}

static bool refpoint_has_serial(const void *item, const void *key)
{
    return ((const struct refpoint *)item)->serial == *(const uint64_t *)key;
}

static const struct index_kind vm_uuids = {hash_vm_uuid, vm_has_uuid};
static const struct index_kind vm_names = {hash_vm_name, vm_has_name};
static const struct index_kind refpoint_names = {hash_refpoint_name, refpoint_has_name};
static const struct index_kind refpoints = {hash_refpoint, refpoint_has_serial};

void registry_init_tables(struct registry *registry)
{
    registry->vm_uuids.kind = &vm_uuids;
    registry->vm_names.kind = &vm_names;
    registry->refpoints.kind = &refpoints;
    TAILQ_INIT(&registry->queued);
}

void registry_clear_tables(struct registry *registry)
{
    while (registry->vms.count > 0)
        registry_remove_vm_locked(registry->vms.items[registry->vms.count - 1]);
    table_clear(&registry->vms);
    index_clear(&registry->vm_uuids);
    index_clear(&registry->vm_names);
    index_clear(&registry->refpoints);
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

static void free_refpoint(struct refpoint *refpoint)
{
    for (size_t i = 0; i < refpoint->ndisks; i++)
        free(refpoint->disks[i].target);
    free(refpoint->disks);
    free(refpoint->slot);
    free(refpoint->name);
    free(refpoint->parent);
    free(refpoint->xml);
    free(refpoint->last_export);
    free(refpoint);
}

void registry_drop_refpoint_locked(struct vm *vm, struct refpoint *refpoint)
{
    index_remove(&vm->registry->refpoints, refpoint);
    index_remove(&vm->refpoint_names, refpoint);
    table_remove(&vm->refpoints, refpoint->serial);
    free_refpoint(refpoint);
}

static bool adopt_child(struct refpoint *child, const struct refpoint *from)
{
    char *parent = strcmp(child->parent, from->name) == 0 ? strdup(from->parent) : NULL;

    if (!parent)
        return false;
    free(child->parent);
    child->parent = parent;
    return true;
}

uint64_t *registry_remove_refpoint_locked(struct vm *vm, struct refpoint *refpoint)
{
    uint64_t *children = NULL;
    size_t count = 0;

    for (size_t i = 0; i < vm->refpoints.count; i++) {
        struct refpoint *child = vm->refpoints.items[i];
        uint64_t *more =
            adopt_child(child, refpoint) ? reallocarray(children, count + 2, sizeof *more) : NULL;

        if (!more)
            continue;
        children = more;
        children[count++] = child->serial;
        children[count] = 0;
    }
    registry_drop_refpoint_locked(vm, refpoint);
    return children;
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
    while (vm->refpoints.count > 0)
        registry_drop_refpoint_locked(vm, vm->refpoints.items[vm->refpoints.count - 1]);
    table_clear(&vm->refpoints);
    index_clear(&vm->refpoint_names);
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
    vm->registry = registry;
    vm->refpoint_names.kind = &refpoint_names;
    vm->serial = table_new_serial(KIND_VM);
    vm->refs = 1;
    vm->state = "unknown";
    snprintf(vm->uuid, sizeof vm->uuid, "%s", uuid);
    clock_gettime(CLOCK_REALTIME, &vm->changed);
    if (index_add(&registry->vm_uuids, vm) < 0) {
        free(vm);
        return NULL;
    }
    if (table_append(&registry->vms, vm) < 0) {
        index_remove(&registry->vm_uuids, vm);
        free(vm);
        return NULL;
    }
    registry->unknown++;
    registry->added_ms = registry_now_ms();
    return vm;
}

void registry_remove_vm_locked(struct vm *vm)
{
    struct registry *registry = vm->registry;

    vm->gone = true;
    registry->unknown -= !vm->xml;
    if (registry_is_listed(vm))
        index_remove(&registry->vm_names, vm);
    index_remove(&registry->vm_uuids, vm);
    table_remove(&registry->vms, vm->serial);
    registry_unref_vm_locked(vm);
}

char *registry_rename_vm_locked(struct vm *vm, char *name)
{
    struct index *names = &vm->registry->vm_names;
    char *before = vm->name;

    if (registry_is_listed(vm))
        index_remove(names, vm);
    vm->name = name;
    if (!registry_is_listed(vm) || index_add(names, vm) == 0)
        return before;
    /* That one finds its place again: it has just left it. */
    vm->name = before;
    if (registry_is_listed(vm))
        (void)index_add(names, vm);
    return name;
}

/* Into the tables, all or none. */
static int list_refpoint_locked(struct vm *vm, struct refpoint *refpoint)
{
    if (index_add(&vm->registry->refpoints, refpoint) < 0)
        return -ENOMEM;
    if (index_add(&vm->refpoint_names, refpoint) == 0) {
        if (table_append(&vm->refpoints, refpoint) == 0)
            return 0;
        index_remove(&vm->refpoint_names, refpoint);
    }
    index_remove(&vm->registry->refpoints, refpoint);
    return -ENOMEM;
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
    refpoint->created = point->created;
    hold_read_description(point->description, &words);
    refpoint->consistency_level = words.consistency_level;
    memcpy(refpoint->id, words.id, sizeof refpoint->id);
    refpoint->disks = calloc(point->ndisks ? point->ndisks : 1, sizeof *refpoint->disks);
    if (!refpoint->name || !refpoint->parent || !refpoint->disks)
        goto fail;
    for (size_t i = 0; i < point->ndisks; i++) {
        struct refpoint_disk_record *disk = &refpoint->disks[refpoint->ndisks++];

        disk->covered = *point->disks[i].bitmap != '\0';
        disk->target = strdup(point->disks[i].target);
        disk->size_bytes = hold_read_size(point->description, point->disks[i].target);
        if (!disk->target)
            goto fail;
    }
    if (list_refpoint_locked(vm, refpoint) < 0)
        goto fail;
    refpoint->xml = xml;
    refpoint->wants_sizes = true;
    return refpoint;

fail:
    free_refpoint(refpoint);
    return NULL;
}

/* ---- finding ---- */

struct vm *registry_find_uuid_locked(struct registry *registry, const char *uuid)
{
    return index_find(&registry->vm_uuids, index_hash_text(uuid), uuid);
}

struct refpoint *registry_find_name_locked(const struct vm *vm, const char *name)
{
    return index_find(&vm->refpoint_names, index_hash_text(name), name);
}

struct refpoint *registry_find_refpoint_locked(struct registry *registry, uint64_t serial)
{
    return index_find(&registry->refpoints, index_hash_number(serial), &serial);
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

int registry_child(struct registry *registry, uint64_t parent, const char *name,
                   uint64_t *ret_serial)
{
    uint64_t serial = 0;

    pthread_mutex_lock(&registry->lock);
    if (parent == 0) {
        const struct vm *vm = index_find(&registry->vm_names, index_hash_text(name), name);
        serial = vm ? vm->serial : 0;
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

int registry_get_slot(struct registry *registry, uint64_t owner, struct slot *ret_slot)
{
    struct refpoint *refpoint;
    struct vm *vm;
    bool found;

    pthread_mutex_lock(&registry->lock);
    found = find_owner_locked(registry, owner, &vm, &refpoint);
    if (found && !refpoint)
        *ret_slot = vm->slot;
    else if (found)
        *ret_slot = refpoint->slot ? *refpoint->slot : (struct slot){0};
    if (found && refpoint) {
        ret_slot->is_bound = refpoint->is_bound;
        ret_slot->receiving = refpoint->receiving;
    }
    pthread_mutex_unlock(&registry->lock);
    return found ? 0 : -ENOENT;
}

void registry_set_bound(struct registry *registry, uint64_t owner)
{
    struct refpoint *refpoint;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    if (find_owner_locked(registry, owner, &vm, &refpoint))
        *(refpoint ? &refpoint->is_bound : &vm->slot.is_bound) = true;
    pthread_mutex_unlock(&registry->lock);
}

bool registry_is_receiving_locked(struct registry *registry, uint64_t owner)
{
    struct refpoint *refpoint;
    struct vm *vm;

    if (!find_owner_locked(registry, owner, &vm, &refpoint))
        return false;
    return (refpoint ? refpoint->receiving : vm->slot.receiving) > 0;
}

void registry_receiving(struct registry *registry, uint64_t owner, int delta)
{
    struct refpoint *refpoint;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    if (find_owner_locked(registry, owner, &vm, &refpoint)) {
        if (refpoint)
            refpoint->receiving = (uint16_t)(refpoint->receiving + delta);
        else
            vm->slot.receiving += (unsigned)delta;
        pthread_cond_broadcast(&registry->fresh);
    }
    pthread_mutex_unlock(&registry->lock);
}

static int change_slot_locked(struct refpoint *refpoint,
                              void (*change)(struct slot *slot, void *opaque), void *opaque)
{
    if (!refpoint->slot)
        refpoint->slot = calloc(1, sizeof *refpoint->slot);
    if (!refpoint->slot)
        return -ENOMEM;
    change(refpoint->slot, opaque);
    return 0;
}

int registry_change_slot(struct registry *registry, uint64_t owner,
                         void (*change)(struct slot *slot, void *opaque), void *opaque)
{
    struct refpoint *refpoint;
    struct vm *vm;
    int rc = -ENOENT;

    pthread_mutex_lock(&registry->lock);
    if (find_owner_locked(registry, owner, &vm, &refpoint)) {
        rc = 0;
        if (refpoint)
            rc = change_slot_locked(refpoint, change, opaque);
        else
            change(&vm->slot, opaque);
    }
    pthread_mutex_unlock(&registry->lock);
    return rc;
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
    if (refpoint && copy && (stands || !refpoint->last_export)) {
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

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The disks of holds: put up when a reference point's hold begins, taken down before it ends,
 * listed in between. The lists are those of backend.h; what a disk is able to do stands in
 * held-disk.h.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- beginning and end ---- */

void registry_add_disks_locked(struct vm *vm)
{
    if (!vm->hold || !vm->hold_refpoint)
        return;
    for (size_t i = 0; i < vm->hold->ndisks; i++) {
        const struct hold_disk *held = &vm->hold->disks[i];
        const struct held_disk_params params = {
            .target = held->target,
            .socket_path = vm->hold->socket_path,
            .export_name = held->export_name,
            .bitmap = *held->base ? held->bitmap : NULL,
            .offline = vm->offline,
        };
        struct disk *disk = held_disk_new(&params);

        if (disk && table_append(&vm->hold_disks, disk) < 0)
            held_disk_unref(disk);
    }
}

struct table registry_take_disks_locked(struct vm *vm)
{
    struct table disks = vm->hold_disks;

    vm->hold_disks = (struct table){0};
    return disks;
}

void registry_end_disks(struct registry *registry, struct table *disks)
{
    for (size_t i = 0; i < disks->count; i++) {
        struct disk *disk = disks->items[i];
        uint64_t serial = held_disk_serial(disk);

        held_disk_end(disk);
        held_disk_unref(disk);
        registry_changed(registry, serial, TOPIC_GONE);
    }
    table_clear(disks);
}

int64_t registry_hold_used_ms_locked(const struct vm *vm)
{
    int64_t used_ms = vm->hold_used_ms;

    for (size_t i = 0; i < vm->hold_disks.count; i++) {
        int64_t disk_ms = held_disk_used_ms(vm->hold_disks.items[i]);
        used_ms = disk_ms > used_ms ? disk_ms : used_ms;
    }
    return used_ms;
}

/* ---- finding and listing ---- */

/* The VM that holds this reference point, or NULL. */
static struct vm *find_holder_locked(struct registry *registry, uint64_t refpoint)
{
    struct refpoint *found = registry_find_refpoint_locked(registry, refpoint);

    return found && found->vm->hold_refpoint == refpoint ? found->vm : NULL;
}

static struct disk *find_disk_locked(struct registry *registry, uint64_t serial, struct vm **ret_vm)
{
    for (size_t i = 0; i < registry->vms.count; i++) {
        struct vm *vm = registry->vms.items[i];
        struct disk *disk = table_find(&vm->hold_disks, serial);

        if (disk) {
            *ret_vm = vm;
            return disk;
        }
    }
    return NULL;
}

/* Referenced, or NULL. */
static struct disk *get_disk(struct registry *registry, uint64_t serial)
{
    struct disk *disk;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    disk = find_disk_locked(registry, serial, &vm);
    if (disk)
        held_disk_ref(disk);
    pthread_mutex_unlock(&registry->lock);
    return disk;
}

static void describe_locked(const struct vm *vm, const struct disk *disk, struct child *ret_child)
{
    const struct refpoint *refpoint = table_find(&vm->refpoints, vm->hold_refpoint);

    ret_child->serial = held_disk_serial(disk);
    ret_child->changed = (struct timespec){.tv_sec = refpoint ? refpoint->created : 0};
    snprintf(ret_child->name, sizeof ret_child->name, "%s", held_disk_target(disk));
}

int registry_disk_stat(struct registry *registry, uint64_t serial, struct child *ret_child)
{
    struct disk *disk;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    disk = find_disk_locked(registry, serial, &vm);
    if (disk)
        describe_locked(vm, disk, ret_child);
    pthread_mutex_unlock(&registry->lock);
    return disk ? 0 : -ENOENT;
}

int registry_disk_child(struct registry *registry, uint64_t refpoint, const char *target,
                        uint64_t *ret_serial)
{
    struct disk_info info;
    uint64_t serial = 0;

    pthread_mutex_lock(&registry->lock);
    const struct vm *vm = find_holder_locked(registry, refpoint);
    for (size_t i = 0; vm && i < vm->hold_disks.count; i++) {
        struct disk *disk = vm->hold_disks.items[i];
        if (strcmp(held_disk_target(disk), target) == 0 && held_disk_get_info(disk, &info))
            serial = held_disk_serial(disk);
    }
    pthread_mutex_unlock(&registry->lock);
    if (!serial)
        return -ENOENT;
    *ret_serial = serial;
    return 0;
}

size_t registry_disk_children(struct registry *registry, uint64_t refpoint, uint64_t after,
                              struct child *ret_children, size_t max)
{
    struct disk_info info;
    size_t count = 0;

    pthread_mutex_lock(&registry->lock);
    const struct vm *vm = find_holder_locked(registry, refpoint);
    for (size_t i = vm ? table_after(&vm->hold_disks, after) : 0;
         vm && i < vm->hold_disks.count && count < max; i++)
        if (held_disk_get_info(vm->hold_disks.items[i], &info))
            describe_locked(vm, vm->hold_disks.items[i], &ret_children[count++]);
    pthread_mutex_unlock(&registry->lock);
    return count;
}

bool registry_disk_is_stale(struct registry *registry, uint64_t refpoint)
{
    bool stale = false;

    pthread_mutex_lock(&registry->lock);
    const struct vm *vm = find_holder_locked(registry, refpoint);
    for (size_t i = 0; vm && i < vm->hold_disks.count; i++)
        stale |= held_disk_is_stale(vm->hold_disks.items[i]);
    pthread_mutex_unlock(&registry->lock);
    return stale;
}

void registry_disk_refresh(struct registry *registry, uint64_t refpoint, unsigned timeout_ms)
{
    int64_t until_ms = registry_now_ms() + timeout_ms;
    struct disk **disks = NULL;
    size_t count = 0;

    pthread_mutex_lock(&registry->lock);
    const struct vm *vm = find_holder_locked(registry, refpoint);
    if (vm)
        disks = calloc(vm->hold_disks.count + 1, sizeof *disks);
    for (; disks && count < vm->hold_disks.count; count++) {
        disks[count] = vm->hold_disks.items[count];
        held_disk_ref(disks[count]);
    }
    pthread_mutex_unlock(&registry->lock);
    /* All at once, then one after the other. */
    for (size_t i = 0; i < count; i++)
        held_disk_find_out(disks[i]);
    for (size_t i = 0; i < count; i++) {
        held_disk_wait(disks[i], until_ms);
        held_disk_unref(disks[i]);
    }
    free(disks);
}

static int gone(struct rp_error *e)
{
    return rp_fail_errno(e, ENOENT, "no such disk is held");
}

int registry_disk_info(struct registry *registry, uint64_t serial, struct disk_info *ret_info,
                       struct rp_error *e)
{
    struct disk *disk = get_disk(registry, serial);
    bool known = disk && held_disk_get_info(disk, ret_info);

    if (disk)
        held_disk_unref(disk);
    return known ? 0 : gone(e);
}

int registry_disk_open(struct registry *registry, uint64_t serial, bool data,
                       struct disk **ret_disk, struct rp_error *e)
{
    struct disk *disk = get_disk(registry, serial);
    int rc = disk ? held_disk_open(disk, data, e) : gone(e);

    if (disk)
        held_disk_unref(disk);
    if (rc == 0)
        *ret_disk = disk;
    return rc;
}

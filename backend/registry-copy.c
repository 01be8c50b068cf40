// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is known, copied out for fs/: the snapshots of backend.h. Never waits: what is not known yet
 * is answered as unknown, and asked for in the background by refresh.c. Any thread.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int gone(const char *what, struct rp_error *e)
{
    return rp_fail_errno(e, ENOENT, "no such %s", what);
}

static char *refusal_text(const struct rp_error *refusal)
{
    char *text;

    if (refusal->result == 0)
        return strdup("");
    return asprintf(&text, "%d %s", refusal->result, refusal->message) < 0 ? NULL : text;
}

static int copy_disks(const struct vm *vm, struct vm_info *info)
{
    info->disks = calloc(vm->ndisks + 1, sizeof *info->disks);
    if (!info->disks)
        return -ENOMEM;
    for (size_t i = 0; i < vm->ndisks; i++) {
        const struct vm_disk *from = &vm->disks[i];
        struct vm_disk *to = &info->disks[info->ndisks++];

        *to = (struct vm_disk){
            .target = strdup(from->target),
            .source = strdup(from->source),
            .format = strdup(from->format),
            .why_not = strdup(from->why_not),
            .size_bytes = from->size_bytes,
            .cluster_bytes = from->cluster_bytes,
            .is_file = from->is_file,
            .is_encrypted = from->is_encrypted,
            .is_exportable = from->is_exportable,
            .tracked = from->tracked,
        };
        if (!to->target || !to->source || !to->format || !to->why_not)
            return -ENOMEM;
    }
    return 0;
}

static int copy_vm_locked(struct registry *registry, const struct vm *vm, struct vm_info *info)
{
    const struct refpoint *held =
        vm->hold ? registry_find_refpoint_locked(registry, vm->hold_refpoint) : NULL;

    *info = (struct vm_info){
        .name = strdup(vm->name ? vm->name : ""),
        .uuid = strdup(vm->uuid),
        .state = vm->state,
        .persistent = vm->persistent,
        .held = strdup(held ? held->name : ""),
        .last_refusal = refusal_text(&vm->refusal),
        .changed = vm->changed,
    };
    if (info->name && info->uuid && info->held && info->last_refusal && copy_disks(vm, info) == 0)
        return 0;
    vm_info_clear(info);
    return -ENOMEM;
}

void vm_info_clear(struct vm_info *info)
{
    registry_free_disks(info->disks, info->ndisks);
    free(info->name);
    free(info->uuid);
    free(info->held);
    free(info->last_refusal);
    *info = (struct vm_info){0};
}

int registry_vm_info(struct registry *registry, uint64_t serial, struct vm_info *ret_info,
                     struct rp_error *e)
{
    struct vm_info info;
    struct vm *vm;
    int rc = 0;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm)
        rc = copy_vm_locked(registry, vm, &info);
    pthread_mutex_unlock(&registry->lock);
    if (!vm)
        return gone("VM", e);
    if (rc < 0)
        return rp_fail_memory(e);
    *ret_info = info;
    return 0;
}

int registry_vm_xml(struct registry *registry, uint64_t serial, char **ret_xml, struct rp_error *e)
{
    struct vm *vm;
    char *xml = NULL;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm)
        xml = strdup(vm->xml ? vm->xml : "");
    pthread_mutex_unlock(&registry->lock);
    if (!vm)
        return gone("VM", e);
    if (!xml)
        return rp_fail_memory(e);
    *ret_xml = xml;
    return 0;
}

static int copy_refpoint_disks(const struct refpoint *refpoint, const struct hold *hold,
                               struct refpoint_info *info)
{
    info->disks = calloc(refpoint->ndisks + 1, sizeof *info->disks);
    if (!info->disks)
        return -ENOMEM;
    for (size_t i = 0; i < refpoint->ndisks; i++) {
        const struct refpoint_disk_record *from = &refpoint->disks[i];
        const struct hold_disk *held = hold ? hold_find_disk(hold, from->target) : NULL;
        struct refpoint_disk *to;

        if (!from->covered)
            continue;
        to = &info->disks[info->ndisks++];
        *to = (struct refpoint_disk){
            .target = strdup(from->target),
            .health = from->health,
            .has_changed_bytes = from->has_size,
            .changed_bytes = from->changed_bytes,
            .base = strdup(held ? held->base : ""),
            .why_full = strdup(held ? held->why_full : ""),
        };
        if (!to->target || !to->base || !to->why_full)
            return -ENOMEM;
    }
    return 0;
}

static int copy_refpoint_locked(const struct refpoint *refpoint, struct refpoint_info *info)
{
    const struct vm *vm = refpoint->vm;
    bool held = vm->hold && vm->hold_refpoint == refpoint->serial;
    int64_t left_ms =
        registry_hold_used_ms_locked(vm) + (int64_t)vm->hold_seconds * 1000 - registry_now_ms();

    *info = (struct refpoint_info){
        .name = strdup(refpoint->name),
        .vm = strdup(vm->name ? vm->name : ""),
        .parent = strdup(refpoint->parent),
        .created.tv_sec = refpoint->created,
        .consistency_level = refpoint->consistency_level,
        .held = held,
        .last_export = strdup(refpoint->last_export ? refpoint->last_export : ""),
    };
    if (held && vm->hold_uses == 0) {
        clock_gettime(CLOCK_REALTIME, &info->hold_expires);
        info->hold_expires.tv_sec += left_ms > 0 ? left_ms / 1000 : 0;
    }
    if (asprintf(&info->instance_id, "%s/%s", vm->uuid, refpoint->name) < 0)
        info->instance_id = NULL;
    if (info->name && info->vm && info->parent && info->last_export && info->instance_id &&
        copy_refpoint_disks(refpoint, held ? vm->hold : NULL, info) == 0)
        return 0;
    refpoint_info_clear(info);
    return -ENOMEM;
}

void refpoint_info_clear(struct refpoint_info *info)
{
    for (size_t i = 0; i < info->ndisks; i++) {
        free(info->disks[i].target);
        free(info->disks[i].base);
        free(info->disks[i].why_full);
    }
    free(info->disks);
    free(info->name);
    free(info->vm);
    free(info->instance_id);
    free(info->parent);
    free(info->last_export);
    *info = (struct refpoint_info){0};
}

/* Reading costs nothing, but tells that somebody looks: what is costly is then asked anew. */
static void want_sizes_locked(struct registry *registry, struct refpoint *refpoint)
{
    if (refpoint->wants_sizes || registry->is_test ||
        (!refpoint->vm->active && !registry->is_local) ||
        registry_now_ms() - refpoint->sizes_ms < REGISTRY_SIZES_MS ||
        !registry_may_look_locked(registry, true))
        return;
    refpoint->wants_sizes = true;
    registry_enqueue_locked(registry, refpoint->vm, TASK_SIZES);
}

int registry_refpoint_info(struct registry *registry, uint64_t serial,
                           struct refpoint_info *ret_info, struct rp_error *e)
{
    struct refpoint_info info;
    struct refpoint *refpoint;
    int rc = 0;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, serial);
    if (refpoint) {
        rc = copy_refpoint_locked(refpoint, &info);
        want_sizes_locked(registry, refpoint);
    }
    pthread_mutex_unlock(&registry->lock);
    if (!refpoint)
        return gone("reference point", e);
    if (rc < 0)
        return rp_fail_memory(e);
    *ret_info = info;
    return 0;
}

int registry_refpoint_xml(struct registry *registry, uint64_t serial, char **ret_xml,
                          struct rp_error *e)
{
    struct refpoint *refpoint;
    char *xml = NULL;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, serial);
    if (refpoint)
        xml = strdup(refpoint->xml);
    pthread_mutex_unlock(&registry->lock);
    if (!refpoint)
        return gone("reference point", e);
    if (!xml)
        return rp_fail_memory(e);
    *ret_xml = xml;
    return 0;
}

bool registry_is_held(struct registry *registry, uint64_t serial)
{
    struct refpoint *refpoint;
    bool held;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, serial);
    held = refpoint && refpoint->vm->hold && refpoint->vm->hold_refpoint == serial;
    pthread_mutex_unlock(&registry->lock);
    return held;
}

static int copy_service_locked(struct registry *registry, struct service_info *info)
{
    const char *uri = registry->versions.uri ? registry->versions.uri : registry->options->uri;

    info->connected = virt_is_connected(registry->virt);
    info->connecting = !info->connected && registry->connection.result == 0;
    info->can_hold = info->connected && !registry->is_test;
    info->rpcs = virt_rpcs(registry->virt);
    info->uri = strdup(uri ? uri : "");
    info->connection = strdup(info->connected    ? "connected"
                              : info->connecting ? "connecting"
                                                 : registry->connection.message);
    info->libvirt = strdup(registry->versions.libvirt);
    info->hypervisor = strdup(registry->versions.hypervisor);
    for (size_t i = 0; i < registry->vms.count; i++) {
        const struct vm *vm = registry->vms.items[i];
        info->vms += registry_is_listed(vm);
        info->refpoints += vm->refpoints.count;
        info->holds += vm->hold != NULL;
    }
    return info->uri && info->connection && info->libvirt && info->hypervisor ? 0 : -ENOMEM;
}

int registry_service_info(struct registry *registry, struct service_info *info, struct rp_error *e)
{
    int rc;

    pthread_mutex_lock(&registry->lock);
    rc = copy_service_locked(registry, info);
    pthread_mutex_unlock(&registry->lock);
    if (rc < 0) {
        service_info_clear(info);
        return rp_fail_memory(e);
    }
    return 0;
}

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

static void free_disks(struct vm_disk *disks, size_t ndisks)
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
    free_disks(vm->disks, vm->ndisks);
    free(vm->name);
    free(vm->xml);
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

    if (!refpoint)
        return NULL;
    refpoint->vm = vm;
    refpoint->serial = table_new_serial(KIND_REFPOINT);
    refpoint->name = strdup(point->name);
    refpoint->parent = strdup(point->parent);
    refpoint->last_export = strdup("");
    refpoint->created = point->created;
    refpoint->disks = calloc(point->ndisks + 1, sizeof *refpoint->disks);
    if (!refpoint->name || !refpoint->parent || !refpoint->last_export || !refpoint->disks)
        goto fail;
    for (size_t i = 0; i < point->ndisks; i++) {
        struct refpoint_disk_record *disk = &refpoint->disks[refpoint->ndisks++];

        disk->covered = *point->disks[i].bitmap != '\0';
        disk->target = strdup(point->disks[i].target);
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
static bool is_listed(const struct vm *vm)
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
        if (vm && is_listed(vm)) {
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
        if (is_listed(vm) && strcmp(vm->name, name) == 0)
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
        else if (is_listed(table->items[i])) {
            const struct vm *vm = table->items[i];
            describe(vm->serial, vm->name, vm->changed, &ret_children[count++]);
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return count;
}

/* ---- copies ---- */

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
    free_disks(info->disks, info->ndisks);
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
            .has_changed_bytes = from->health == HEALTH_OK,
            .changed_bytes = from->changed_bytes,
            .base = strdup(held ? held->base : ""),
            .why_full = strdup(held ? held->why_full : ""),
        };
        if (!to->target || !to->base || !to->why_full)
            return -ENOMEM;
    }
    return 0;
}

static int copy_refpoint_locked(struct registry *registry, const struct refpoint *refpoint,
                                struct refpoint_info *info)
{
    const struct vm *vm = refpoint->vm;
    bool held = vm->hold && vm->hold_refpoint == refpoint->serial;
    int64_t left_ms =
        vm->hold_used_ms + (int64_t)registry->options->hold_seconds * 1000 - registry_now_ms();

    *info = (struct refpoint_info){
        .name = strdup(refpoint->name),
        .vm = strdup(vm->name ? vm->name : ""),
        .parent = strdup(refpoint->parent),
        .created.tv_sec = refpoint->created,
        .consistency_level = 2,
        .held = held,
        .last_export = strdup(refpoint->last_export),
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
    if (refpoint->wants_sizes || !refpoint->vm->active || registry->is_test ||
        registry_now_ms() - refpoint->sizes_ms < REGISTRY_SIZES_MS)
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
        rc = copy_refpoint_locked(registry, refpoint, &info);
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

uint64_t registry_vm_of(struct registry *registry, uint64_t serial)
{
    struct refpoint *refpoint;
    uint64_t vm;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, serial);
    vm = refpoint ? refpoint->vm->serial : 0;
    pthread_mutex_unlock(&registry->lock);
    return vm;
}

static int copy_service_locked(struct registry *registry, struct service_info *info)
{
    const char *uri = registry->versions.uri ? registry->versions.uri : registry->options->uri;

    info->connected = virt_is_connected(registry->virt);
    info->can_hold = info->connected && !registry->is_test;
    info->rpcs = virt_rpcs(registry->virt);
    info->uri = strdup(uri ? uri : "");
    info->connection = strdup(info->connected               ? "connected"
                              : registry->connection.result ? registry->connection.message
                                                            : "connecting");
    info->libvirt = strdup(registry->versions.libvirt);
    info->hypervisor = strdup(registry->versions.hypervisor);
    for (size_t i = 0; i < registry->vms.count; i++) {
        const struct vm *vm = registry->vms.items[i];
        info->vms += is_listed(vm);
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

int registry_with_slot(struct registry *registry, uint64_t owner,
                       void (*use)(struct slot *slot, void *opaque), void *opaque)
{
    struct refpoint *refpoint;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, owner);
    if (refpoint)
        use(&refpoint->slot, opaque);
    pthread_mutex_unlock(&registry->lock);
    return refpoint ? 0 : -ENOENT;
}

void registry_set_last_export(struct registry *registry, uint64_t serial, const char *directory)
{
    char *copy = strdup(directory);
    struct refpoint *refpoint;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, serial);
    if (refpoint && copy) {
        free(refpoint->last_export);
        refpoint->last_export = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&registry->lock);
    free(copy);
    registry_changed(registry, serial, TOPIC_INFO);
}

/* ---- exports ---- */

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

static enum export_fit fit_locked(const struct vm *vm, const struct hold_disk *disk,
                                  const struct refpoint *base)
{
    if (!*disk->base)
        return FIT_NO_BITMAP;
    if (strcmp(disk->base, base->name) == 0)
        return FIT_EXACT;
    return descends_locked(vm, base, disk->base) ? FIT_LARGER : FIT_TOO_SHORT;
}

static int describe_subject_locked(const struct refpoint *refpoint, const char *base,
                                   struct export_subject *subject, struct rp_error *e)
{
    const struct vm *vm = refpoint->vm;
    const struct refpoint *found = base ? registry_find_name_locked(vm, base) : NULL;
    bool held = vm->hold && vm->hold_refpoint == refpoint->serial && !vm->hold_ending;

    if (base && !found)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "VM '%s' has no reference point '%s'", vm->name,
                       base);
    if (found == refpoint)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "reference point '%s' cannot be its own base",
                       base);
    *subject = (struct export_subject){
        .vm = vm->serial,
        .vm_name = strdup(vm->name),
        .uuid = strdup(vm->uuid),
        .refpoint = strdup(refpoint->name),
        .created = refpoint->created,
        .hold = held ? hold_copy(vm->hold) : NULL,
        .fits = held ? calloc(vm->hold->ndisks + 1, sizeof *subject->fits) : NULL,
        .base = found ? strdup(found->name) : NULL,
        .base_created = found ? found->created : 0,
        .base_last_export = strdup(found ? found->last_export : ""),
    };
    if (!subject->vm_name || !subject->uuid || !subject->refpoint || !subject->base_last_export ||
        (held && (!subject->hold || !subject->fits)) || (found && !subject->base))
        return rp_fail_memory(e);
    for (size_t i = 0; held && found && i < vm->hold->ndisks; i++)
        subject->fits[i] = fit_locked(vm, &vm->hold->disks[i], found);
    return 0;
}

int registry_export_begin(struct registry *registry, uint64_t serial, const char *base, bool use,
                          struct export_subject *ret_subject, struct rp_error *e)
{
    struct export_subject subject = {0};
    struct refpoint *refpoint;
    int rc;

    pthread_mutex_lock(&registry->lock);
    refpoint = registry_find_refpoint_locked(registry, serial);
    rc = refpoint ? describe_subject_locked(refpoint, base, &subject, e)
                  : gone("reference point", e);
    if (rc == 0 && use && subject.hold)
        refpoint->vm->hold_uses++;
    pthread_mutex_unlock(&registry->lock);
    if (rc < 0) {
        export_subject_clear(&subject);
        return rc;
    }
    *ret_subject = subject;
    return 0;
}

void registry_export_end(struct registry *registry, uint64_t serial, struct export_subject *subject)
{
    if (subject->hold) {
        pthread_mutex_lock(&registry->lock);
        struct vm *vm = table_find(&registry->vms, subject->vm);
        if (vm && vm->hold && vm->hold_refpoint == serial && vm->hold_uses > 0) {
            vm->hold_uses--;
            vm->hold_used_ms = registry_now_ms();
        }
        pthread_mutex_unlock(&registry->lock);
    }
    export_subject_clear(subject);
}

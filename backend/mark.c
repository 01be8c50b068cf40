// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Making and destroying reference points, and letting go of holds: what is decided under the
 * registry's lock, what is then done without it, and how the outcome is put in. Runs in the
 * caller's thread, or in a refresher's for holds that have run out.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libvirt takes longer names but leaves an orphan bitmap behind when they are too long for qcow2.
 */
#define REFPOINT_NAME_MAX 200

/* How long mkdir waits for the facts of a VM that has only just appeared. */
#define KNOWN_TIMEOUT_MS 5000

/* ---- opening and closing ---- */

static void on_domain(void *opaque, const char *uuid)
{
    struct registry *registry = opaque;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    vm = registry_find_uuid_locked(registry, uuid);
    if (!vm)
        vm = registry_add_vm_locked(registry, uuid);
    if (vm)
        registry_enqueue_locked(registry, vm, TASK_DOMAIN | TASK_LIST | TASK_HOLD);
    pthread_mutex_unlock(&registry->lock);
}

static void on_job_ended(void *opaque, const char *uuid)
{
    struct registry *registry = opaque;
    struct vm *vm;

    /* Only a look tells whose job it was: the event of a foreign one may come late. */
    pthread_mutex_lock(&registry->lock);
    vm = registry_find_uuid_locked(registry, uuid);
    if (vm && vm->hold)
        registry_enqueue_locked(registry, vm, TASK_HOLD);
    pthread_mutex_unlock(&registry->lock);
}

static void on_disconnected(void *opaque)
{
    struct registry *registry = opaque;

    pthread_mutex_lock(&registry->lock);
    rp_fail(&registry->connection, RESULT_NOT_AVAILABLE, "the connection to libvirt was lost");
    pthread_cond_broadcast(&registry->keeper);
    pthread_mutex_unlock(&registry->lock);
    registry_changed(registry, 0, TOPIC_INFO);
}

static void init_locks(struct registry *registry)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&registry->lock, NULL);
    pthread_cond_init(&registry->work, NULL);
    pthread_cond_init(&registry->fresh, &monotonic);
    pthread_cond_init(&registry->keeper, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int registry_open(const struct backend_options *options, const struct backend_events *events,
                  struct registry **ret_registry, struct rp_error *e)
{
    struct registry *registry = calloc(1, sizeof *registry);
    const struct virt_events virt_events = {
        .domain = on_domain,
        .job_ended = on_job_ended,
        .disconnected = on_disconnected,
        .opaque = registry,
    };
    int rc;

    if (!registry)
        return rp_fail_memory(e);
    registry->options = options;
    registry->events = *events;
    init_locks(registry);
    rc = virt_open(options->uri, &virt_events, &registry->virt, e);
    if (rc == 0)
        rc = registry_start_threads(registry, e);
    if (rc < 0) {
        registry_close(registry);
        return rc;
    }
    *ret_registry = registry;
    return 0;
}

static void end_all_holds(struct registry *registry)
{
    struct rp_error e;

    for (size_t i = 0; i < registry->vms.count; i++) {
        struct vm *vm = registry->vms.items[i];
        if (vm->hold)
            hold_end(registry->virt, vm->uuid, vm->hold, &e);
    }
}

void registry_close(struct registry *registry)
{
    if (!registry)
        return;
    registry_stop_threads(registry);
    if (registry->virt)
        end_all_holds(registry);
    virt_close(registry->virt);
    for (size_t i = 0; i < registry->vms.count; i++)
        registry_unref_vm_locked(registry->vms.items[i]);
    table_clear(&registry->vms);
    free(registry->versions.uri);
    pthread_cond_destroy(&registry->work);
    pthread_cond_destroy(&registry->fresh);
    pthread_cond_destroy(&registry->keeper);
    pthread_mutex_destroy(&registry->lock);
    free(registry);
}

/* ---- mkdir ---- */

/* libvirt's schema for names, said before libvirt has to say it in its own words. */
static int check_name(const char *name, struct rp_error *e)
{
    size_t length = strlen(name);

    if (length > REFPOINT_NAME_MAX)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "the name has %zu bytes; a reference point's may have %d", length,
                       REFPOINT_NAME_MAX);
    if (name[0] == '.')
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "'%s': a reference point's name cannot begin with a dot", name);
    for (const char *c = name; *c; c++)
        if ((*c < '0' || *c > '9') && (*c < 'A' || *c > 'Z') && (*c < 'a' || *c > 'z') &&
            !strchr("_.+-:", *c))
            return rp_fail(
                e, RESULT_INVALID_PARAMETER,
                "'%s': a reference point's name has only letters, digits and _ . + - :", name);
    return 0;
}

/* What is needed of a VM, copied, so that the lock is free while libvirt works. */
struct mark {
    struct vm *vm; /* with a reference */
    char uuid[VIRT_UUID_SIZE];
    char *vm_name;
    char **targets, **others, **bases; /* bases: newest first */
    size_t ntargets, nothers, nbases;
    bool has_owner;
    uid_t owner_uid;
    gid_t owner_gid;
};

static void clear_list(char **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(list[i]);
    free(list);
}

static void clear_mark(struct mark *mark)
{
    clear_list(mark->targets, mark->ntargets);
    clear_list(mark->others, mark->nothers);
    clear_list(mark->bases, mark->nbases);
    free(mark->vm_name);
}

static int copy_for_mark_locked(struct vm *vm, struct mark *mark)
{
    mark->has_owner = vm->has_owner;
    mark->owner_uid = vm->owner_uid;
    mark->owner_gid = vm->owner_gid;
    snprintf(mark->uuid, sizeof mark->uuid, "%s", vm->uuid);
    mark->vm_name = strdup(vm->name);
    mark->targets = calloc(vm->ndisks + 1, sizeof *mark->targets);
    mark->others = calloc(vm->ndisks + 1, sizeof *mark->others);
    mark->bases = calloc(vm->refpoints.count + 1, sizeof *mark->bases);
    if (!mark->vm_name || !mark->targets || !mark->others || !mark->bases)
        return -ENOMEM;
    for (size_t i = 0; i < vm->ndisks; i++) {
        char *target = strdup(vm->disks[i].target);

        if (!target)
            return -ENOMEM;
        if (vm->disks[i].tracked)
            mark->targets[mark->ntargets++] = target;
        else
            mark->others[mark->nothers++] = target;
    }
    /* Serials grow as points become known; by time, and the newest first, they are candidates. */
    for (size_t i = vm->refpoints.count; i > 0; i--) {
        struct refpoint *refpoint = vm->refpoints.items[i - 1];

        mark->bases[mark->nbases] = strdup(refpoint->name);
        if (!mark->bases[mark->nbases])
            return -ENOMEM;
        mark->nbases++;
    }
    return 0;
}

static int may_mark_locked(struct registry *registry, struct vm *vm, const char *name,
                           struct rp_error *e)
{
    if (registry_find_name_locked(vm, name)) {
        rp_fail(e, RESULT_INVALID_PARAMETER, "reference point '%s' exists", name);
        e->err = EEXIST;
        return -EEXIST;
    }
    if (vm->marking)
        return rp_fail(e, RESULT_IN_USE, "another reference point of VM '%s' is being made",
                       vm->name);
    if (vm->hold) {
        struct refpoint *held = registry_find_refpoint_locked(registry, vm->hold_refpoint);
        return rp_fail(e, RESULT_IN_USE,
                       "VM '%s' holds reference point '%s'; export it, or write 0 to its hold",
                       vm->name, held ? held->name : "?");
    }
    if (registry->is_test)
        return 0;
    if (!vm->active)
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "VM '%s' is shut off; start it to make a reference point", vm->name);
    for (size_t i = 0; i < vm->ndisks; i++)
        if (vm->disks[i].tracked)
            return 0;
    return rp_fail(e, RESULT_NOT_SUPPORTED,
                   "VM '%s' has no disk that can carry a reference point (its info says why)",
                   vm->name);
}

static int begin_mark(struct registry *registry, uint64_t serial, const char *name,
                      struct mark *mark, struct rp_error *e)
{
    struct vm *vm;
    int rc;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm) {
        vm->refs++;
        registry_wait_known_locked(registry, vm, KNOWN_TIMEOUT_MS);
    }
    rc = !vm || !vm->name || vm->gone ? rp_fail_errno(e, ENOENT, "no such VM")
                                      : may_mark_locked(registry, vm, name, e);
    if (rc == 0 && copy_for_mark_locked(vm, mark) < 0)
        rc = rp_fail_memory(e);
    if (rc == 0) {
        vm->marking = true;
        mark->vm = vm;
    } else if (vm) {
        registry_unref_vm_locked(vm);
    }
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

/*
 * The new point goes in, with its hold if it has one; both are taken over. When the point cannot
 * be described (memory, a libvirt that went away), the next refresh of the list brings it.
 */
static uint64_t end_mark(struct registry *registry, struct mark *mark,
                         const struct xml_checkpoint *point, char *xml, struct hold *hold)
{
    struct vm *vm = mark->vm;
    struct refpoint *refpoint = NULL;
    uint64_t serial = 0;

    pthread_mutex_lock(&registry->lock);
    vm->marking = false;
    vm->generation++;
    if (point && !vm->gone)
        refpoint = registry_add_refpoint_locked(vm, point, xml);
    if (refpoint) {
        serial = refpoint->serial;
        clock_gettime(CLOCK_REALTIME, &vm->changed);
        vm->refusal = (struct rp_error){0}; /* old news */
        vm->hold = hold;
        vm->hold_refpoint = hold ? serial : 0;
        vm->hold_uses = 0;
        vm->hold_used_ms = registry_now_ms();
        /* The hold too: its job may have ended before anybody here knew of it. */
        registry_enqueue_locked(registry, vm, TASK_SIZES | TASK_HOLD);
    }
    registry_unref_vm_locked(vm);
    pthread_mutex_unlock(&registry->lock);
    if (!refpoint) {
        free(xml);
        hold_free(hold);
    }
    return serial;
}

static int mark_and_hold(struct registry *registry, const struct mark *mark, const char *name,
                         struct hold **ret_hold, struct rp_error *e)
{
    const struct hold_request request = {
        .virt = registry->virt,
        .uuid = mark->uuid,
        .refpoint = name,
        .targets = (const char *const *)mark->targets,
        .ntargets = mark->ntargets,
        .others = (const char *const *)mark->others,
        .nothers = mark->nothers,
        .bases = (const char *const *)mark->bases,
        .nbases = mark->nbases,
        .run_dir = registry->options->run_dir,
        .scratch_dir = registry->options->scratch_dir,
        .has_owner = mark->has_owner,
        .owner_uid = mark->owner_uid,
        .owner_gid = mark->owner_gid,
    };

    return hold_begin(&request, ret_hold, e);
}

/*
 * libvirt keeps the checkpoint when what comes after QEMU's transaction fails (the NBD export,
 * say). A point that nobody was told of would stand in the way of the next try.
 */
static void remove_remains(struct registry *registry, const struct mark *mark, const char *name)
{
    struct rp_error ignored;

    virt_delete_checkpoint(registry->virt, mark->uuid, name, &ignored);
}

/* The list may be a second old, and what another program just made is not ours to replace. */
static int refuse_existing(struct registry *registry, const struct mark *mark, const char *name,
                           struct rp_error *e)
{
    char *xml;
    int rc = virt_get_checkpoint_xml(registry->virt, mark->uuid, name, VIRT_XML_SHORT, &xml, e);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    free(xml);
    rp_fail(e, RESULT_INVALID_PARAMETER, "it exists already");
    e->err = EEXIST;
    return -EEXIST;
}

/* A driver without backup jobs: a point that marks, and holds nothing. */
static int mark_only(struct registry *registry, const struct mark *mark, const char *name,
                     struct rp_error *e)
{
    char *xml;
    int rc = xml_make_checkpoint(name, NULL, 0, &xml, e);

    if (rc == 0) {
        rc = virt_create_checkpoint(registry->virt, mark->uuid, xml, e);
        free(xml);
    }
    return rc;
}

static int make(struct registry *registry, struct mark *mark, const char *name,
                struct hold **ret_hold, struct rp_error *e)
{
    int rc = refuse_existing(registry, mark, name, e);

    if (rc < 0)
        return rc;
    if (registry->is_test)
        return mark_only(registry, mark, name, e);
    rc = mark_and_hold(registry, mark, name, ret_hold, e);
    if (rc < 0)
        remove_remains(registry, mark, name);
    return rc;
}

static int create(struct registry *registry, struct mark *mark, const char *name,
                  uint64_t *ret_refpoint, struct rp_error *e)
{
    struct xml_checkpoint point = {0};
    struct rp_error ignored;
    struct hold *hold = NULL;
    uint64_t serial;
    char *xml = NULL;
    int rc = make(registry, mark, name, &hold, e);

    if (rc == 0) {
        rc = virt_get_checkpoint_xml(registry->virt, mark->uuid, name, VIRT_XML_SHORT, &xml, e);
        if (rc == 0)
            rc = xml_parse_checkpoint(xml, &point, e);
        if (rc < 0 && hold)
            hold_end(registry->virt, mark->uuid, hold, &ignored);
    }
    serial = end_mark(registry, mark, rc == 0 ? &point : NULL, xml, hold);
    xml_checkpoint_clear(&point);
    if (rc < 0)
        return rc;
    if (!serial)
        return rp_fail_memory(e);
    *ret_refpoint = serial;
    return 0;
}

/* mkdir and rmdir can show a number only: the sentence stays readable in the VM's info. */
static int refuse(struct registry *registry, uint64_t serial, const struct rp_error *e)
{
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm)
        vm->refusal = *e;
    pthread_mutex_unlock(&registry->lock);
    registry_changed(registry, serial, TOPIC_INFO);
    return -e->err;
}

int registry_create(struct registry *registry, uint64_t vm, const char *name,
                    uint64_t *ret_refpoint, struct rp_error *e)
{
    struct mark mark = {0};
    uint64_t serial = 0;
    int rc = check_name(name, e);

    if (rc == 0)
        rc = begin_mark(registry, vm, name, &mark, e);
    if (rc == 0) {
        rc = create(registry, &mark, name, &serial, e);
        if (rc < 0)
            rp_error_prefix(e, "reference point '%s': ", name);
    }
    clear_mark(&mark);
    if (rc < 0)
        return refuse(registry, vm, e);
    *ret_refpoint = serial;
    registry_changed(registry, vm, TOPIC_LIST | TOPIC_INFO);
    return 0;
}

/* ---- holds ---- */

int registry_end_hold(struct registry *registry, struct vm *vm, uint64_t refpoint,
                      struct rp_error *e)
{
    struct hold *hold = NULL;
    int rc;

    pthread_mutex_lock(&registry->lock);
    if (vm->hold && vm->hold_refpoint == refpoint && !vm->hold_ending) {
        hold = hold_copy(vm->hold);
        vm->hold_ending = hold != NULL;
    }
    pthread_mutex_unlock(&registry->lock);
    if (!hold)
        return 0;

    rc = hold_end(registry->virt, vm->uuid, hold, e);
    hold_free(hold);
    pthread_mutex_lock(&registry->lock);
    if (rc == 0)
        registry_drop_hold_locked(vm);
    vm->hold_ending = false;
    pthread_mutex_unlock(&registry->lock);
    if (rc == 0)
        registry_changed(registry, refpoint, TOPIC_HOLD | TOPIC_INFO);
    return rc;
}

/* The VM of a point, with a reference, and the point's name; NULL when it is gone. */
static struct vm *get_vm(struct registry *registry, uint64_t refpoint, char **ret_name)
{
    struct refpoint *found;
    struct vm *vm = NULL;

    pthread_mutex_lock(&registry->lock);
    found = registry_find_refpoint_locked(registry, refpoint);
    if (found && (*ret_name = strdup(found->name))) {
        vm = found->vm;
        vm->refs++;
    }
    pthread_mutex_unlock(&registry->lock);
    return vm;
}

static void put_vm(struct registry *registry, struct vm *vm)
{
    pthread_mutex_lock(&registry->lock);
    registry_unref_vm_locked(vm);
    pthread_mutex_unlock(&registry->lock);
}

static int refuse_if_used(struct registry *registry, struct vm *vm, uint64_t refpoint,
                          const char *name, struct rp_error *e)
{
    bool used;

    pthread_mutex_lock(&registry->lock);
    used = vm->hold && vm->hold_refpoint == refpoint && vm->hold_uses > 0;
    pthread_mutex_unlock(&registry->lock);
    return used ? rp_fail(e, RESULT_IN_USE, "reference point '%s' is being exported", name) : 0;
}

int registry_release(struct registry *registry, uint64_t refpoint, struct rp_error *e)
{
    char *name = NULL;
    struct vm *vm = get_vm(registry, refpoint, &name);
    int rc;

    if (!vm)
        return rp_fail_errno(e, ENOENT, "no such reference point");
    rc = refuse_if_used(registry, vm, refpoint, name, e);
    if (rc == 0)
        rc = registry_end_hold(registry, vm, refpoint, e);
    if (rc < 0)
        refuse(registry, vm->serial, e);
    free(name);
    put_vm(registry, vm);
    return rc;
}

/* ---- rmdir ---- */

static void remove_point(struct registry *registry, struct vm *vm, uint64_t serial)
{
    struct refpoint *refpoint;

    pthread_mutex_lock(&registry->lock);
    vm->generation++;
    clock_gettime(CLOCK_REALTIME, &vm->changed);
    refpoint = table_find(&vm->refpoints, serial);
    if (refpoint) {
        table_remove(&vm->refpoints, serial);
        registry_free_refpoint(refpoint);
    }
    pthread_mutex_unlock(&registry->lock);
    registry_changed(registry, serial, TOPIC_GONE);
    registry_changed(registry, vm->serial, TOPIC_LIST | TOPIC_INFO);
}

int registry_delete(struct registry *registry, uint64_t refpoint, struct rp_error *e)
{
    char *name = NULL;
    struct vm *vm = get_vm(registry, refpoint, &name);
    int rc;

    if (!vm)
        return rp_fail_errno(e, ENOENT, "no such reference point");
    rc = refuse_if_used(registry, vm, refpoint, name, e);
    if (rc == 0)
        rc = registry_end_hold(registry, vm, refpoint, e);
    if (rc == 0)
        rc = virt_delete_checkpoint(registry->virt, vm->uuid, name, e);
    if (rc == 0 || rc == -ENOENT) {
        remove_point(registry, vm, refpoint);
        rc = 0;
    } else {
        rp_error_prefix(e, "reference point '%s': ", name);
        refuse(registry, vm->serial, e);
    }
    free(name);
    put_vm(registry, vm);
    return rc;
}

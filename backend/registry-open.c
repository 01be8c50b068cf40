// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The registry's beginning and end, and what libvirt's events do to it: they only queue work for
 * refresh.c, since libvirt's event thread must not wait for libvirt.
 */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* Perhaps for want of scratch space: the guard shall look at once. */
static void on_io_error(void *opaque, const char *uuid)
{
    struct registry *registry = opaque;

    (void)uuid;
    pthread_mutex_lock(&registry->lock);
    guard_wake_locked(registry);
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
    registry->opened_ms = registry_now_ms();
    pthread_mutex_init(&registry->keeping, NULL);
    pthread_mutex_init(&registry->lock, NULL);
    pthread_cond_init(&registry->work, NULL);
    pthread_cond_init(&registry->fresh, &monotonic);
    pthread_cond_init(&registry->keeper, &monotonic);
    pthread_cond_init(&registry->guard, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int registry_open(const struct backend_options *options, const struct backend_events *events,
                  struct journal *journal, struct registry **ret_registry, struct rp_error *e)
{
    struct registry *registry = calloc(1, sizeof *registry);
    const struct virt_events virt_events = {
        .domain = on_domain,
        .job_ended = on_job_ended,
        .io_error = on_io_error,
        .disconnected = on_disconnected,
        .opaque = registry,
    };
    int rc;

    if (!registry)
        return rp_fail_memory(e);
    registry->journal = journal;
    registry->options = options;
    registry->events = *events;
    init_locks(registry);
    registry_init_tables(registry);
    rc = virt_open(options->uri, &virt_events, &registry->virt, e);
    if (rc == 0)
        rc = registry_start_threads(registry, e);
    if (rc < 0) {
        registry_end(registry);
        registry_close(registry);
        return rc;
    }
    *ret_registry = registry;
    return 0;
}

/*
 * That of a reference point waits for the next service, where its scratch space suffices for all
 * that the guest can write meanwhile: nobody would be there to let go of it in time.
 */
static void leave_or_end_hold(struct registry *registry, struct vm *vm, uint64_t *claimed_bytes)
{
    struct rp_error e;

    registry_end_disks(registry, &vm->hold_disks);
    offline_stop(vm->offline);
    vm->offline = NULL;
    if (!vm->hold || vm->left)
        return;
    if (!vm->hold->is_offline && vm->hold_refpoint && guard_can_wait(registry, vm, claimed_bytes)) {
        registry_keep_hold(registry, vm);
        return;
    }
    if (vm->hold->is_offline || hold_end(registry->virt, vm->uuid, vm->hold, &e) == 0)
        journal_remove_hold(registry->journal, vm->uuid);
}

void registry_end(struct registry *registry)
{
    uint64_t claimed_bytes = 0;

    if (!registry)
        return;
    registry_stop_threads(registry);
    for (size_t i = 0; registry->virt && i < registry->vms.count; i++)
        leave_or_end_hold(registry, registry->vms.items[i], &claimed_bytes);
}

void registry_close(struct registry *registry)
{
    if (!registry)
        return;
    virt_close(registry->virt);
    registry_clear_tables(registry);
    free(registry->versions.uri);
    pthread_cond_destroy(&registry->work);
    pthread_cond_destroy(&registry->fresh);
    pthread_cond_destroy(&registry->keeper);
    pthread_cond_destroy(&registry->guard);
    pthread_mutex_destroy(&registry->keeping);
    pthread_mutex_destroy(&registry->lock);
    free(registry);
}

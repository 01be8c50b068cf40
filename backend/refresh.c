// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Keeps the registry true to libvirt. One keeper thread connects, reconnects and looks at the
 * clock; REGISTRY_THREADS refreshers take VMs from a queue and refresh them (refresh-vm.c). Events
 * only queue work.
 */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Between two tries to connect. Short at first, since a daemon that restarts is back at once. */
#define RECONNECT_MIN_MS 500
#define RECONNECT_MAX_MS 5000
#define KEEPER_TICK_MS   1000

/* ---- queue ---- */

void registry_enqueue_locked(struct registry *registry, struct vm *vm, unsigned tasks)
{
    vm->tasks |= tasks;
    /* While it is being marked the tasks gather: end_mark() queues them. */
    if (vm->queued || vm->is_worked_on || vm->marking || vm->gone || registry->stop)
        return;
    vm->queued = true;
    vm->refs++;
    TAILQ_INSERT_TAIL(&registry->queued, vm, queue);
    pthread_cond_signal(&registry->work);
}

/* Somebody waits for it: before all those that nobody looks at. */
static void enqueue_first_locked(struct registry *registry, struct vm *vm, unsigned tasks)
{
    registry_enqueue_locked(registry, vm, tasks);
    if (!vm->queued)
        return;
    TAILQ_REMOVE(&registry->queued, vm, queue);
    TAILQ_INSERT_HEAD(&registry->queued, vm, queue);
}

/* The reference the queue held passes to the caller. */
static struct vm *dequeue_locked(struct registry *registry)
{
    struct vm *vm = TAILQ_FIRST(&registry->queued);

    TAILQ_REMOVE(&registry->queued, vm, queue);
    vm->queued = false;
    return vm;
}

/* ---- refreshers ---- */

static void *refresher(void *opaque)
{
    struct registry *registry = opaque;

    pthread_mutex_lock(&registry->lock);
    for (;;) {
        struct vm *vm;
        unsigned tasks;

        while (TAILQ_EMPTY(&registry->queued) && !registry->stop)
            pthread_cond_wait(&registry->work, &registry->lock);
        if (registry->stop)
            break;
        vm = dequeue_locked(registry);
        if (vm->marking) {
            registry_unref_vm_locked(vm);
            continue;
        }
        tasks = vm->tasks;
        vm->tasks = 0;
        vm->is_worked_on = true;
        pthread_mutex_unlock(&registry->lock);
        registry_run_tasks(registry, vm, tasks);
        pthread_mutex_lock(&registry->lock);
        vm->is_worked_on = false;
        if (vm->tasks)
            registry_enqueue_locked(registry, vm, 0);
        registry_unref_vm_locked(vm);
        pthread_cond_broadcast(&registry->fresh);
    }
    pthread_mutex_unlock(&registry->lock);
    return NULL;
}

/* ---- keeper ---- */

/* Everything there is, and nothing that has gone while we were away. */
static int list_domains(struct registry *registry, struct rp_error *e)
{
    struct virt_domain *domains;
    size_t count;
    int rc = virt_list_domains(registry->virt, &domains, &count, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&registry->lock);
    for (size_t i = 0; i < count; i++) {
        struct vm *vm = registry_find_uuid_locked(registry, domains[i].uuid);
        if (!vm)
            vm = registry_add_vm_locked(registry, domains[i].uuid);
        if (vm && !vm->name)
            domains[i].name = registry_rename_vm_locked(vm, domains[i].name);
        virt_domain_clear(&domains[i]);
    }
    pthread_mutex_unlock(&registry->lock);
    registry_take_left(registry);
    pthread_mutex_lock(&registry->lock);
    /*
     * Also those that libvirt no longer lists: their refresh finds them gone. What the new ones are
     * comes before the points of any of them: see take_domain().
     */
    for (size_t i = 0; i < registry->vms.count; i++) {
        struct vm *vm = registry->vms.items[i];
        registry_enqueue_locked(registry, vm,
                                TASK_DOMAIN | TASK_HOLD | TASK_ORPHAN | (vm->xml ? TASK_LIST : 0));
    }
    registry->listed = true;
    pthread_cond_broadcast(&registry->fresh);
    pthread_mutex_unlock(&registry->lock);
    free(domains);
    registry_changed(registry, 0, TOPIC_LIST | TOPIC_INFO);
    return 0;
}

/* A URI that names a host means files elsewhere: "qemu+ssh://host/system" against "qemu:///x". */
static bool uri_is_local(const char *uri)
{
    const char *authority = strstr(uri, "://");

    return !authority || authority[3] == '/';
}

static int connect(struct registry *registry, struct rp_error *e)
{
    struct virt_versions versions = {0};
    int rc = virt_connect(registry->virt, e);

    if (rc == 0)
        rc = virt_get_versions(registry->virt, &versions, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&registry->lock);
    free(registry->versions.uri);
    registry->versions = versions;
    registry->is_test = versions.is_test;
    registry->is_local = uri_is_local(versions.uri);
    registry->connection = (struct rp_error){0};
    pthread_mutex_unlock(&registry->lock);
    return list_domains(registry, e);
}

static void queue_due_locked(struct registry *registry)
{
    int64_t now = registry_now_ms();

    for (size_t i = 0; i < registry->vms.count; i++) {
        struct vm *vm = registry->vms.items[i];
        if (vm->left && now - vm->left_ms >= KEEPER_TICK_MS)
            registry_enqueue_locked(registry, vm, TASK_ORPHAN | (vm->xml ? 0 : TASK_DOMAIN));
        if (vm->owes_thaw && now - vm->thawed_ms >= REGISTRY_THAW_MS)
            registry_enqueue_locked(registry, vm, TASK_THAW);
        if (vm->hold && !vm->hold_ending && vm->hold_uses == 0 &&
            now - registry_hold_used_ms_locked(vm) >= (int64_t)vm->hold_seconds * 1000)
            registry_enqueue_locked(registry, vm, TASK_HOLD);
    }
}

static struct timespec after_ms(int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

void registry_sleep_locked(struct registry *registry, pthread_cond_t *condition, int64_t ms)
{
    struct timespec until = after_ms(ms);

    if (!registry->stop)
        pthread_cond_timedwait(condition, &registry->lock, &until);
}

static void *keeper(void *opaque)
{
    struct registry *registry = opaque;
    int64_t pause_ms = RECONNECT_MIN_MS;

    pthread_mutex_lock(&registry->lock);
    while (!registry->stop) {
        struct rp_error e = RP_ERROR_INIT;

        if (virt_is_connected(registry->virt)) {
            pause_ms = RECONNECT_MIN_MS;
            queue_due_locked(registry);
            registry_sleep_locked(registry, &registry->keeper, KEEPER_TICK_MS);
            continue;
        }
        pthread_mutex_unlock(&registry->lock);
        int rc = connect(registry, &e);
        if (rc < 0)
            registry_changed(registry, 0, TOPIC_INFO);
        pthread_mutex_lock(&registry->lock);
        if (rc < 0) {
            registry->connection = e;
            pthread_cond_broadcast(&registry->fresh);
            registry_sleep_locked(registry, &registry->keeper, pause_ms);
            pause_ms = pause_ms * 2 < RECONNECT_MAX_MS ? pause_ms * 2 : RECONNECT_MAX_MS;
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return NULL;
}

/* ---- waiting for it ---- */

/* A VM that is being marked has just been asked about. */
static bool wants_definition_locked(struct registry *registry, const struct vm *vm, int64_t since)
{
    return !vm->gone && !vm->marking && vm->domain_ms < since && virt_is_connected(registry->virt);
}

/* A libvirt that is overdue with one answer is not waited for once more. */
static bool is_overdue_locked(const struct vm *vm)
{
    return vm->wanted_ms && registry_now_ms() - vm->wanted_ms > REGISTRY_FRESHEN_MS;
}

void registry_freshen(struct registry *registry, uint64_t owner, unsigned max_age_ms)
{
    uint64_t serial = registry_vm_of(registry, owner);
    int64_t now = registry_now_ms(), end = now + REGISTRY_FRESHEN_MS;
    struct timespec until = after_ms(REGISTRY_FRESHEN_MS);
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    /* What is held has the disks that it has. */
    if (vm && !registry->is_test && (!vm->hold || vm->hold_refpoint != owner) &&
        wants_definition_locked(registry, vm, now - max_age_ms)) {
        vm->refs++;
        if (!vm->wanted_ms)
            vm->wanted_ms = now;
        enqueue_first_locked(registry, vm, TASK_DEFINITION);
        while (wants_definition_locked(registry, vm, now) && !is_overdue_locked(vm) &&
               registry_now_ms() < end && !registry->stop)
            pthread_cond_timedwait(&registry->fresh, &registry->lock, &until);
        registry_unref_vm_locked(vm);
    }
    pthread_mutex_unlock(&registry->lock);
}

void registry_look_at_vm(struct registry *registry, uint64_t serial)
{
    bool may = true;
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm && !(vm->tasks & TASK_DOMAIN) &&
        wants_definition_locked(registry, vm, registry_now_ms() - REGISTRY_DOMAIN_MS)) {
        for (int i = 0; i < REGISTRY_DOMAIN_LOOKS && may; i++)
            may = registry_may_look_locked(registry, true);
        if (may)
            registry_enqueue_locked(registry, vm, TASK_DOMAIN);
    }
    pthread_mutex_unlock(&registry->lock);
}

/*
 * As many looks as time has passed pay for; what was not used is kept for a second. looked_ms is
 * the time that has been paid out so far, and lags behind the clock while there is some left.
 */
bool registry_may_look_locked(struct registry *registry, bool take)
{
    int64_t now = registry_now_ms();

    if (registry->looked_ms < now - 1000)
        registry->looked_ms = now - 1000;
    if (registry->looked_ms + 1000 / REGISTRY_LOOKS_PER_S > now)
        return false;
    if (take)
        registry->looked_ms += 1000 / REGISTRY_LOOKS_PER_S;
    return true;
}

static bool list_is_stale_locked(struct registry *registry, const struct vm *vm)
{
    int64_t now = registry_now_ms();

    if (vm->marking || vm->creating)
        return true; /* about to be longer: `echo Name=x > create; ls refpoints` */
    if (!virt_is_connected(registry->virt))
        return false;
    if (vm->list_ms != 0 && now - vm->list_ms < REGISTRY_STALE_MS)
        return false;
    /* A libvirt that is overdue with one answer is not waited for at every step of a walk. */
    if (vm->asked_ms)
        return now - vm->asked_ms < REGISTRY_OVERDUE_MS;
    return vm->list_ms == 0 || registry_may_look_locked(registry, false);
}

static bool is_stale_locked(struct registry *registry, uint64_t parent)
{
    const struct vm *vm;

    if (parent == 0)
        return registry->connection.result == 0 &&
               (!registry->listed || (registry->unknown > 0 &&
                                      registry_now_ms() - registry->added_ms < REGISTRY_NEW_MS));
    vm = table_find(&registry->vms, parent);
    return vm && list_is_stale_locked(registry, vm);
}

bool registry_is_stale(struct registry *registry, uint64_t parent)
{
    bool stale;

    pthread_mutex_lock(&registry->lock);
    stale = is_stale_locked(registry, parent);
    pthread_mutex_unlock(&registry->lock);
    return stale;
}

bool registry_wait_idle_locked(struct registry *registry, const struct vm *vm, unsigned timeout_ms)
{
    int64_t end = registry_now_ms() + timeout_ms;
    struct timespec until = after_ms(timeout_ms);

    while (vm->is_worked_on && registry_now_ms() < end && !registry->stop)
        pthread_cond_timedwait(&registry->fresh, &registry->lock, &until);
    return !vm->is_worked_on;
}

void registry_wait_known_locked(struct registry *registry, const struct vm *vm, unsigned timeout_ms)
{
    int64_t end = registry_now_ms() + timeout_ms;
    struct timespec until = after_ms(timeout_ms);

    while (!vm->xml && !vm->gone && registry_now_ms() < end && !registry->stop)
        pthread_cond_timedwait(&registry->fresh, &registry->lock, &until);
}

void registry_wait_received(struct registry *registry, uint64_t owner, unsigned timeout_ms)
{
    int64_t end = registry_now_ms() + timeout_ms;
    struct timespec until = after_ms(timeout_ms);

    pthread_mutex_lock(&registry->lock);
    while (registry_now_ms() < end && !registry->stop &&
           registry_is_receiving_locked(registry, owner))
        pthread_cond_timedwait(&registry->fresh, &registry->lock, &until);
    pthread_mutex_unlock(&registry->lock);
}

void registry_refresh(struct registry *registry, uint64_t parent, unsigned timeout_ms)
{
    int64_t end = registry_now_ms() + timeout_ms;
    struct timespec until = after_ms(timeout_ms);

    pthread_mutex_lock(&registry->lock);
    if (parent != 0 && is_stale_locked(registry, parent)) {
        struct vm *vm = table_find(&registry->vms, parent);

        if (!vm->asked_ms) {
            vm->asked_ms = registry_now_ms();
            (void)registry_may_look_locked(registry, true);
        }
        enqueue_first_locked(registry, vm, TASK_LIST);
    }
    while (is_stale_locked(registry, parent) && registry_now_ms() < end && !registry->stop)
        pthread_cond_timedwait(&registry->fresh, &registry->lock, &until);
    pthread_mutex_unlock(&registry->lock);
}

/* ---- threads ---- */

int registry_start_threads(struct registry *registry, struct rp_error *e)
{
    if (pthread_create(&registry->keeper_thread, NULL, keeper, registry) != 0)
        return rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start a thread");
    registry->has_keeper = true;
    if (guard_start(registry, e) < 0)
        return -e->err;
    while (registry->nthreads < REGISTRY_THREADS) {
        if (pthread_create(&registry->threads[registry->nthreads], NULL, refresher, registry) != 0)
            return rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start a thread");
        registry->nthreads++;
    }
    return 0;
}

void registry_stop_threads(struct registry *registry)
{
    guard_stop(registry);
    pthread_mutex_lock(&registry->lock);
    registry->stop = true;
    pthread_cond_broadcast(&registry->work);
    pthread_cond_broadcast(&registry->fresh);
    pthread_cond_broadcast(&registry->keeper);
    pthread_mutex_unlock(&registry->lock);
    for (size_t i = 0; i < registry->nthreads; i++)
        pthread_join(registry->threads[i], NULL);
    if (registry->has_keeper)
        pthread_join(registry->keeper_thread, NULL);
    registry->nthreads = 0;
    registry->has_keeper = false;
    while (!TAILQ_EMPTY(&registry->queued))
        registry_unref_vm_locked(dequeue_locked(registry));
}

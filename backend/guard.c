// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The guard over scratch space. A guest whose write finds no room for the old data is paused by
 * QEMU: so a hold is let go before that, the largest first, and an export that reads it fails. One
 * thread, which looks often while anything is held, since a guest can write a gigabyte a second.
 */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define TICK_MS 100

/* Room for so long at the pace of the last second, while libvirt and QEMU end the job. */
#define AHEAD_MS 2000
#define PACES    10

/*
 * What is left free in any case, unless the mount says so itself: a twentieth, which is what file
 * systems begin to be slow with, but no more than a gigabyte, and what a guest writes in a tick.
 */
#define RESERVE_PART      20
#define RESERVE_MAX_BYTES ((uint64_t)1 << 30)
#define RESERVE_MIN_BYTES ((uint64_t)16 << 20)

/* Free space and how fast it goes. */
struct space {
    uint64_t free_bytes, reserve_bytes;
    int64_t at_ms;
    uint64_t paces[PACES]; /* bytes per second, of the last ticks */
    size_t next_pace;
};

static uint64_t reserve_of(const struct registry *registry, const struct statvfs *fs)
{
    uint64_t part = (uint64_t)fs->f_blocks * fs->f_frsize / RESERVE_PART;

    if (registry->options->scratch_reserve_bytes)
        return registry->options->scratch_reserve_bytes;
    if (part > RESERVE_MAX_BYTES)
        return RESERVE_MAX_BYTES;
    return part > RESERVE_MIN_BYTES ? part : RESERVE_MIN_BYTES;
}

static int look(const struct registry *registry, struct space *space)
{
    int64_t now = registry_now_ms(), passed = now - space->at_ms;
    uint64_t free_bytes, pace = 0;
    struct statvfs fs;

    if (statvfs(registry->options->scratch_dir, &fs) < 0)
        return -errno;
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (space->at_ms && passed > 0 && free_bytes < space->free_bytes)
        pace = (space->free_bytes - free_bytes) * 1000 / (uint64_t)passed;
    space->paces[space->next_pace++ % PACES] = pace;
    space->free_bytes = free_bytes;
    space->reserve_bytes = reserve_of(registry, &fs);
    space->at_ms = now;
    return 0;
}

static bool is_short(const struct space *space)
{
    uint64_t pace = 0;

    for (size_t i = 0; i < PACES; i++)
        pace = space->paces[i] > pace ? space->paces[i] : pace;
    return space->free_bytes < space->reserve_bytes + pace * AHEAD_MS / 1000;
}

/* What the scratch files of a hold take. */
static uint64_t scratch_bytes(const struct hold *hold)
{
    uint64_t bytes = 0;
    struct stat st;

    for (size_t i = 0; i < hold->ndisks; i++)
        if (stat(hold->disks[i].scratch, &st) == 0)
            bytes += (uint64_t)st.st_blocks * 512;
    return bytes;
}

/* ---- letting go ---- */

/* The VM whose hold takes most, with a reference; NULL: there is none to let go of. */
static struct vm *find_largest(struct registry *registry, struct rp_error *ret_why)
{
    struct vm *largest = NULL;
    uint64_t most = 0;

    for (size_t i = 0;; i++) {
        struct hold *hold = NULL;
        struct vm *vm = NULL;
        uint64_t bytes;

        pthread_mutex_lock(&registry->lock);
        if (i < registry->vms.count)
            vm = registry->vms.items[i];
        if (vm && vm->hold && !vm->hold->is_offline && !vm->hold_ending)
            hold = hold_copy(vm->hold);
        if (hold)
            vm->refs++;
        pthread_mutex_unlock(&registry->lock);
        if (!vm)
            break;
        if (!hold)
            continue;
        bytes = scratch_bytes(hold);
        hold_free(hold);
        pthread_mutex_lock(&registry->lock);
        if (!largest || bytes > most) {
            if (largest)
                registry_unref_vm_locked(largest);
            largest = vm;
            most = bytes;
        } else {
            registry_unref_vm_locked(vm);
        }
        pthread_mutex_unlock(&registry->lock);
    }
    rp_fail(ret_why, RESULT_FAILED,
            "the hold was let go of, for scratch space in '%s' ran short: it had taken %llu MiB",
            registry->options->scratch_dir, (unsigned long long)(most >> 20));
    return largest;
}

/*
 * Only a guest that QEMU paused for a failed write, while our scratch space was short: whoever else
 * paused it, or ran out of space elsewhere, has to know when it may go on.
 */
static void resume(struct registry *registry, const struct vm *vm)
{
    struct rp_error ignored;
    bool paused = false;

    if (virt_is_paused_by_io(registry->virt, vm->uuid, &paused, &ignored) == 0 && paused)
        virt_resume(registry->virt, vm->uuid, &ignored);
}

static void let_go(struct registry *registry, struct vm *vm, const struct rp_error *why)
{
    struct rp_error e;
    uint64_t refpoint;

    pthread_mutex_lock(&registry->lock);
    refpoint = vm->hold_refpoint;
    if (vm->hold) {
        vm->lost = *why;
        memcpy(vm->lost_id, vm->hold->id, sizeof vm->lost_id);
    }
    pthread_mutex_unlock(&registry->lock);
    if (registry_end_hold(registry, vm, refpoint, &e) == 0) {
        resume(registry, vm);
        registry_refused(registry, vm->serial, why);
    }
    pthread_mutex_lock(&registry->lock);
    registry_unref_vm_locked(vm);
    pthread_mutex_unlock(&registry->lock);
}

/* ---- the thread ---- */

static bool anything_is_held_locked(const struct registry *registry)
{
    for (size_t i = 0; i < registry->vms.count; i++) {
        const struct vm *vm = registry->vms.items[i];
        if (vm->hold && !vm->hold->is_offline)
            return true;
    }
    return false;
}

static void *guard(void *opaque)
{
    struct registry *registry = opaque;
    struct space space = {0};
    struct rp_error why;

    pthread_mutex_lock(&registry->lock);
    while (!registry->stop) {
        struct vm *vm;

        if (!registry->is_local || !anything_is_held_locked(registry)) {
            space = (struct space){0};
            pthread_cond_wait(&registry->guard, &registry->lock);
            continue;
        }
        pthread_mutex_unlock(&registry->lock);
        if (look(registry, &space) == 0 && is_short(&space) && (vm = find_largest(registry, &why)))
            let_go(registry, vm, &why);
        pthread_mutex_lock(&registry->lock);
        registry_sleep_locked(registry, &registry->guard, TICK_MS);
    }
    pthread_mutex_unlock(&registry->lock);
    return NULL;
}

void guard_wake_locked(struct registry *registry)
{
    pthread_cond_signal(&registry->guard);
}

int guard_start(struct registry *registry, struct rp_error *e)
{
    if (pthread_create(&registry->guard_thread, NULL, guard, registry) != 0)
        return rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start a thread");
    registry->has_guard = true;
    return 0;
}

void guard_stop(struct registry *registry)
{
    if (!registry->has_guard)
        return;
    pthread_mutex_lock(&registry->lock);
    registry->stop = true;
    pthread_cond_broadcast(&registry->guard);
    pthread_mutex_unlock(&registry->lock);
    pthread_join(registry->guard_thread, NULL);
    registry->has_guard = false;
}

/* ---- at the end of the service ---- */

bool guard_can_wait(struct registry *registry, struct vm *vm, uint64_t *claimed_bytes)
{
    struct space space = {0};
    uint64_t most = 0, taken;

    if (!registry->is_local || look(registry, &space) < 0)
        return false;
    for (size_t i = 0; i < vm->hold->ndisks; i++) {
        const struct vm_disk *disk = registry_find_disk(vm, vm->hold->disks[i].target);

        if (!disk || !disk->size_bytes)
            return false;
        most += disk->size_bytes;
    }
    taken = scratch_bytes(vm->hold);
    *claimed_bytes += most > taken ? most - taken : 0;
    return space.free_bytes > space.reserve_bytes + *claimed_bytes;
}

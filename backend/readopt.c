// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Holds across the end of the service: what is written down of one, and how the next service finds
 * it again. QEMU and libvirt keep the job alive; its socket's path, which is always the same for a
 * VM, tells that it is ours, and the id in its checkpoint's description that it is the one written
 * down. Writing: any thread; finding again: a refresher's, before anybody can mark the VM.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A call that was under way when the service died may yet begin what it asked for. libvirt waits 30
 * s at most for its turn.
 */
#define LATE_MS 40000

/* ---- written down ---- */

/* Names this boot: without it a time of the monotonic clock says nothing. Empty if not known. */
static void read_boot(char *ret_boot, size_t size)
{
    FILE *in = fopen("/proc/sys/kernel/random/boot_id", "re");

    *ret_boot = '\0';
    if (!in)
        return;
    if (fgets(ret_boot, (int)size, in))
        ret_boot[strcspn(ret_boot, "\n")] = '\0';
    fclose(in);
}

/* Borrows all strings but the array of disks, which the caller frees. */
static int describe(const struct hold *hold, const char *refpoint, struct kept_hold *ret_kept)
{
    struct kept_disk *disks = calloc(hold->ndisks + 1, sizeof *disks);

    if (!disks)
        return -ENOMEM;
    for (size_t i = 0; i < hold->ndisks; i++) {
        const struct hold_disk *disk = &hold->disks[i];

        disks[i] = (struct kept_disk){disk->target, disk->export_name, disk->base,
                                      disk->bitmap, disk->why_full,    disk->scratch};
    }
    *ret_kept = (struct kept_hold){
        .refpoint = (char *)refpoint,
        .id = (char *)hold->id,
        .socket = hold->socket_path,
        .nvram = hold->nvram,
        .nvram_why = hold->nvram_why,
        .frozen = hold->is_frozen,
        .offline = hold->is_offline,
        .ndisks = hold->ndisks,
        .disks = disks,
    };
    return 0;
}

/* A copy that owns its strings, made the way the next service would; NULL when out of memory. */
static struct kept_hold *copy_kept(const struct kept_hold *kept)
{
    struct kept_hold *copy = calloc(1, sizeof *copy);
    struct rp_error ignored;
    char *text = NULL;
    size_t length;
    FILE *out = copy ? open_memstream(&text, &length) : NULL;

    if (out)
        kept_hold_print(kept, out);
    if (!out || fclose(out) != 0 || kept_hold_parse(text, length, copy, &ignored) < 0) {
        free(copy);
        copy = NULL;
    }
    free(text);
    return copy;
}

struct kept_hold *registry_keep_new_hold(struct registry *registry, const struct mark *mark,
                                         const struct hold *hold)
{
    static char too_early[] = "the service ended before they were copied";
    const struct registry_spec *spec = mark->spec;
    struct kept_hold kept, *copy;
    struct rp_error ignored;
    char boot[64];

    read_boot(boot, sizeof boot);
    if (describe(hold, spec->name ? spec->name : "", &kept) < 0)
        return NULL;
    if (*mark->nvram)
        kept.nvram_why = too_early;
    kept.seconds = spec->hold_seconds ? spec->hold_seconds : registry->options->hold_seconds;
    kept.boot = boot;
    kept.used_ms = (uint64_t)registry_now_ms();
    pthread_mutex_lock(&registry->keeping);
    journal_write_hold(registry->journal, mark->uuid, &kept, &ignored);
    pthread_mutex_unlock(&registry->keeping);
    copy = copy_kept(&kept);
    free(kept.disks);
    return copy;
}

void registry_keep_hold(struct registry *registry, struct vm *vm)
{
    const struct refpoint *refpoint;
    struct kept_hold kept;
    struct rp_error ignored;
    struct hold *hold = NULL;
    char *name = NULL, boot[64];
    uint64_t used_ms, seconds;
    bool in_use, none;

    read_boot(boot, sizeof boot);
    pthread_mutex_lock(&registry->keeping);
    pthread_mutex_lock(&registry->lock);
    refpoint = table_find(&vm->refpoints, vm->hold_refpoint);
    if (vm->hold && (name = strdup(refpoint ? refpoint->name : "")))
        hold = hold_copy(vm->hold);
    used_ms = (uint64_t)registry_hold_used_ms_locked(vm);
    seconds = vm->hold_seconds;
    in_use = vm->hold_uses > 0;
    none = !vm->hold && !vm->marking && !vm->left;
    pthread_mutex_unlock(&registry->lock);
    if (none)
        journal_remove_hold(registry->journal, vm->uuid);
    if (hold && describe(hold, name, &kept) == 0) {
        kept.begun = true;
        kept.seconds = seconds;
        kept.boot = boot;
        kept.used_ms = used_ms;
        kept.in_use = in_use;
        journal_write_hold(registry->journal, vm->uuid, &kept, &ignored);
        free(kept.disks);
    }
    pthread_mutex_unlock(&registry->keeping);
    hold_free(hold);
    free(name);
}

/* ---- found again ---- */

static struct hold *make_hold(const struct kept_hold *kept)
{
    struct hold *hold = hold_new(strdup(kept->socket), kept->ndisks), *copy = NULL;

    if (!hold)
        return NULL;
    snprintf(hold->id, sizeof hold->id, "%s", kept->id);
    hold->is_frozen = kept->frozen;
    hold->is_offline = kept->offline;
    free(hold->nvram);
    free(hold->nvram_why);
    /* Borrowed for the copy, which has its own. */
    hold->nvram = kept->nvram;
    hold->nvram_why = kept->nvram_why;
    for (size_t i = 0; i < kept->ndisks; i++) {
        const struct kept_disk *disk = &kept->disks[i];

        hold->disks[i] = (struct hold_disk){disk->target, disk->export_name, disk->base,
                                            disk->bitmap, disk->why_full,    disk->scratch};
    }
    hold->ndisks = kept->ndisks;
    copy = hold_copy(hold);
    hold->nvram = hold->nvram_why = NULL;
    hold->ndisks = 0;
    hold_free(hold);
    return copy;
}

/* When it was last used, on this clock. An export that read it has ended with the service: now. */
static int64_t last_use(const struct kept_hold *kept)
{
    int64_t now = registry_now_ms();
    char boot[64];

    read_boot(boot, sizeof boot);
    if (kept->in_use || strcmp(boot, kept->boot) != 0 || kept->used_ms > (uint64_t)now)
        return now;
    return (int64_t)kept->used_ms;
}

/* Its point is there, and is that very one. */
static struct refpoint *find_point_locked(const struct vm *vm, const struct kept_hold *kept)
{
    struct refpoint *refpoint =
        *kept->refpoint ? registry_find_name_locked(vm, kept->refpoint) : NULL;

    return refpoint && strcmp(refpoint->id, kept->id) == 0 ? refpoint : NULL;
}

/* True when the job that runs is now a hold of ours like any other. */
static bool adopt(struct registry *registry, struct vm *vm, const struct kept_hold *kept)
{
    struct hold *hold = make_hold(kept);
    struct refpoint *refpoint = NULL;
    int64_t used_ms = last_use(kept);
    uint64_t serial = 0;

    pthread_mutex_lock(&registry->lock);
    if (hold && !vm->hold && !vm->marking)
        refpoint = find_point_locked(vm, kept);
    if (refpoint) {
        vm->hold = hold;
        vm->hold_refpoint = serial = refpoint->serial;
        vm->hold_uses = 0;
        vm->hold_seconds = (unsigned)kept->seconds;
        vm->hold_used_ms = used_ms;
        guard_wake_locked(registry);
        hold = NULL;
    }
    pthread_mutex_unlock(&registry->lock);
    hold_free(hold);
    if (!serial)
        return false;
    registry_keep_hold(registry, vm);
    registry_changed(registry, serial, TOPIC_HOLD | TOPIC_INFO);
    registry_changed(registry, vm->serial, TOPIC_INFO);
    return true;
}

/* A copy that is not written down, for the service ended while it was made. */
static void remove_nvram(struct registry *registry, const char *uuid)
{
    char *path = hold_nvram_path(registry->options->scratch_dir, uuid);

    if (path)
        unlink(path);
    free(path);
}

/* What is left on disk of a hold that is no more. */
static void remove_left(struct registry *registry, const char *uuid, const struct kept_hold *kept)
{
    struct hold *hold = make_hold(kept);

    if (hold && hold->is_offline)
        offline_stop_left(hold->socket_path);
    if (hold)
        hold_remove_leftovers(hold);
    hold_free(hold);
    remove_nvram(registry, uuid);
    journal_remove_hold(registry->journal, uuid);
}

void registry_drop_left(struct registry *registry, const char *uuid, struct kept_hold *left)
{
    remove_left(registry, uuid, left);
    kept_hold_clear(left);
    free(left);
}

/* True in *ret_ours while the domain has a job whose socket is that of our holds. */
static int has_our_job(struct registry *registry, struct vm *vm, bool *ret_ours, struct rp_error *e)
{
    struct hold *any = hold_new(hold_socket_path(registry->options->run_dir, vm->uuid), 0);
    int rc = any ? hold_is_alive(registry->virt, vm->uuid, any, ret_ours, e) : rp_fail_memory(e);

    if (rc == -ENOENT) {
        *ret_ours = false;
        rc = 0;
    }
    hold_free(any);
    return rc;
}

/* Ends a job of ours that nothing is known of, or that was for an export which is dead. */
static int end_orphan(struct registry *registry, struct vm *vm, struct rp_error *e)
{
    struct hold *orphan = hold_new(hold_socket_path(registry->options->run_dir, vm->uuid), 0);
    int rc = orphan ? hold_end(registry->virt, vm->uuid, orphan, e) : rp_fail_memory(e);

    hold_free(orphan);
    return rc;
}

/* Is the VM still as the service before left it: nothing marked or held since? */
static bool is_untouched(struct registry *registry, struct vm *vm)
{
    bool untouched;

    pthread_mutex_lock(&registry->lock);
    untouched = !vm->hold && !vm->marking;
    pthread_mutex_unlock(&registry->lock);
    return untouched;
}

static void forget_left(struct registry *registry, struct vm *vm)
{
    pthread_mutex_lock(&registry->lock);
    vm->left = NULL;
    pthread_mutex_unlock(&registry->lock);
}

int registry_readopt(struct registry *registry, struct vm *vm)
{
    struct kept_hold *left;
    struct rp_error e;
    bool ours = false, known;
    int64_t since;
    int rc;

    pthread_mutex_lock(&registry->lock);
    known = vm->xml || registry->is_test;
    left = vm->left;
    since = vm->left_ms;
    pthread_mutex_unlock(&registry->lock);
    if (known && !left)
        return 0;
    if (!is_untouched(registry, vm)) {
        /* The VM was marked meanwhile: what is written down is that hold now. */
        forget_left(registry, vm);
        kept_hold_clear(left);
        free(left);
        return 0;
    }
    rc = has_our_job(registry, vm, &ours, &e);
    if (rc == 0 && ours && !(left && adopt(registry, vm, left)))
        rc = end_orphan(registry, vm, &e);
    if (rc < 0)
        return left ? rc : 0;
    if (left && !ours && !left->begun && registry_now_ms() - since < LATE_MS)
        return 0; /* asked for again every second */
    forget_left(registry, vm);
    if (left && is_untouched(registry, vm))
        remove_left(registry, vm->uuid, left);
    if (left)
        kept_hold_clear(left);
    free(left);
    return 0;
}

/* Those of VMs that libvirt no longer knows, too. */
void registry_take_left(struct registry *registry)
{
    char uuid[VIRT_UUID_SIZE];
    struct kept_hold kept;

    while (journal_take_any_hold(registry->journal, uuid, &kept)) {
        struct kept_hold *left = calloc(1, sizeof *left);
        struct vm *vm;

        if (!left) {
            kept_hold_clear(&kept);
            continue;
        }
        *left = kept;
        pthread_mutex_lock(&registry->lock);
        vm = registry_find_uuid_locked(registry, uuid);
        if (vm && !vm->left) {
            vm->left = left;
            vm->left_ms = registry_now_ms();
            left = NULL;
        }
        pthread_mutex_unlock(&registry->lock);
        if (left)
            registry_drop_left(registry, uuid, left);
    }
}

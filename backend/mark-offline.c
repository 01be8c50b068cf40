// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reference points of VMs that are off. libvirt refuses to make and delete their checkpoints, but
 * takes a definition of one whose bitmaps are in the images already. Runs in the caller's thread or
 * an export's worker.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2-file.h"

/* So long may a qemu-img that a service which died had just started take to begin. */
#define BEGIN_MS 10000

/* ---- what is under way ---- */

enum presence { UNREADABLE, ABSENT, PRESENT };

static enum presence find_bitmap(const char *file, const char *name)
{
    struct qcow2_facts facts;
    struct rp_error ignored;
    enum presence presence;

    if (qcow2_file_read(file, &facts, &ignored) < 0)
        return UNREADABLE;
    presence = qcow2_file_find_bitmap(&facts, name) ? PRESENT : ABSENT;
    qcow2_file_clear(&facts);
    return presence;
}

/*
 * Before there is a definition, bitmaps are all that tells of a point. Those that are there already
 * are not ours. That one may be left by a crash is not worth failing for.
 */
static void note(struct registry *registry, const struct mark *mark)
{
    struct kept_mark kept = {.refpoint = (char *)(uintptr_t)mark->spec->name};
    struct rp_error ignored;
    size_t length;
    FILE *out = open_memstream(&kept.files, &length);

    for (size_t i = 0; out && i < mark->ntargets; i++)
        if (mark->targets[i].part == HOLD_MARKED &&
            find_bitmap(mark->targets[i].file, mark->spec->name) == ABSENT)
            fprintf(out, "%s\n", mark->targets[i].file);
    if (out && fclose(out) == 0)
        journal_write_mark(registry->journal, mark->uuid, &kept, &ignored);
    free(kept.files);
}

/* True when all of the files had the bitmap, and have it no more. Cuts the text up. */
static bool remove_noted(const struct kept_mark *left)
{
    struct rp_error ignored;
    bool all = true;
    char *next = NULL;

    for (char *file = strtok_r(left->files, "\n", &next); file; file = strtok_r(NULL, "\n", &next))
        all &= find_bitmap(file, left->refpoint) == PRESENT &&
               offline_remove_bitmap(file, left->refpoint, &ignored) == 0;
    return all;
}

void mark_offline_recover(struct registry *registry, const char *uuid)
{
    bool is_early = registry_now_ms() - registry->opened_ms < BEGIN_MS, is_over;
    struct kept_mark left;
    struct rp_error ignored;
    char *xml = NULL;
    int rc;

    if (!journal_read_mark(registry->journal, uuid, &left))
        return;
    rc = virt_get_checkpoint_xml(registry->virt, uuid, left.refpoint, VIRT_XML_SHORT, &xml,
                                 &ignored);
    free(xml);
    is_over = rc == 0;
    if (rc == -ENOENT)
        is_over = remove_noted(&left) || !is_early;
    if (is_over)
        journal_remove_mark(registry->journal, uuid);
    kept_mark_clear(&left);
}

/* ---- making ---- */

/* True when the first `count` disks have none any more. */
static bool remove_bitmaps(const struct mark *mark, size_t count)
{
    struct rp_error ignored;
    bool all = true;

    for (size_t i = 0; i < count; i++)
        if (mark->targets[i].part == HOLD_MARKED)
            all &= offline_remove_bitmap(mark->targets[i].file, mark->spec->name, &ignored) == 0;
    return all;
}

/* *ret_clean is false when a failure left some of them. */
static int add_bitmaps(const struct mark *mark, bool *ret_clean, struct rp_error *e)
{
    for (size_t i = 0; i < mark->ntargets; i++) {
        const struct hold_target *target = &mark->targets[i];
        int rc =
            target->part == HOLD_MARKED ? offline_add_bitmap(target->file, mark->spec->name, e) : 0;

        if (rc < 0) {
            rp_error_prefix(e, "disk '%s': ", target->target);
            *ret_clean = remove_bitmaps(mark, i);
            return rc;
        }
    }
    return 0;
}

static int redefine(struct registry *registry, const struct mark *mark, struct rp_error *e)
{
    struct xml_mark_disk *disks = calloc(mark->ntargets + 1, sizeof *disks);
    const struct hold_request request = {.targets = mark->targets, .ntargets = mark->ntargets};
    char id[HOLD_ID_SIZE], *description, *xml;
    int rc;

    hold_make_id(id);
    description = hold_make_description(&request, id, false);
    if (!disks || !description) {
        free(disks);
        free(description);
        return rp_fail_memory(e);
    }
    for (size_t i = 0; i < mark->ntargets; i++) {
        disks[i].target = mark->targets[i].target;
        disks[i].marked = mark->targets[i].part == HOLD_MARKED;
    }
    rc = xml_make_redefinition(mark->spec->name, description, mark->parent, time(NULL), disks,
                               mark->ntargets, mark->xml, &xml, e);
    free(disks);
    free(description);
    if (rc == 0) {
        rc = virt_create_checkpoint(registry->virt, mark->uuid, xml, true, e);
        free(xml);
    }
    return rc;
}

int mark_offline_point(struct registry *registry, const struct mark *mark, struct rp_error *e)
{
    bool is_clean = true;
    int rc;

    mark_offline_recover(registry, mark->uuid);
    note(registry, mark);
    rc = add_bitmaps(mark, &is_clean, e);
    if (rc == 0) {
        rc = redefine(registry, mark, e);
        if (rc < 0)
            is_clean = remove_bitmaps(mark, mark->ntargets);
    }
    if (is_clean)
        journal_remove_mark(registry->journal, mark->uuid);
    return rc;
}

void mark_offline_undo(struct registry *registry, const struct mark *mark)
{
    struct rp_error ignored;

    remove_bitmaps(mark, mark->ntargets);
    virt_delete_checkpoint(registry->virt, mark->uuid, mark->spec->name, true, &ignored);
}

/* ---- serving ---- */

/* The newest of the bases whose bitmap is in the image and whole. */
static int choose_base(const struct mark *mark, const struct qcow2_chain *chain,
                       struct hold_disk *disk)
{
    const char *why = "no older reference point covers it";

    for (size_t i = 0; i < mark->nbases; i++) {
        struct qcow2_span span = qcow2_chain_find_bitmap(chain, mark->bases[i]);

        if (!span.why_not) {
            free(disk->base);
            free(disk->bitmap);
            disk->base = strdup(mark->bases[i]);
            disk->bitmap = strdup(mark->bases[i]);
            return disk->base && disk->bitmap ? 0 : -ENOMEM;
        }
        why = span.why_not;
    }
    free(disk->why_full);
    disk->why_full = strdup(why);
    return disk->why_full ? 0 : -ENOMEM;
}

static const struct hold_target *find_target(const struct mark *mark, const char *name)
{
    for (size_t i = 0; i < mark->ntargets; i++)
        if (strcmp(mark->targets[i].target, name) == 0)
            return &mark->targets[i];
    return NULL;
}

/* Where one of the bitmaps goes over several images: all of them into one that we make. */
static int gather(const struct hold_disk *disk, struct offline_disk *offline, struct rp_error *e)
{
    const char *names[2];
    size_t count = 0;
    bool is_spread = false;

    for (size_t i = 0; i < 2; i++) {
        if (!offline->bitmaps[i])
            continue;
        names[count++] = offline->bitmaps[i];
        is_spread |= qcow2_chain_find_bitmap(offline->chain, offline->bitmaps[i]).count > 1;
    }
    if (!is_spread)
        return 0;
    offline->gathered = disk->scratch;
    return offline_gather_bitmaps(offline->chain, names, count, disk->scratch, e);
}

/* `chain` is the caller's to clear, if it is filled in. */
static int describe_disk(const struct mark *mark, struct hold_disk *disk, struct qcow2_chain *chain,
                         struct offline_disk *ret_disk, struct rp_error *e)
{
    const struct hold_target *target = find_target(mark, disk->target);
    const char *point = mark->spec->point;
    int rc = 0;

    *disk->bitmap = '\0';
    if (target->part == HOLD_MARKED)
        rc = qcow2_chain_read(target->file, chain, e);
    if (rc == 0 && choose_base(mark, chain, disk) < 0)
        rc = rp_fail_memory(e);
    if (rc < 0)
        return rc;
    if (point && qcow2_chain_find_bitmap(chain, point).why_not)
        point = NULL;
    *ret_disk = (struct offline_disk){
        .file = target->file,
        .format = target->format,
        .export_name = disk->export_name,
        .bitmaps = {*disk->base ? disk->bitmap : NULL, point},
        .chain = chain->nlayers ? chain : NULL,
    };
    return gather(disk, ret_disk, e);
}

int mark_offline_serve(struct registry *registry, const struct mark *mark, struct made *made,
                       struct rp_error *e)
{
    struct offline_disk *disks = calloc(mark->ntargets + 1, sizeof *disks);
    struct qcow2_chain *chains = calloc(mark->ntargets + 1, sizeof *chains);
    struct hold_request request;
    struct kept_hold *kept;
    struct hold *hold = NULL;
    int rc;

    mark_describe(registry, mark, made, &request);
    rc = disks && chains ? hold_prepare(&request, &hold, e) : rp_fail_memory(e);
    for (size_t i = 0; rc == 0 && i < hold->ndisks; i++)
        rc = describe_disk(mark, &hold->disks[i], &chains[i], &disks[i], e);
    if (rc == 0) {
        hold->is_offline = true;
        kept = registry_keep_new_hold(registry, mark, hold);
        if (kept)
            kept_hold_clear(kept);
        free(kept);
    }
    if (rc == 0)
        rc = offline_serve(hold->socket_path, disks, hold->ndisks, &made->offline, e);
    if (rc == 0 && hold_save_nvram(&request, hold) < 0)
        rc = rp_fail_memory(e);
    for (size_t i = 0; chains && i < mark->ntargets; i++)
        qcow2_chain_clear(&chains[i]);
    free(chains);
    free(disks);
    if (rc < 0) {
        if (hold)
            hold_remove_leftovers(hold);
        hold_free(hold);
        return rc;
    }
    made->hold = hold;
    return 0;
}

/* ---- removing ---- */

static void free_files(char **files)
{
    for (size_t i = 0; files && files[i]; i++)
        free(files[i]);
    free(files);
}

/* The images of the disks that the point covers, as far as the VM still has them. All or none. */
static int copy_files_locked(const struct vm *vm, const struct refpoint *refpoint, char **files,
                             struct rp_error *e)
{
    size_t count = 0;
    int rc = 0;

    for (size_t i = 0; i < refpoint->ndisks && rc == 0; i++) {
        const struct vm_disk *disk = registry_find_disk(vm, refpoint->disks[i].target);

        if (!refpoint->disks[i].covered || !disk)
            continue;
        rc = mark_check_file(vm->name ? vm->name : "", disk, "", e);
        if (rc == 0)
            files[count] = strdup(disk->source);
        if (rc == 0 && !files[count++])
            rc = rp_fail_memory(e);
    }
    return rc;
}

static int copy_files(struct registry *registry, struct vm *vm, uint64_t serial, char ***ret_files,
                      struct rp_error *e)
{
    const struct refpoint *refpoint;
    char **files;
    size_t max;
    int rc = 0;

    pthread_mutex_lock(&registry->lock);
    refpoint = table_find(&vm->refpoints, serial);
    max = refpoint ? refpoint->ndisks : 0;
    files = calloc(max + 1, sizeof *files);
    if (!files)
        rc = rp_fail_memory(e);
    else if (refpoint)
        rc = copy_files_locked(vm, refpoint, files, e);
    pthread_mutex_unlock(&registry->lock);
    if (rc < 0) {
        free_files(files);
        return rc;
    }
    *ret_files = files;
    return 0;
}

int mark_offline_delete(struct registry *registry, struct vm *vm, uint64_t refpoint,
                        const char *name, struct rp_error *e)
{
    struct offline *offline = NULL; /* of the hold of another point, or of the VM as it is */
    bool was_unchanged = false;
    char **files;
    int rc = copy_files(registry, vm, refpoint, &files, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&registry->lock);
    if (vm->offline) {
        offline = vm->offline;
        offline_ref(offline);
    }
    pthread_mutex_unlock(&registry->lock);
    if (offline)
        was_unchanged = offline_begin_change(offline);
    /* Bitmaps first: what is left by a failure half-way is a point that can be removed again. */
    for (size_t i = 0; files[i] && rc == 0; i++)
        rc = offline_remove_bitmap(files[i], name, e);
    if (offline) {
        offline_end_change(offline, was_unchanged);
        offline_unref(offline);
    }
    free_files(files);
    return rc == 0 ? virt_delete_checkpoint(registry->virt, vm->uuid, name, true, e) : rc;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Making reference points and holds: what is decided under the registry's lock, what is then done
 * without it, and how the outcome is put in. Runs in the caller's thread.
 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long mkdir waits for the facts of a VM that has only just appeared. */
#define KNOWN_TIMEOUT_MS 5000

/* And for a query of ours that is under way: libvirt itself gives up after 30 s. */
#define IDLE_TIMEOUT_MS 35000

/* ---- mkdir ---- */

static void clear_mark(struct mark *mark)
{
    for (size_t i = 0; i < mark->ntargets; i++) {
        free(mark->targets[i].target);
        free(mark->targets[i].file);
        free(mark->targets[i].format);
    }
    free(mark->xml);
    free(mark->nvram);
    free(mark->parent);
    free(mark->targets);
    for (size_t i = 0; i < mark->nbases; i++)
        free(mark->bases[i]);
    free(mark->bases);
}

static int copy_targets_locked(const struct vm *vm, struct mark *mark)
{
    mark->targets = calloc(vm->ndisks + 1, sizeof *mark->targets);
    for (size_t i = 0; mark->targets && i < vm->ndisks; i++) {
        struct hold_target *target = &mark->targets[mark->ntargets];

        target->part = mark_check_part(mark->spec, &vm->disks[i]);
        target->target = strdup(vm->disks[i].target);
        target->file = strdup(vm->disks[i].source);
        target->format = strdup(vm->disks[i].format);
        mark->ntargets++;
        if (!target->target || !target->file || !target->format)
            return -ENOMEM;
    }
    return mark->targets ? 0 : -ENOMEM;
}

/* Candidates for where bitmaps start: the one asked for, or all; the newest, listed last, first. */
static int copy_bases_locked(const struct vm *vm, struct mark *mark)
{
    const char *only = mark->spec->base;

    mark->bases = calloc(vm->refpoints.count + 1, sizeof *mark->bases);
    for (size_t i = vm->refpoints.count; mark->bases && i > 0 && !mark->spec->no_bitmap; i--) {
        const struct refpoint *refpoint = vm->refpoints.items[i - 1];

        if (only && strcmp(refpoint->name, only) != 0)
            continue;
        mark->bases[mark->nbases] = strdup(refpoint->name);
        if (!mark->bases[mark->nbases])
            return -ENOMEM;
        mark->nbases++;
    }
    return mark->bases ? 0 : -ENOMEM;
}

static int copy_for_mark_locked(const struct vm *vm, struct mark *mark)
{
    const struct refpoint *newest =
        vm->refpoints.count ? vm->refpoints.items[vm->refpoints.count - 1] : NULL;

    mark->has_owner = vm->has_owner;
    mark->owner_uid = vm->owner_uid;
    mark->owner_gid = vm->owner_gid;
    mark->active = vm->active;
    mark->has_agent = vm->has_agent;
    snprintf(mark->uuid, sizeof mark->uuid, "%s", vm->uuid);
    mark->xml = strdup(vm->xml ? vm->xml : "");
    mark->nvram = strdup(vm->nvram ? vm->nvram : "");
    mark->parent = strdup(newest ? newest->name : "");
    if (!mark->xml || !mark->nvram || !mark->parent)
        return -ENOMEM;
    return copy_targets_locked(vm, mark) < 0 || copy_bases_locked(vm, mark) < 0 ? -ENOMEM : 0;
}

static void give_back_locked(struct registry *registry, struct vm *vm)
{
    vm->marking = false;
    pthread_cond_broadcast(&registry->fresh);
    registry_enqueue_locked(registry, vm, 0);
}

/* Makes the VM ours to mark: nothing refreshes it then. */
static int take_locked(struct registry *registry, struct vm *vm, const struct registry_spec *spec,
                       struct rp_error *e)
{
    int rc = mark_check_free_locked(registry, vm, spec, e);

    if (rc < 0)
        return rc;
    vm->marking = true;
    if (registry_wait_idle_locked(registry, vm, IDLE_TIMEOUT_MS))
        return 0;
    give_back_locked(registry, vm);
    return rp_fail(e, RESULT_IN_USE, "libvirt has been busy with VM '%s' for %d s", vm->name,
                   IDLE_TIMEOUT_MS / 1000);
}

static int no_vm(struct rp_error *e)
{
    return rp_fail_errno(e, ENOENT, "no such VM");
}

/*
 * Which disks there are, and in which files, is asked for once more: libvirt does not tell of every
 * change, and a point in an image that the VM has no longer would be lost. The lock is let go of
 * meanwhile.
 */
static int look_locked(struct registry *registry, struct mark *mark, struct rp_error *e)
{
    struct vm *vm = mark->vm;
    int rc;

    if (!registry->is_test) {
        pthread_mutex_unlock(&registry->lock);
        registry_refresh_definition(registry, vm);
        pthread_mutex_lock(&registry->lock);
    }
    if (!vm->name || vm->gone)
        return no_vm(e);
    rc = mark_check_disks_locked(registry, vm, mark->spec, e);
    if (rc == 0 && copy_for_mark_locked(vm, mark) < 0)
        rc = rp_fail_memory(e);
    return rc;
}

static int begin_mark(struct registry *registry, uint64_t serial, struct mark *mark,
                      struct rp_error *e)
{
    struct vm *vm;
    int rc;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm) {
        vm->refs++;
        registry_wait_known_locked(registry, vm, KNOWN_TIMEOUT_MS);
    }
    rc = !vm || !vm->name || vm->gone ? no_vm(e) : take_locked(registry, vm, mark->spec, e);
    if (rc == 0) {
        mark->vm = vm;
        rc = look_locked(registry, mark, e);
        if (rc < 0)
            give_back_locked(registry, vm);
    }
    if (rc < 0 && vm)
        registry_unref_vm_locked(vm);
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

static void clear_made(struct made *made)
{
    xml_checkpoint_clear(&made->point);
    free(made->xml);
    hold_free(made->hold);
}

/*
 * Puts in what was made, if anything was. A point that cannot be described (memory, a libvirt that
 * went away) comes with the next refresh of the list. Returns its serial, or 0.
 */
static uint64_t end_mark(struct registry *registry, struct mark *mark, struct made *made)
{
    struct vm *vm = mark->vm;
    struct refpoint *refpoint = NULL;
    uint64_t serial;

    pthread_mutex_lock(&registry->lock);
    vm->marking = false;
    pthread_cond_broadcast(&registry->fresh);
    vm->generation++;
    if (made->owes_thaw) {
        vm->owes_thaw = true;
        vm->thawed_ms = registry_now_ms();
    }
    if (made->xml && !vm->gone)
        refpoint = registry_add_refpoint_locked(vm, &made->point, made->xml);
    if (refpoint) {
        made->xml = NULL;
        clock_gettime(CLOCK_REALTIME, &vm->changed);
        vm->refusal = (struct rp_error){0}; /* old news */
    }
    serial = refpoint ? refpoint->serial : 0;
    if (made->hold && (refpoint || !mark->spec->name) && !vm->gone) {
        vm->hold = made->hold;
        vm->offline = made->offline;
        made->hold = NULL;
        made->offline = NULL;
        vm->hold_refpoint = serial;
        vm->hold_uses = made->uses;
        vm->hold_seconds =
            mark->spec->hold_seconds ? mark->spec->hold_seconds : registry->options->hold_seconds;
        vm->hold_used_ms = registry_now_ms();
        registry_add_disks_locked(vm);
    }
    if (vm->hold)
        guard_wake_locked(registry);
    /* The hold too: its job may have ended before anybody here knew of it. */
    registry_enqueue_locked(registry, vm, TASK_SIZES | TASK_HOLD);
    pthread_mutex_unlock(&registry->lock);
    registry_keep_hold(registry, vm);
    pthread_mutex_lock(&registry->lock);
    registry_unref_vm_locked(vm);
    pthread_mutex_unlock(&registry->lock);
    return serial;
}

/* What the settings say goes before what the mount says; auto: where there is an agent to ask. */
static enum hold_freeze choose_freeze(const struct registry *registry, const struct mark *mark)
{
    enum backend_quiesce quiesce = registry->options->quiesce;

    if (mark->spec->consistency == SETTINGS_CONSISTENCY_APPLICATION)
        return HOLD_FREEZE_MUST;
    if (mark->spec->consistency == SETTINGS_CONSISTENCY_CRASH || quiesce == QUIESCE_NO)
        return HOLD_FREEZE_NO;
    if (quiesce == QUIESCE_YES)
        return HOLD_FREEZE_MUST;
    return mark->has_agent ? HOLD_FREEZE_TRY : HOLD_FREEZE_NO;
}

void mark_describe(struct registry *registry, const struct mark *mark, struct made *made,
                   struct hold_request *ret_request)
{
    *ret_request = (struct hold_request){
        .virt = registry->virt,
        .uuid = mark->uuid,
        .refpoint = mark->spec->name,
        .targets = mark->targets,
        .ntargets = mark->ntargets,
        .bases = (const char *const *)mark->bases,
        .nbases = mark->nbases,
        .run_dir = registry->options->run_dir,
        .scratch_dir = registry->options->scratch_dir,
        .nvram = mark->nvram,
        .is_local = registry->is_local,
        .freeze = choose_freeze(registry, mark),
        .owes_thaw = &made->owes_thaw,
        .has_owner = mark->has_owner,
        .owner_uid = mark->owner_uid,
        .owner_gid = mark->owner_gid,
    };
}

/* What hold_begin() tells when it is about to. */
struct preparation {
    struct registry *registry;
    const struct mark *mark;
    struct kept_hold *kept; /* NULL until then */
    char id[HOLD_ID_SIZE];  /* "" until then */
};

static void on_prepared(void *opaque, const struct hold *hold)
{
    struct preparation *preparation = opaque;

    preparation->kept = registry_keep_new_hold(preparation->registry, preparation->mark, hold);
    memcpy(preparation->id, hold->id, sizeof preparation->id);
}

/*
 * With the connection gone, libvirt may have begun the hold or not, or begin it yet: what was
 * written down stays, for the job to be found by it.
 */
static void settle_kept(struct registry *registry, const struct mark *mark, struct kept_hold *kept,
                        int rc, const struct rp_error *e)
{
    if (!kept)
        return;
    if (rc < 0 && e->result == RESULT_NOT_AVAILABLE) {
        pthread_mutex_lock(&registry->lock);
        if (!mark->vm->left) {
            mark->vm->left = kept;
            mark->vm->left_ms = registry_now_ms();
            kept = NULL;
        }
        pthread_mutex_unlock(&registry->lock);
    }
    if (kept)
        kept_hold_clear(kept);
    free(kept);
}

/*
 * libvirt keeps the checkpoint when what comes after QEMU's transaction fails (the NBD export,
 * say). A point that nobody was told of would stand in the way of the next try. One that does not
 * have our try's id in its description is somebody else's, and why we failed.
 */
static void remove_remains(struct registry *registry, const struct mark *mark, const char *id)
{
    struct xml_checkpoint point = {0};
    struct hold_words words;
    struct rp_error ignored;
    char *xml;

    if (virt_get_checkpoint_xml(registry->virt, mark->uuid, mark->spec->name, VIRT_XML_SHORT, &xml,
                                &ignored) < 0)
        return;
    if (xml_parse_checkpoint(xml, &point, &ignored) == 0) {
        hold_read_description(point.description, &words);
        if (strcmp(words.id, id) == 0)
            virt_delete_checkpoint(registry->virt, mark->uuid, mark->spec->name, false, &ignored);
    }
    xml_checkpoint_clear(&point);
    free(xml);
}

static int mark_and_hold(struct registry *registry, const struct mark *mark, struct made *made,
                         struct rp_error *e)
{
    struct preparation preparation = {.registry = registry, .mark = mark};
    struct hold_request request;
    int rc;

    mark_describe(registry, mark, made, &request);
    request.prepared = on_prepared;
    request.opaque = &preparation;
    rc = hold_begin(&request, &made->hold, e);
    settle_kept(registry, mark, preparation.kept, rc, e);
    if (rc < 0 && mark->spec->name && *preparation.id)
        remove_remains(registry, mark, preparation.id);
    return rc;
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

/*
 * QEMU's words for a bitmap without a checkpoint: libvirt forgets checkpoints with the domain, when
 * it is undefined or was transient, and the images keep the bitmaps. That one is not ours to
 * replace: it may be part of somebody's chain.
 */
static int explain_bitmap(const char *name, int rc, struct rp_error *e)
{
    if (!strstr(e->message, "Bitmap already exists"))
        return rc;
    rp_fail(e, RESULT_INVALID_PARAMETER,
            "a disk has a bitmap '%s' already, which no reference point of this VM has (one from "
            "before the VM was undefined?): take another name, or remove it with qemu-img bitmap "
            "--remove IMAGE %s",
            name, name);
    e->err = EEXIST;
    return -EEXIST;
}

/* A driver without backup jobs: a point that marks, and holds nothing. */
static int mark_only(struct registry *registry, const struct mark *mark, const char *name,
                     struct rp_error *e)
{
    char *xml;
    int rc = xml_make_checkpoint(name, "", NULL, 0, &xml, e);

    if (rc == 0) {
        rc = virt_create_checkpoint(registry->virt, mark->uuid, xml, false, e);
        free(xml);
    }
    return rc;
}

/* While the VM is off its images do not change by themselves: only an export needs them served. */
static int make_offline(struct registry *registry, struct mark *mark, struct made *made,
                        struct rp_error *e)
{
    int rc = mark->spec->name ? mark_offline_point(registry, mark, e) : 0;

    return rc == 0 && made->uses ? mark_offline_serve(registry, mark, made, e) : rc;
}

/* As they are now: what is kept of a VM may be older than its last resize. */
static void ask_sizes(struct registry *registry, struct mark *mark)
{
    struct rp_error ignored;

    for (size_t i = 0; i < mark->ntargets; i++)
        if (mark->targets[i].part == HOLD_MARKED)
            mark->targets[i].size_bytes =
                registry_disk_size(registry, mark->uuid, mark->targets[i].target,
                                   mark->active ? NULL : mark->targets[i].file, &ignored);
}

static int make(struct registry *registry, struct mark *mark, struct made *made, struct rp_error *e)
{
    const char *name = mark->spec->name;
    int rc = name ? refuse_existing(registry, mark, name, e) : 0;

    if (rc < 0)
        return rc;
    if (!registry->is_test && name)
        ask_sizes(registry, mark);
    if (registry->is_test)
        rc = name ? mark_only(registry, mark, name, e)
                  : rp_fail(e, RESULT_NOT_SUPPORTED, "this driver has no data to export");
    else
        rc = mark->active ? mark_and_hold(registry, mark, made, e)
                          : make_offline(registry, mark, made, e);
    if (rc < 0 && name)
        rc = explain_bitmap(name, rc, e);
    if (rc < 0 || !name)
        return rc;
    made->is_made = true;
    rc = virt_get_checkpoint_xml(registry->virt, mark->uuid, name, VIRT_XML_SHORT, &made->xml, e);
    if (rc == 0)
        rc = xml_parse_checkpoint(made->xml, &made->point, e);
    if (rc < 0) {
        free(made->xml);
        made->xml = NULL;
    }
    return rc;
}

/*
 * What could not be put in must not stay behind: a hold that nobody ends, a point that nobody was
 * told of and that stands in the way of the next try.
 */
static void undo(struct registry *registry, const struct mark *mark, struct made *made, bool failed)
{
    struct rp_error ignored;

    offline_stop(made->offline);
    if (made->hold)
        hold_end(registry->virt, mark->uuid, made->hold, &ignored);
    if (!failed || !made->is_made)
        return;
    if (mark->active || registry->is_test)
        virt_delete_checkpoint(registry->virt, mark->uuid, mark->spec->name, false, &ignored);
    else
        mark_offline_undo(registry, mark);
}

/* All of it: the point if the spec names one, and the hold. `uses` as in struct made. */
static int create(struct registry *registry, uint64_t vm, const struct registry_spec *spec,
                  unsigned uses, uint64_t *ret_refpoint, struct rp_error *e)
{
    struct mark mark = {.spec = spec};
    struct made made = {.uses = uses};
    int rc = spec->name ? mark_check_name(spec->name, e) : 0;

    if (rc == 0)
        rc = begin_mark(registry, vm, &mark, e);
    if (rc == 0) {
        rc = make(registry, &mark, &made, e);
        if (rc < 0 && spec->name)
            rp_error_prefix(e, "reference point '%s': ", spec->name);
        *ret_refpoint = end_mark(registry, &mark, &made);
        if (rc == 0 && spec->name && !*ret_refpoint)
            rc = rp_fail_memory(e);
        undo(registry, &mark, &made, rc < 0);
    }
    clear_made(&made);
    clear_mark(&mark);
    return rc;
}

void registry_creating(struct registry *registry, uint64_t serial, int delta)
{
    struct vm *vm;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm) {
        vm->creating += (unsigned)delta;
        pthread_cond_broadcast(&registry->fresh);
    }
    pthread_mutex_unlock(&registry->lock);
}

/* mkdir and rmdir can show a number only: the sentence stays readable in the VM's info. */
void registry_refused(struct registry *registry, uint64_t serial, const struct rp_error *e)
{
    struct vm *vm;

    serial = registry_vm_of(registry, serial);
    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm)
        vm->refusal = *e;
    pthread_mutex_unlock(&registry->lock);
    registry_changed(registry, serial, TOPIC_INFO);
}

static int refuse(struct registry *registry, uint64_t serial, const struct rp_error *e)
{
    registry_refused(registry, serial, e);
    return -e->err;
}

int registry_create(struct registry *registry, uint64_t vm, const struct registry_spec *spec,
                    uint64_t *ret_refpoint, struct rp_error *e)
{
    uint64_t serial = 0;
    int rc = create(registry, vm, spec, 0, &serial, e);

    if (rc < 0)
        return refuse(registry, vm, e);
    *ret_refpoint = serial;
    registry_changed(registry, vm, TOPIC_LIST | TOPIC_INFO);
    return 0;
}

int registry_make_hold(struct registry *registry, uint64_t vm, const struct registry_spec *spec,
                       uint64_t *ret_refpoint, struct rp_error *e)
{
    int rc = create(registry, vm, spec, 1, ret_refpoint, e);

    if (rc == 0)
        registry_changed(registry, vm, TOPIC_LIST | TOPIC_INFO);
    return rc;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Letting go of holds, and deleting reference points: the other half of mark.c. Runs in the
 * caller's thread, or in a refresher's for holds that have run out.
 */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- holds ---- */

int registry_end_hold(struct registry *registry, struct vm *vm, uint64_t refpoint,
                      struct rp_error *e)
{
    struct offline *offline = NULL;
    struct table disks = {0};
    struct hold *hold = NULL;
    bool is_due;
    int rc;

    pthread_mutex_lock(&registry->lock);
    is_due = vm->hold && vm->hold_refpoint == refpoint && !vm->hold_ending;
    if (is_due)
        hold = hold_copy(vm->hold);
    if (hold) {
        vm->hold_ending = true;
        offline = vm->offline;
        vm->offline = NULL;
        disks = registry_take_disks_locked(vm);
    } else if (is_due) {
        vm->hold_seconds = 0; /* as below */
    }
    pthread_mutex_unlock(&registry->lock);
    if (!hold)
        return is_due ? rp_fail_memory(e) : 0;

    /* Whoever reads them hears of it first, and holds up nothing. A hold that does not end has no
     * disks any more. */
    registry_end_disks(registry, &disks);
    offline_stop(offline);
    rc = hold_end(registry->virt, vm->uuid, hold, e);
    hold_free(hold);
    pthread_mutex_lock(&registry->lock);
    if (rc == 0)
        registry_drop_hold_locked(vm);
    else
        vm->hold_seconds = 0; /* nobody wants it any more: the clock tries again until it ends */
    vm->hold_ending = false;
    pthread_mutex_unlock(&registry->lock);
    if (rc == 0) {
        registry_changed(registry, vm->serial, 0);
        registry_keep_hold(registry, vm);
        registry_changed(registry, refpoint ? refpoint : vm->serial, TOPIC_HOLD | TOPIC_INFO);
        registry_changed(registry, vm->serial, TOPIC_INFO);
    }
    return rc;
}

/* The VM of a point, with a reference, and the point's name. */
static int get_vm(struct registry *registry, uint64_t refpoint, struct vm **ret_vm, char **ret_name,
                  struct rp_error *e)
{
    struct refpoint *found;
    char *name = NULL;

    pthread_mutex_lock(&registry->lock);
    found = registry_find_refpoint_locked(registry, refpoint);
    if (found && (name = strdup(found->name))) {
        *ret_name = name;
        *ret_vm = found->vm;
        found->vm->refs++;
    }
    pthread_mutex_unlock(&registry->lock);
    if (!found)
        return rp_fail_errno(e, ENOENT, "no such reference point");
    return name ? 0 : rp_fail_memory(e);
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
    struct vm *vm;
    int rc = get_vm(registry, refpoint, &vm, &name, e);

    if (rc < 0)
        return rc;
    rc = refuse_if_used(registry, vm, refpoint, name, e);
    if (rc == 0)
        rc = registry_end_hold(registry, vm, refpoint, e);
    if (rc < 0)
        registry_refused(registry, vm->serial, e);
    free(name);
    put_vm(registry, vm);
    return rc;
}

int registry_release_vm(struct registry *registry, uint64_t serial, struct rp_error *e)
{
    uint64_t refpoint = 0;
    bool used = false;
    struct vm *vm;
    int rc;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    if (vm) {
        vm->refs++;
        refpoint = vm->hold_refpoint;
        used = vm->hold && vm->hold_uses > 0;
    }
    pthread_mutex_unlock(&registry->lock);
    if (!vm)
        return 0;
    rc = used ? rp_fail(e, RESULT_IN_USE, "the VM is being exported")
              : registry_end_hold(registry, vm, refpoint, e);
    put_vm(registry, vm);
    return rc;
}

/* ---- rmdir ---- */

static void remove_point(struct registry *registry, struct vm *vm, uint64_t serial)
{
    struct refpoint *refpoint;
    uint64_t *children = NULL;

    pthread_mutex_lock(&registry->lock);
    vm->generation++;
    clock_gettime(CLOCK_REALTIME, &vm->changed);
    refpoint = table_find(&vm->refpoints, serial);
    if (refpoint)
        children = registry_remove_refpoint_locked(vm, refpoint);
    pthread_mutex_unlock(&registry->lock);
    registry_tell_removed(registry, serial, children);
    registry_changed(registry, vm->serial, TOPIC_LIST | TOPIC_INFO);
}

/* True when a bitmap of the point is broken, or was lost with a QEMU that never stored it. */
static bool is_broken(struct registry *registry, const struct vm *vm, const char *name)
{
    struct xml_checkpoint point;
    struct rp_error ignored;
    bool broken = false;
    char *xml;

    if (virt_get_checkpoint_xml(registry->virt, vm->uuid, name, VIRT_XML_SIZES, &xml, &ignored) < 0)
        return false;
    if (xml_parse_checkpoint(xml, &point, &ignored) == 0) {
        for (size_t i = 0; i < point.ndisks; i++)
            broken |= *point.disks[i].bitmap && !point.disks[i].has_size;
        xml_checkpoint_clear(&point);
    }
    free(xml);
    return broken;
}

/* libvirt will not delete a checkpoint whose bitmap is not there; what is left of it is a name. */
static int delete_online(struct registry *registry, struct vm *vm, const char *name,
                         struct rp_error *e)
{
    int rc = virt_delete_checkpoint(registry->virt, vm->uuid, name, false, e);

    if (rc < 0 && rc != -ENOENT && is_broken(registry, vm, name))
        rc = virt_delete_checkpoint(registry->virt, vm->uuid, name, true, e);
    return rc;
}

static bool is_off(struct registry *registry, const struct vm *vm)
{
    bool off;

    pthread_mutex_lock(&registry->lock);
    off = !vm->active && !registry->is_test;
    pthread_mutex_unlock(&registry->lock);
    return off;
}

int registry_delete(struct registry *registry, uint64_t refpoint, struct rp_error *e)
{
    char *name = NULL;
    struct vm *vm;
    int rc = get_vm(registry, refpoint, &vm, &name, e);

    if (rc < 0)
        return rc;
    rc = refuse_if_used(registry, vm, refpoint, name, e);
    if (rc == 0)
        rc = registry_end_hold(registry, vm, refpoint, e);
    /* Which images it has, or whether it was started, may be news. */
    if (rc == 0 && is_off(registry, vm))
        registry_freshen(registry, vm->serial, 0);
    if (rc == 0)
        rc = is_off(registry, vm) ? mark_offline_delete(registry, vm, refpoint, name, e)
                                  : delete_online(registry, vm, name, e);
    if (rc == 0 || rc == -ENOENT) {
        journal_forget(registry->journal, vm->uuid, name);
        remove_point(registry, vm, refpoint);
        rc = 0;
    } else {
        rp_error_prefix(e, "reference point '%s': ", name);
        registry_refused(registry, vm->serial, e);
    }
    free(name);
    put_vm(registry, vm);
    return rc;
}

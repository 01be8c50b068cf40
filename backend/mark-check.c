// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What may be marked: names, bases, disks, and a VM that nobody else is at. Decides by what the
 * registry knows, asks nobody. Any thread.
 */
#include "registry.h"

#include <errno.h>
#include <string.h>

/* libvirt takes longer names but leaves an orphan bitmap behind when they are too long for qcow2.
 */
#define REFPOINT_NAME_MAX 200

/* libvirt's schema for names, said before libvirt has to say it in its own words. */
int mark_check_name(const char *name, struct rp_error *e)
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
            !strchr("_.-", *c))
            return rp_fail(e, RESULT_INVALID_PARAMETER,
                           "'%s': a reference point's name has only letters, digits and _ . -",
                           name);
    return 0;
}

/* True when the spec asks for this disk by name, or for all. */
static bool is_asked_for(const struct registry_spec *spec, const char *target)
{
    for (size_t i = 0; i < spec->ndisks; i++)
        if (strcmp(spec->disks[i], target) == 0)
            return true;
    return spec->ndisks == 0;
}

enum hold_part mark_check_part(const struct registry_spec *spec, const struct vm_disk *disk)
{
    if (!is_asked_for(spec, disk->target))
        return HOLD_NOT;
    if (disk->tracked)
        return HOLD_MARKED;
    return spec->untracked && disk->is_exportable ? HOLD_ONLY : HOLD_NOT;
}

/* Nobody else is at it: one hold a VM, since libvirt has one backup job a domain. */
static int check_free_locked(struct registry *registry, const struct vm *vm, struct rp_error *e)
{
    const struct refpoint *held;

    if (vm->marking)
        return rp_fail(e, RESULT_IN_USE, "another reference point of VM '%s' is being made",
                       vm->name);
    if (!vm->hold)
        return 0;
    held = registry_find_refpoint_locked(registry, vm->hold_refpoint);
    if (!held)
        return rp_fail(e, RESULT_IN_USE, "VM '%s' is being exported", vm->name);
    return rp_fail(e, RESULT_IN_USE,
                   "VM '%s' holds reference point '%s'; export it, or write 0 to its hold",
                   vm->name, held->name);
}

/* Every disk that is asked for by name is there and can be marked; without names, one can. */
static int check_disks_locked(const struct vm *vm, const struct registry_spec *spec,
                              struct rp_error *e)
{
    size_t found = 0;

    for (size_t i = 0; i < vm->ndisks; i++) {
        const struct vm_disk *disk = &vm->disks[i];
        enum hold_part part = mark_check_part(spec, disk);

        found += part != HOLD_NOT;
        if (spec->ndisks && is_asked_for(spec, disk->target) && part == HOLD_NOT)
            return rp_fail(e, RESULT_NOT_SUPPORTED, "disk '%s' cannot carry a reference point: %s",
                           disk->target, disk->why_not);
    }
    if (found == 0 && spec->ndisks == 0)
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "VM '%s' has no disk that can carry a reference point (its info says why)",
                       vm->name);
    for (size_t i = 0; found < spec->ndisks && i < spec->ndisks; i++)
        if (!registry_find_disk(vm, spec->disks[i]))
            return rp_fail(e, RESULT_INVALID_PARAMETER, "VM '%s' has no disk '%s'", vm->name,
                           spec->disks[i]);
    return 0;
}

int mark_check_file(const char *vm, const struct vm_disk *disk, const char *or_else,
                    struct rp_error *e)
{
    if (disk->is_file && !disk->is_encrypted)
        return 0;
    return rp_fail(e, RESULT_NOT_SUPPORTED,
                   "VM '%s' is shut off, and disk '%s' (%s) %s: start the VM%s", vm, disk->target,
                   disk->source,
                   disk->is_file ? "is encrypted with a secret that libvirt keeps"
                                 : "is no file or device of this host",
                   or_else);
}

static int check_files_locked(const struct vm *vm, const struct registry_spec *spec,
                              struct rp_error *e)
{
    int rc = 0;

    for (size_t i = 0; i < vm->ndisks && rc == 0; i++)
        if (mark_check_part(spec, &vm->disks[i]) != HOLD_NOT)
            rc = mark_check_file(vm->name, &vm->disks[i],
                                 ", or leave the disk out with DisksToExport=", e);
    return rc;
}

static int check_new_locked(const struct vm *vm, const char *name, struct rp_error *e)
{
    if (!registry_find_name_locked(vm, name))
        return 0;
    rp_fail(e, RESULT_INVALID_PARAMETER, "reference point '%s' exists", name);
    e->err = EEXIST;
    return -EEXIST;
}

static int check_base_locked(const struct vm *vm, const char *base, struct rp_error *e)
{
    if (registry_find_name_locked(vm, base))
        return 0;
    return rp_fail(e, RESULT_INVALID_PARAMETER, "VM '%s' has no reference point '%s'", vm->name,
                   base);
}

int mark_check_free_locked(struct registry *registry, const struct vm *vm,
                           const struct registry_spec *spec, struct rp_error *e)
{
    int rc = 0;

    if (!vm->xml)
        rc = rp_fail(e, RESULT_NOT_AVAILABLE, "libvirt has not told anything of VM '%s' yet",
                     vm->name);
    if (rc == 0 && spec->name)
        rc = check_new_locked(vm, spec->name, e);
    if (rc == 0 && spec->base)
        rc = check_base_locked(vm, spec->base, e);
    return rc == 0 ? check_free_locked(registry, vm, e) : rc;
}

int mark_check_disks_locked(struct registry *registry, const struct vm *vm,
                            const struct registry_spec *spec, struct rp_error *e)
{
    int rc;

    if (registry->is_test)
        return 0;
    if (!vm->active && !registry->is_local)
        return rp_fail(e, RESULT_NOT_SUPPORTED,
                       "VM '%s' is shut off, and its images are on another host", vm->name);
    rc = check_disks_locked(vm, spec, e);
    return rc == 0 && !vm->active ? check_files_locked(vm, spec, e) : rc;
}

/* ---- for those who only write about it ---- */

int registry_check_name(struct registry *registry, uint64_t serial, const char *name,
                        struct rp_error *e)
{
    struct vm *vm;
    int rc = mark_check_name(name, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    rc = vm ? check_new_locked(vm, name, e) : rp_fail_errno(e, ENOENT, "no such VM");
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

int registry_check_base(struct registry *registry, uint64_t serial, const char *base,
                        struct rp_error *e)
{
    struct vm *vm;
    int rc;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    rc = vm ? check_base_locked(vm, base, e) : rp_fail_errno(e, ENOENT, "no such VM");
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

int registry_check_disks(struct registry *registry, uint64_t serial,
                         const struct registry_spec *spec, struct rp_error *e)
{
    struct vm *vm;
    int rc;

    pthread_mutex_lock(&registry->lock);
    vm = table_find(&registry->vms, serial);
    rc = vm ? check_disks_locked(vm, spec, e) : rp_fail_errno(e, ENOENT, "no such VM");
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

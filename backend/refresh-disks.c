// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the disks of a VM are, and what can be done with them: from its definition, from libvirt and
 * from the headers of its images. Slow; any thread, without the registry's lock.
 */
#include "registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2-file.h"

/* What its image says of itself; all 0 when it is not qcow2, or cannot be read from here. */
static struct qcow2_facts read_image(const struct xml_disk *disk, bool is_local)
{
    struct qcow2_facts facts = {0};
    struct rp_error ignored;

    if (is_local && disk->is_file && *disk->source && strcmp(disk->format, "qcow2") == 0 &&
        !xml_disk_is_removable(disk))
        (void)qcow2_file_read_header(disk->source, &facts, &ignored);
    return facts;
}

/*
 * Handed through: the guest talks to the device itself, or to another process, and QEMU neither
 * sees what is written nor can keep what it replaces. It even breaks the guest's requests when a
 * backup's filter stands between: that passes on no SCSI commands.
 */
static bool is_handed_through(const struct xml_disk *disk)
{
    return strcmp(disk->device, "lun") == 0 || strcmp(disk->type, "vhostuser") == 0 ||
           strcmp(disk->type, "vhostvdpa") == 0;
}

/* Why this disk cannot carry a reference point; "" if it can. */
static const char *why_not_tracked(const struct xml_disk *disk, const struct qcow2_facts *facts)
{
    if (xml_disk_is_removable(disk))
        return "removable drive";
    if (is_handed_through(disk))
        return "handed through to the guest, so that QEMU does not see its data";
    if (disk->readonly)
        return "read-only";
    if (strcmp(disk->format, "qcow2") != 0)
        return "its format has no change tracking, only qcow2 has";
    if (facts->version == 2)
        return "qcow2 version 2 (qemu-img amend -o compat=1.1 makes it version 3)";
    return "";
}

static bool is_exportable(const struct xml_disk *disk)
{
    return *disk->source && !disk->readonly && !xml_disk_is_removable(disk) &&
           !is_handed_through(disk);
}

/*
 * A volume is a file of its pool; where that cannot be asked (the embedded driver has no pools, a
 * pool is not active), the name has to do: libvirt finds the file by itself when the VM starts.
 */
static void find_volume(struct registry *registry, struct xml_disk *disk)
{
    struct rp_error ignored;
    char *path;

    if (!*disk->pool || registry->is_test)
        return;
    if (virt_find_volume(registry->virt, disk->pool, disk->source, &path, &disk->is_file,
                         &ignored) < 0 &&
        asprintf(&path, "%s/%s", disk->pool, disk->source) < 0)
        return;
    free(disk->source);
    disk->source = path;
}

static struct vm_disk *make_disks(struct registry *registry, const struct vm *vm,
                                  struct xml_domain *domain)
{
    struct vm_disk *disks = calloc(domain->ndisks + 1, sizeof *disks);
    struct rp_error ignored;

    for (size_t i = 0; disks && i < domain->ndisks; i++) {
        struct xml_disk *from = &domain->disks[i];
        struct qcow2_facts facts;

        find_volume(registry, from);
        facts = read_image(from, registry->is_local);
        disks[i].target = strdup(from->target);
        disks[i].source = strdup(from->source);
        disks[i].format = strdup(from->format);
        disks[i].why_not = strdup(why_not_tracked(from, &facts));
        disks[i].cluster_bytes = facts.cluster_bytes;
        disks[i].is_file = from->is_file;
        disks[i].is_encrypted = from->is_encrypted;
        disks[i].is_exportable = is_exportable(from);
        disks[i].tracked = disks[i].why_not && !*disks[i].why_not;
        if (!registry->is_test && *from->source)
            virt_get_disk_size(registry->virt, vm->uuid, from->target, &disks[i].size_bytes,
                               &ignored);
    }
    return disks;
}

static bool disks_are_whole(const struct vm_disk *disks, size_t ndisks)
{
    for (size_t i = 0; disks && i < ndisks; i++)
        if (!disks[i].target || !disks[i].source || !disks[i].format || !disks[i].why_not)
            return false;
    return disks != NULL;
}

struct vm_disk *refresh_disks(struct registry *registry, const struct vm *vm,
                              struct xml_domain *domain)
{
    struct vm_disk *disks = make_disks(registry, vm, domain);

    if (disks_are_whole(disks, domain->ndisks))
        return disks;
    registry_free_disks(disks, disks ? domain->ndisks : 0);
    return NULL;
}

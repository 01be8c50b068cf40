// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One VM's refresh: ask libvirt without any lock, put the answers in under it. A VM is refreshed by
 * one refresher at a time (refresh.c); while it is being marked, by who marks it alone.
 */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2-chain.h"

/* Takes the VM and all that belongs to it out of the tables, and tells. */
static void remove_vm(struct registry *registry, struct vm *vm)
{
    uint64_t serials[64];
    size_t count;

    do {
        pthread_mutex_lock(&registry->lock);
        for (count = 0; count < 64 && vm->refpoints.count > 0; count++) {
            struct refpoint *refpoint = vm->refpoints.items[vm->refpoints.count - 1];
            serials[count] = refpoint->serial;
            registry_drop_refpoint_locked(vm, refpoint);
        }
        pthread_mutex_unlock(&registry->lock);
        for (size_t i = 0; i < count; i++)
            registry_changed(registry, serials[i], TOPIC_GONE);
    } while (count > 0);

    pthread_mutex_lock(&registry->lock);
    struct table disks = registry_take_disks_locked(vm);
    struct offline *offline = vm->offline;
    struct kept_hold *left = vm->left;
    bool first = !vm->gone, held = vm->hold != NULL;
    vm->offline = NULL;
    vm->left = NULL;
    if (first)
        registry_remove_vm_locked(vm); /* the caller still has a reference */
    pthread_mutex_unlock(&registry->lock);
    registry_end_disks(registry, &disks);
    offline_stop(offline); /* an export that reads it fails */
    if (left)
        registry_drop_left(registry, vm->uuid, left);
    else if (held)
        journal_remove_hold(registry->journal, vm->uuid);
    if (first) {
        registry_changed(registry, vm->serial, TOPIC_GONE);
        registry_changed(registry, 0, TOPIC_LIST);
    }
}

/* Something that all points of the VM show changed. */
static void tell_points(struct registry *registry, struct vm *vm)
{
    uint64_t serial = 0;
    bool more = true;

    while (more) {
        pthread_mutex_lock(&registry->lock);
        size_t i = table_after(&vm->refpoints, serial);
        more = i < vm->refpoints.count;
        serial = more ? table_serial(&vm->refpoints, i) : 0;
        pthread_mutex_unlock(&registry->lock);
        if (more)
            registry_changed(registry, serial, TOPIC_INFO);
    }
}

static bool disks_differ(const struct vm *vm, const struct vm_disk *disks, size_t ndisks)
{
    bool differ = vm->ndisks != ndisks;

    for (size_t i = 0; !differ && i < ndisks; i++)
        differ = vm->disks[i].size_bytes != disks[i].size_bytes ||
                 vm->disks[i].tracked != disks[i].tracked;
    return differ;
}

static bool differs(const char *a, const char *b)
{
    return !a || !b || strcmp(a, b) != 0;
}

/*
 * Puts a domain's facts in. What stood there before comes back in the same places, to be freed
 * without the lock. Returns the topics that changed.
 */
static unsigned store_domain_locked(struct vm *vm, struct virt_domain *domain, char **xml,
                                    struct xml_domain *parsed, struct vm_disk **disks)
{
    unsigned topics = 0;
    struct vm_disk *old_disks = vm->disks;
    char *old_xml = vm->xml, *old_nvram = vm->nvram;

    if (differs(vm->name, domain->name)) {
        domain->name = registry_rename_vm_locked(vm, domain->name);
        topics |= TOPIC_LIST;
    }
    if (strcmp(vm->state, domain->state) != 0 || differs(vm->xml, *xml) ||
        vm->persistent != domain->persistent || disks_differ(vm, *disks, parsed->ndisks))
        topics |= TOPIC_INFO;
    /* A VM that starts anew has other bitmaps in memory than the one before: look at them. */
    if (domain->active && !vm->active)
        for (size_t i = 0; i < vm->refpoints.count; i++)
            ((struct refpoint *)vm->refpoints.items[i])->wants_sizes = true;
    vm->state = domain->state;
    vm->active = domain->active;
    vm->persistent = domain->persistent;
    vm->has_owner = parsed->has_owner;
    vm->has_agent = parsed->has_agent;
    vm->owner_uid = parsed->owner_uid;
    vm->owner_gid = parsed->owner_gid;
    vm->registry->unknown -= !vm->xml && !vm->gone;
    vm->xml = *xml;
    vm->nvram = parsed->nvram;
    parsed->nvram = old_nvram;
    vm->disks = *disks;
    vm->ndisks = parsed->ndisks;
    *xml = old_xml;
    *disks = old_disks;
    if (topics)
        clock_gettime(CLOCK_REALTIME, &vm->changed);
    return topics;
}

/* What libvirt has just told, put in with all that is to be found out by it. */
static void take_domain(struct registry *registry, struct vm *vm, struct virt_domain *domain,
                        char **xml, int64_t asked)
{
    struct xml_domain parsed;
    struct vm_disk *disks;
    struct rp_error ignored;
    size_t ndisks;
    unsigned topics, tasks;

    if (xml_parse_domain(*xml, &parsed, &ignored) < 0)
        return;
    disks = refresh_disks(registry, vm, &parsed);
    if (!disks) {
        xml_domain_clear(&parsed);
        return;
    }
    pthread_mutex_lock(&registry->lock);
    ndisks = vm->ndisks;
    tasks = vm->xml ? TASK_SIZES : TASK_SIZES | TASK_LIST; /* see list_domains() */
    topics = store_domain_locked(vm, domain, xml, &parsed, &disks);
    vm->domain_ms = asked;
    vm->wanted_ms = 0;
    registry_enqueue_locked(registry, vm, tasks);
    pthread_mutex_unlock(&registry->lock);
    registry_free_disks(disks, ndisks);
    xml_domain_clear(&parsed);
    if (topics)
        registry_changed(registry, vm->serial, topics | TOPIC_INFO);
    if (topics & TOPIC_LIST) {
        tell_points(registry, vm);
        registry_changed(registry, 0, TOPIC_LIST);
    }
}

/* A volume whose pool is not active may be found later, and the XML is the same. */
static bool all_are_found(const struct vm *vm)
{
    for (size_t i = 0; i < vm->ndisks; i++)
        if (!vm->disks[i].is_file && *vm->disks[i].source)
            return false;
    return true;
}

/* True when nothing has changed that could have changed the disks; notes that it was asked for. */
static bool is_as_before(struct registry *registry, struct vm *vm, const struct virt_domain *domain,
                         const char *xml, int64_t asked)
{
    bool same;

    pthread_mutex_lock(&registry->lock);
    same = !differs(vm->xml, xml) && !differs(vm->name, domain->name) &&
           strcmp(vm->state, domain->state) == 0 && vm->active == domain->active &&
           vm->persistent == domain->persistent && (vm->active || all_are_found(vm));
    if (same) {
        vm->domain_ms = asked;
        vm->wanted_ms = 0;
    }
    pthread_mutex_unlock(&registry->lock);
    return same;
}

static void refresh_domain(struct registry *registry, struct vm *vm, bool in_full)
{
    int64_t asked = registry_now_ms();
    struct virt_domain domain;
    struct rp_error e;
    char *xml;
    int rc = virt_get_domain(registry->virt, vm->uuid, &domain, &xml, &e);

    if (rc == -ENOENT)
        remove_vm(registry, vm);
    if (rc < 0)
        return;
    if (in_full || !is_as_before(registry, vm, &domain, xml, asked))
        take_domain(registry, vm, &domain, &xml, asked);
    free(xml);
    virt_domain_clear(&domain);
}

void registry_refresh_definition(struct registry *registry, struct vm *vm)
{
    refresh_domain(registry, vm, false);
}

/* A list of a VM's points as it comes in. */
struct listing {
    struct registry *registry;
    struct vm *vm;
    unsigned number;
    unsigned generation; /* of the VM when it was asked for: what is ours is newer */
    bool changed;
};

static bool list_wants(void *opaque, const char *name)
{
    const struct listing *listing = opaque;
    struct refpoint *refpoint;

    pthread_mutex_lock(&listing->registry->lock);
    refpoint = registry_find_name_locked(listing->vm, name);
    if (refpoint)
        refpoint->listed = listing->number;
    pthread_mutex_unlock(&listing->registry->lock);
    return !refpoint;
}

static void add_point(struct listing *listing, const struct xml_checkpoint *point, char *xml)
{
    struct registry *registry = listing->registry;
    struct vm *vm = listing->vm;
    struct refpoint *refpoint = NULL;
    struct hold_words words;
    char *directory;

    hold_read_description(point->description, &words);
    directory =
        journal_get_export(registry->journal, vm->uuid, point->name, point->created, words.id);

    pthread_mutex_lock(&registry->lock);
    if (vm->generation == listing->generation && !vm->gone)
        refpoint = registry_add_refpoint_locked(vm, point, xml);
    if (refpoint) {
        refpoint->listed = listing->number;
        refpoint->last_export = directory;
        directory = NULL;
        listing->changed = true;
    }
    pthread_mutex_unlock(&registry->lock);
    free(directory);
    if (!refpoint)
        free(xml);
}

static void list_add(void *opaque, const char *name, char *xml)
{
    struct xml_checkpoint point;
    struct rp_error ignored;

    (void)name;
    if (xml_parse_checkpoint(xml, &point, &ignored) < 0) {
        free(xml);
        return;
    }
    add_point(opaque, &point, xml);
    xml_checkpoint_clear(&point);
}

/* The first point behind `after` that is known but not in the list, taken out; 0 = none. */
static uint64_t remove_unlisted(const struct listing *listing, uint64_t after,
                                uint64_t **ret_children)
{
    struct vm *vm = listing->vm;
    uint64_t serial = 0;

    pthread_mutex_lock(&listing->registry->lock);
    for (size_t i = table_after(&vm->refpoints, after);
         i < vm->refpoints.count && !serial && vm->generation == listing->generation; i++) {
        struct refpoint *refpoint = vm->refpoints.items[i];
        if (refpoint->listed == listing->number)
            continue;
        serial = refpoint->serial;
        *ret_children = registry_remove_refpoint_locked(vm, refpoint);
    }
    pthread_mutex_unlock(&listing->registry->lock);
    return serial;
}

/* Also when it did not come: asking again at once would not make it come. */
static void list_came(const struct listing *listing, int64_t asked_ms)
{
    struct vm *vm = listing->vm;

    pthread_mutex_lock(&listing->registry->lock);
    vm->list_ms = asked_ms;
    vm->asked_ms = 0;
    if (listing->changed) {
        clock_gettime(CLOCK_REALTIME, &vm->changed);
        registry_enqueue_locked(listing->registry, vm, TASK_SIZES);
    }
    pthread_mutex_unlock(&listing->registry->lock);
    if (listing->changed)
        registry_changed(listing->registry, vm->serial, TOPIC_LIST);
}

static void refresh_list(struct registry *registry, struct vm *vm)
{
    struct listing listing = {.registry = registry, .vm = vm};
    const struct virt_walker walker = {.wants = list_wants, .add = list_add, .opaque = &listing};
    int64_t asked = registry_now_ms();
    uint64_t serial = 0, *children;
    struct rp_error e;
    int rc;

    pthread_mutex_lock(&registry->lock);
    listing.generation = vm->generation;
    listing.number = ++vm->lists;
    pthread_mutex_unlock(&registry->lock);
    rc = virt_walk_checkpoints(registry->virt, vm->uuid, &walker, &e);
    while (rc == 0 && (serial = remove_unlisted(&listing, serial, &children))) {
        registry_tell_removed(registry, serial, children);
        listing.changed = true;
    }
    list_came(&listing, asked);
}

/* The next point whose sizes are wanted; its name is copied, since it may go away meanwhile. */
static uint64_t next_wanted(struct registry *registry, struct vm *vm, char **ret_name)
{
    uint64_t serial = 0;

    pthread_mutex_lock(&registry->lock);
    for (size_t i = 0; i < vm->refpoints.count && !serial && vm->active; i++) {
        struct refpoint *refpoint = vm->refpoints.items[i];
        if (!refpoint->wants_sizes)
            continue;
        refpoint->wants_sizes = false;
        refpoint->sizes_ms = registry_now_ms();
        *ret_name = strdup(refpoint->name);
        serial = *ret_name ? refpoint->serial : 0;
    }
    pthread_mutex_unlock(&registry->lock);
    return serial;
}

static bool store_sizes_locked(struct refpoint *refpoint, const struct xml_checkpoint *point)
{
    bool changed = false;

    for (size_t i = 0; i < refpoint->ndisks; i++) {
        struct refpoint_disk_record *disk = &refpoint->disks[i];

        for (size_t j = 0; j < point->ndisks; j++) {
            const struct xml_checkpoint_disk *now = &point->disks[j];
            enum refpoint_health health = now->has_size ? HEALTH_OK : HEALTH_BROKEN;

            if (strcmp(now->target, disk->target) != 0 || !disk->covered)
                continue;
            changed |= disk->health != health || disk->changed_bytes != now->size_bytes;
            disk->health = health;
            disk->has_size = now->has_size;
            disk->changed_bytes = now->size_bytes;
        }
    }
    return changed;
}

/*
 * libvirt was asked, and cannot tell of one disk or another: "different sizes" is what QEMU says of
 * the bitmaps of a disk that was grown after an external snapshot. Not so when it only had no time,
 * or the point is gone.
 */
static bool forget_sizes_locked(struct refpoint *refpoint, const struct rp_error *e)
{
    bool changed = false;

    if (e->err == ENOENT || (e->result != RESULT_FAILED && e->result != RESULT_INVALID_STATE))
        return false;
    for (size_t i = 0; i < refpoint->ndisks; i++) {
        struct refpoint_disk_record *disk = &refpoint->disks[i];

        if (!disk->covered)
            continue;
        changed |= disk->health != HEALTH_UNKNOWN || disk->has_size;
        disk->health = HEALTH_UNKNOWN;
        disk->has_size = false;
    }
    return changed;
}

/*
 * A VM that is off cannot be asked, but its images tell whether their bitmaps are whole: one that
 * is marked as in use was lost with the QEMU that had it.
 */
static bool judge_images_locked(struct vm *vm, const char *target, const struct qcow2_chain *chain)
{
    bool changed = false;

    for (size_t i = 0; i < vm->refpoints.count; i++) {
        struct refpoint *refpoint = vm->refpoints.items[i];
        struct qcow2_span span = qcow2_chain_find_bitmap(chain, refpoint->name);
        enum refpoint_health health = span.why_not ? HEALTH_BROKEN : HEALTH_OK;

        for (size_t j = 0; j < refpoint->ndisks; j++) {
            struct refpoint_disk_record *disk = &refpoint->disks[j];

            if (!disk->covered || strcmp(disk->target, target) != 0)
                continue;
            changed |= disk->health != health || disk->has_size;
            disk->health = health;
            disk->has_size = false;
        }
    }
    return changed;
}

/* All points at once: what is read of an image tells of each of them. */
static void take_wishes(struct registry *registry, struct vm *vm)
{
    pthread_mutex_lock(&registry->lock);
    for (size_t i = 0; i < vm->refpoints.count; i++) {
        struct refpoint *refpoint = vm->refpoints.items[i];

        refpoint->wants_sizes = false;
        refpoint->sizes_ms = registry_now_ms();
    }
    pthread_mutex_unlock(&registry->lock);
}

static void refresh_images(struct registry *registry, struct vm *vm)
{
    struct vm_info info;
    struct rp_error ignored;
    bool changed = false;

    take_wishes(registry, vm);
    if (registry_vm_info(registry, vm->serial, &info, &ignored) < 0)
        return;
    for (size_t i = 0; i < info.ndisks; i++) {
        struct qcow2_chain chain;

        if (!info.disks[i].tracked || !info.disks[i].is_file ||
            qcow2_chain_read(info.disks[i].source, &chain, &ignored) < 0)
            continue;
        pthread_mutex_lock(&registry->lock);
        if (!vm->active)
            changed |= judge_images_locked(vm, info.disks[i].target, &chain);
        pthread_mutex_unlock(&registry->lock);
        qcow2_chain_clear(&chain);
    }
    vm_info_clear(&info);
    if (changed)
        tell_points(registry, vm);
}

static void refresh_sizes(struct registry *registry, struct vm *vm)
{
    struct xml_checkpoint point;
    struct rp_error e;
    char *name, *xml;
    uint64_t serial;

    while (!registry->is_test && (serial = next_wanted(registry, vm, &name))) {
        bool changed;
        int rc = virt_get_checkpoint_xml(registry->virt, vm->uuid, name, VIRT_XML_SIZES, &xml, &e);

        free(name);
        if (rc == 0) {
            rc = xml_parse_checkpoint(xml, &point, &e);
            free(xml);
        }
        pthread_mutex_lock(&registry->lock);
        struct refpoint *refpoint = table_find(&vm->refpoints, serial);
        changed =
            refpoint && vm->active &&
            (rc == 0 ? store_sizes_locked(refpoint, &point) : forget_sizes_locked(refpoint, &e));
        pthread_mutex_unlock(&registry->lock);
        if (rc == 0)
            xml_checkpoint_clear(&point);
        if (changed)
            registry_changed(registry, serial, TOPIC_INFO);
    }
}

/* A hold whose job is gone becomes bare; one that has run out is ended. */
static void refresh_hold(struct registry *registry, struct vm *vm)
{
    struct hold *hold = NULL;
    struct rp_error e;
    bool alive = true, due;
    uint64_t serial;

    pthread_mutex_lock(&registry->lock);
    serial = vm->hold_refpoint;
    due = vm->hold_uses == 0 &&
          registry_now_ms() - registry_hold_used_ms_locked(vm) >= (int64_t)vm->hold_seconds * 1000;
    if (vm->hold && !vm->hold_ending)
        hold = hold_copy(vm->hold);
    pthread_mutex_unlock(&registry->lock);
    if (!hold)
        return;
    if (!hold->is_offline && hold_is_alive(registry->virt, vm->uuid, hold, &alive, &e) == -ENOENT)
        alive = false;
    hold_free(hold);
    if (!alive || due)
        registry_end_hold(registry, vm, serial, &e);
}

/* The guest must not stay frozen because its agent was slow: again and again, until it answers. */
static void thaw(struct registry *registry, struct vm *vm)
{
    struct rp_error e;
    int rc = virt_thaw(registry->virt, vm->uuid, &e);

    pthread_mutex_lock(&registry->lock);
    vm->thawed_ms = registry_now_ms();
    if (rc == 0 || rc == -ENOENT || !vm->active)
        vm->owes_thaw = false;
    pthread_mutex_unlock(&registry->lock);
}

void registry_run_tasks(struct registry *registry, struct vm *vm, unsigned tasks)
{
    /* A hold that is found again has its point: which has to be known before anything else is. */
    if (tasks & (TASK_LIST | TASK_ORPHAN))
        refresh_list(registry, vm);
    if ((tasks & TASK_ORPHAN) && registry_readopt(registry, vm) < 0 && !vm->xml)
        return; /* nobody can mark the VM until that is decided; the keeper asks again */
    if (tasks & (TASK_DOMAIN | TASK_DEFINITION))
        refresh_domain(registry, vm, tasks & TASK_DOMAIN);
    if ((tasks & TASK_DOMAIN) && !vm->active && registry->is_local && !registry->is_test)
        mark_offline_recover(registry, vm->uuid);
    if (tasks & TASK_THAW)
        thaw(registry, vm);
    if (tasks & TASK_HOLD)
        refresh_hold(registry, vm);
    if (tasks & TASK_SIZES) {
        if (vm->active)
            refresh_sizes(registry, vm);
        else if (registry->is_local && !registry->is_test && !vm->gone)
            refresh_images(registry, vm);
    }
}

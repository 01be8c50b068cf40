// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Begins and ends holds: chooses each disk's base, prepares the folders that QEMU needs, and makes
 * checkpoint and pull-mode job in one call. Knows nothing of the registry, of time limits or of
 * exports. Runs in the thread that called.
 */
#include "hold.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "nvram.h"
#include "xml.h"

/* ---- the record ---- */

static void clear_disk(struct hold_disk *disk)
{
    free(disk->target);
    free(disk->export_name);
    free(disk->base);
    free(disk->bitmap);
    free(disk->why_full);
    free(disk->scratch);
}

void hold_free(struct hold *hold)
{
    if (!hold)
        return;
    for (size_t i = 0; i < hold->ndisks; i++)
        clear_disk(&hold->disks[i]);
    free(hold->disks);
    free(hold->nvram);
    free(hold->nvram_why);
    free(hold->socket_path);
    free(hold);
}

struct hold *hold_new(char *socket_path, size_t ndisks)
{
    struct hold *hold = calloc(1, sizeof *hold);

    if (!hold) {
        free(socket_path);
        return NULL;
    }
    hold->socket_path = socket_path;
    hold->nvram = strdup("");
    hold->nvram_why = strdup("");
    hold->disks = calloc(ndisks ? ndisks : 1, sizeof *hold->disks);
    if (!hold->socket_path || !hold->nvram || !hold->nvram_why || !hold->disks) {
        hold_free(hold);
        return NULL;
    }
    return hold;
}

static int put(char **slot, const char *text)
{
    free(*slot);
    *slot = strdup(text);
    return *slot ? 0 : -ENOMEM;
}

static bool is_whole(const struct hold_disk *disk)
{
    return disk->target && disk->export_name && disk->base && disk->bitmap && disk->why_full &&
           disk->scratch;
}

struct hold *hold_copy(const struct hold *hold)
{
    struct hold *copy = hold_new(strdup(hold->socket_path), hold->ndisks);

    if (copy) {
        copy->is_offline = hold->is_offline;
        copy->is_frozen = hold->is_frozen;
        memcpy(copy->id, hold->id, sizeof copy->id);
        if (put(&copy->nvram, hold->nvram) < 0 || put(&copy->nvram_why, hold->nvram_why) < 0) {
            hold_free(copy);
            return NULL;
        }
    }
    for (size_t i = 0; copy && i < hold->ndisks; i++) {
        const struct hold_disk *from = &hold->disks[i];
        struct hold_disk *to = &copy->disks[copy->ndisks++];

        *to = (struct hold_disk){
            .target = strdup(from->target),
            .export_name = strdup(from->export_name),
            .base = strdup(from->base),
            .bitmap = strdup(from->bitmap),
            .why_full = strdup(from->why_full),
            .scratch = strdup(from->scratch),
        };
        if (!is_whole(to)) {
            hold_free(copy);
            copy = NULL;
        }
    }
    return copy;
}

const struct hold_disk *hold_find_disk(const struct hold *hold, const char *target)
{
    for (size_t i = 0; i < hold->ndisks; i++)
        if (strcmp(hold->disks[i].target, target) == 0)
            return &hold->disks[i];
    return NULL;
}

/* ---- folders ---- */

/*
 * Makes DIR/UUID, reachable by QEMU and by nobody else. DIR itself may be passed through but not
 * read, since QEMU usually runs as another user.
 */
static int make_vm_dir(const char *dir, const struct hold_request *request, char **ret_path,
                       struct rp_error *e)
{
    char *path;

    if (asprintf(&path, "%s/%s", dir, request->uuid) < 0)
        return rp_fail_memory(e);
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        rp_fail_errno(e, errno, "cannot make the folder '%s'", path);
        goto fail;
    }
    if (geteuid() == 0 && request->has_owner &&
        (lchown(path, request->owner_uid, request->owner_gid) < 0 || chmod(path, 0700) < 0)) {
        rp_fail_errno(e, errno, "cannot give the folder '%s' to user %u, as whom QEMU runs", path,
                      (unsigned)request->owner_uid);
        goto fail;
    }
    *ret_path = path;
    return 0;

fail:
    free(path);
    return -e->err;
}

/* ---- bases ---- */

static bool is_marked(const struct hold_request *request, const char *target)
{
    for (size_t i = 0; i < request->ntargets; i++)
        if (strcmp(request->targets[i].target, target) == 0)
            return request->targets[i].part == HOLD_MARKED;
    return false;
}

/* Gives disk its base where `point` has a healthy bitmap for it, and remembers why where not. */
static int consider_base(struct hold_disk *disk, const struct xml_checkpoint *point)
{
    for (size_t i = 0; i < point->ndisks; i++) {
        const struct xml_checkpoint_disk *known = &point->disks[i];

        if (strcmp(known->target, disk->target) != 0 || !*known->bitmap)
            continue;
        if (known->has_size) {
            free(disk->base);
            free(disk->why_full);
            disk->base = strdup(point->name);
            disk->why_full = strdup("");
        } else if (!*disk->why_full) {
            free(disk->why_full);
            if (asprintf(&disk->why_full, "the bitmap of reference point '%s' is broken",
                         point->name) < 0)
                disk->why_full = NULL;
        }
        return disk->base && disk->why_full ? 0 : -ENOMEM;
    }
    return 0;
}

static bool all_have_bases(const struct hold *hold)
{
    for (size_t i = 0; i < hold->ndisks; i++)
        if (!*hold->disks[i].base)
            return false;
    return true;
}

static char *explain_no_base(const struct hold_request *request, const char *target)
{
    char *text;

    if (!is_marked(request, target))
        return strdup("it has no change tracking");
    if (request->nbases != 1)
        return strdup("no older reference point covers it");
    if (asprintf(&text, "reference point '%s' does not cover it", request->bases[0]) < 0)
        return NULL;
    return text;
}

/* Gives each disk that has no base yet this one, where it may. */
static int consider_point(const struct hold_request *request, const char *name, struct hold *hold)
{
    struct xml_checkpoint point;
    struct rp_error e;
    char *xml;
    int asked =
        virt_get_checkpoint_xml(request->virt, request->uuid, name, VIRT_XML_SIZES, &xml, &e);
    int rc = 0;

    if (asked == 0) {
        asked = xml_parse_checkpoint(xml, &point, &e);
        free(xml);
    }
    for (size_t i = 0; i < hold->ndisks && rc == 0; i++) {
        struct hold_disk *disk = &hold->disks[i];

        if (*disk->base || !is_marked(request, disk->target))
            continue;
        if (asked == 0)
            rc = consider_base(disk, &point);
        else if (!*disk->why_full)
            rc = put(&disk->why_full, e.message);
    }
    if (asked == 0)
        xml_checkpoint_clear(&point);
    return rc;
}

/*
 * Newest first, until every disk has its base. A candidate that cannot be asked (deleted
 * meanwhile, libvirt in trouble with it) is passed over: a larger delta is better than none.
 */
static int choose_bases(const struct hold_request *request, struct hold *hold, struct rp_error *e)
{
    for (size_t i = 0; i < request->nbases && !all_have_bases(hold); i++)
        if (consider_point(request, request->bases[i], hold) < 0)
            return rp_fail_memory(e);
    for (size_t d = 0; d < hold->ndisks && request->nbases > 0; d++) {
        struct hold_disk *disk = &hold->disks[d];

        if (*disk->base || *disk->why_full)
            continue;
        free(disk->why_full);
        disk->why_full = explain_no_base(request, disk->target);
        if (!disk->why_full)
            return rp_fail_memory(e);
    }
    return 0;
}

/* ---- begin ---- */

static int describe_disks(const struct hold_request *request, const char *scratch_dir,
                          struct hold *hold, struct rp_error *e)
{
    for (size_t i = 0; i < request->ntargets; i++) {
        const char *target = request->targets[i].target;
        struct hold_disk *disk;

        if (request->targets[i].part == HOLD_NOT)
            continue;
        disk = &hold->disks[hold->ndisks++];
        *disk = (struct hold_disk){
            .target = strdup(target),
            .export_name = strdup(target),
            .base = strdup(""),
            .why_full = strdup(""),
        };
        if (asprintf(&disk->bitmap, "refpoint-%s", target) < 0)
            disk->bitmap = NULL;
        if (asprintf(&disk->scratch, "%s/%s.scratch", scratch_dir, target) < 0)
            disk->scratch = NULL;
        if (!is_whole(disk))
            return rp_fail_memory(e);
        /* A service that died may have left it; libvirt refuses a scratch file that exists. */
        if (unlink(disk->scratch) < 0 && errno != ENOENT)
            return rp_fail_errno(e, errno, "cannot remove the old scratch file '%s'",
                                 disk->scratch);
    }
    return 0;
}

int hold_check_run_dir(const char *run_dir, struct rp_error *e)
{
    const size_t socket_path_max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    const size_t below = 1 + (VIRT_UUID_SIZE - 1) + strlen("/hold.sock");

    if (strlen(run_dir) + below <= socket_path_max)
        return 0;
    return rp_fail(e, RESULT_INVALID_PARAMETER,
                   "the path of the folder for sockets '%s' is longer than %zu bytes; mount with a "
                   "shorter -o run=DIR",
                   run_dir, socket_path_max - below);
}

char *hold_socket_path(const char *run_dir, const char *uuid)
{
    char *path;

    return asprintf(&path, "%s/%s/hold.sock", run_dir, uuid) < 0 ? NULL : path;
}

char *hold_nvram_path(const char *scratch_dir, const char *uuid)
{
    char *path;

    return asprintf(&path, "%s/%s/nvram", scratch_dir, uuid) < 0 ? NULL : path;
}

int hold_prepare(const struct hold_request *request, struct hold **ret_hold, struct rp_error *e)
{
    char *run = NULL, *scratch = NULL, *socket_path = NULL;
    struct hold *hold = NULL;
    int rc = make_vm_dir(request->run_dir, request, &run, e);

    if (rc == 0)
        rc = make_vm_dir(request->scratch_dir, request, &scratch, e);
    if (rc == 0 && !(socket_path = hold_socket_path(request->run_dir, request->uuid)))
        rc = rp_fail_memory(e);
    if (rc == 0) {
        hold = hold_new(socket_path, request->ntargets);
        socket_path = NULL;
        rc = hold ? describe_disks(request, scratch, hold, e) : rp_fail_memory(e);
    }
    free(run);
    free(scratch);
    free(socket_path);
    if (rc < 0) {
        hold_free(hold);
        return rc;
    }
    hold_make_id(hold->id);
    unlink(hold->socket_path); /* likewise: QEMU cannot bind to a socket that is there */
    *ret_hold = hold;
    return 0;
}

/* ---- descriptions ---- */

void hold_make_id(char *ret_id)
{
    uint64_t id = 0;

    /* Where there is no randomness yet, the time has to do. */
    if (getrandom(&id, sizeof id, GRND_NONBLOCK) != sizeof id)
        id = (uint64_t)time(NULL);
    snprintf(ret_id, HOLD_ID_SIZE, "%016" PRIx64, id);
}

char *hold_make_description(const struct hold_request *request, const char *id, bool is_frozen)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        return NULL;
    fprintf(out, "refpointfs id=%s consistency_level=%d", id, is_frozen ? 1 : 2);
    for (size_t i = 0; i < request->ntargets; i++)
        if (request->targets[i].part == HOLD_MARKED && request->targets[i].size_bytes)
            fprintf(out, " %s=%" PRIu64, request->targets[i].target,
                    request->targets[i].size_bytes);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

/* What stands behind " WORD=", or NULL; only in descriptions of this service. */
static const char *find_word(const char *description, const char *word)
{
    size_t length = strlen(word);

    if (strncmp(description, "refpointfs ", 11) != 0)
        return NULL;
    for (const char *at = description; (at = strchr(at, ' ')); at++)
        if (strncmp(at + 1, word, length) == 0 && at[1 + length] == '=')
            return at + 1 + length + 1;
    return NULL;
}

void hold_read_description(const char *description, struct hold_words *ret_words)
{
    const char *id = find_word(description, "id");
    const char *level = find_word(description, "consistency_level");

    *ret_words = (struct hold_words){.consistency_level = level && *level == '1' ? 1 : 2};
    if (id && strspn(id, "0123456789abcdef") == HOLD_ID_SIZE - 1)
        memcpy(ret_words->id, id, HOLD_ID_SIZE - 1);
}

uint64_t hold_read_size(const char *description, const char *target)
{
    const char *size = find_word(description, target);

    return size && *size >= '0' && *size <= '9' ? strtoull(size, NULL, 10) : 0;
}

/* ---- begin, with the instant between freeze and thaw ---- */

static void describe_marks(const struct hold_request *request, const struct hold *hold,
                           struct xml_mark_disk *ret_marks)
{
    for (size_t i = 0; i < request->ntargets; i++) {
        const struct hold_target *target = &request->targets[i];
        const struct hold_disk *disk = hold_find_disk(hold, target->target);

        ret_marks[i].target = target->target;
        if (disk)
            ret_marks[i] = (struct xml_mark_disk){
                .target = disk->target,
                .included = true,
                .marked = target->part == HOLD_MARKED,
                .base = *disk->base ? disk->base : NULL,
                .export_name = disk->export_name,
                .bitmap = disk->bitmap,
                .scratch_file = disk->scratch,
            };
    }
}

/* The checkpoint itself keeps how consistent it is, for whoever lists it later. */
static int make_xml(const struct hold_request *request, const struct hold *hold, char **ret_backup,
                    char **ret_checkpoint, struct rp_error *e)
{
    struct xml_mark_disk *marks = calloc(request->ntargets + 1, sizeof *marks);
    char *description = hold_make_description(request, hold->id, hold->is_frozen);
    int rc;

    if (!marks) {
        free(description);
        return rp_fail_memory(e);
    }
    describe_marks(request, hold, marks);
    rc = xml_make_backup(hold->socket_path, marks, request->ntargets, ret_backup, e);
    if (rc == 0 && request->refpoint)
        rc = description ? xml_make_checkpoint(request->refpoint, description, marks,
                                               request->ntargets, ret_checkpoint, e)
                         : rp_fail_memory(e);
    free(description);
    free(marks);
    return rc;
}

static int freeze(const struct hold_request *request, struct hold *hold, bool *ret_owed,
                  struct rp_error *e)
{
    int rc;

    *ret_owed = false;
    if (request->freeze == HOLD_FREEZE_NO)
        return 0;
    rc = virt_freeze(request->virt, request->uuid, ret_owed, e);
    hold->is_frozen = rc == 0;
    if (rc < 0 && request->freeze == HOLD_FREEZE_MUST)
        rp_error_prefix(e, "the guest's file systems cannot be frozen: ");
    return request->freeze == HOLD_FREEZE_MUST ? rc : 0;
}

/*
 * Frozen for the one call that marks the instant, and for nothing else. A thaw that fails stays
 * owed: a freeze that was given up may still be waiting for an agent that hangs.
 */
static int begin(const struct hold_request *request, struct hold *hold, struct rp_error *e)
{
    char *backup = NULL, *checkpoint = NULL;
    struct rp_error ignored;
    bool owed;
    int rc = freeze(request, hold, &owed, e);

    if (rc == 0)
        rc = make_xml(request, hold, &backup, &checkpoint, e);
    if (rc == 0)
        rc = virt_begin_backup(request->virt, request->uuid, backup, checkpoint, e);
    if (owed && virt_thaw(request->virt, request->uuid, &ignored) == 0)
        owed = false;
    *request->owes_thaw = owed;
    free(backup);
    free(checkpoint);
    return rc;
}

int hold_save_nvram(const struct hold_request *request, struct hold *hold)
{
    struct rp_error e;
    char *copy;

    if (!*request->nvram)
        return 0;
    if (!request->is_local)
        return put(&hold->nvram_why, "the VM's NVRAM is on another host");
    copy = hold_nvram_path(request->scratch_dir, request->uuid);
    if (!copy)
        return -ENOMEM;
    unlink(copy); /* a service that died may have left it */
    if (nvram_save(request->nvram, copy, &e) < 0) {
        free(copy);
        return put(&hold->nvram_why, e.message);
    }
    free(hold->nvram);
    hold->nvram = copy;
    return 0;
}

/* A rival job would make libvirt wait 30 s before it refuses: look first. */
static int refuse_if_busy(const struct hold_request *request, struct rp_error *e)
{
    bool busy = false;
    int rc = virt_has_job(request->virt, request->uuid, &busy, e);

    if (rc == 0 && busy)
        rc = rp_fail(e, RESULT_IN_USE,
                     "another program runs a job on this VM (see virsh domjobinfo)");
    return rc;
}

/* What users of other tools search for longest: which folder, which user, and who else can forbid.
 */
static void explain_permission(const struct hold_request *request, struct rp_error *e)
{
    char message[RP_MESSAGE_SIZE];

    if (!strstr(e->message, "Permission denied"))
        return;
    memcpy(message, e->message, sizeof message);
    rp_fail(e, RESULT_ACCESS_DENIED,
            "QEMU (user %u) must be able to use the folders '%s' and '%s': choose others with "
            "-o run=DIR,scratch=DIR, or allow them in AppArmor or SELinux; %s",
            (unsigned)(request->has_owner ? request->owner_uid : geteuid()), request->run_dir,
            request->scratch_dir, message);
}

int hold_begin(const struct hold_request *request, struct hold **ret_hold, struct rp_error *e)
{
    struct hold *hold = NULL;
    int rc = refuse_if_busy(request, e);

    if (rc == 0)
        rc = hold_prepare(request, &hold, e);
    if (rc == 0)
        rc = choose_bases(request, hold, e);
    if (rc == 0) {
        /* Held in full: no bitmap to follow. */
        for (size_t i = 0; i < hold->ndisks; i++)
            if (!*hold->disks[i].base)
                *hold->disks[i].bitmap = '\0';
        request->prepared(request->opaque, hold);
        rc = begin(request, hold, e);
    }
    if (rc == 0 && hold_save_nvram(request, hold) < 0) {
        struct rp_error ignored;

        hold_end(request->virt, request->uuid, hold, &ignored);
        rc = rp_fail_memory(e);
    }
    if (rc < 0) {
        explain_permission(request, e);
        hold_free(hold);
        return -e->err;
    }
    *ret_hold = hold;
    return 0;
}

int hold_has_changed_since(struct virt *virt, const char *uuid, const struct hold *hold,
                           const char *point, bool *ret_changed, struct rp_error *e)
{
    struct xml_checkpoint checkpoint;
    size_t unchanged = 0;
    char *xml;
    int rc = virt_get_checkpoint_xml(virt, uuid, point, VIRT_XML_SIZES, &xml, e);

    if (rc < 0)
        return rc;
    rc = xml_parse_checkpoint(xml, &checkpoint, e);
    free(xml);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < checkpoint.ndisks; i++) {
        const struct xml_checkpoint_disk *disk = &checkpoint.disks[i];
        unchanged += *disk->bitmap && disk->has_size && disk->size_bytes == 0 &&
                     hold_find_disk(hold, disk->target);
    }
    xml_checkpoint_clear(&checkpoint);
    *ret_changed = unchanged != hold->ndisks;
    return 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One export: choose what each disk gets, plan all disks, copy them, and write the manifest last.
 * Reads the hold with the service's rights and writes with the caller's. One thread, the worker;
 * the callbacks of the copies run in theirs.
 */
#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "copies.h"
#include "manifest.h"
#include "outdir.h"
#include "papers.h"
#include "source.h"
#include "target.h"

/* QEMU's default, and the granularity its bitmaps have with it. */
#define EXPORT_CLUSTER_BYTES 65536u

/* A plan of more takes more than 32 MiB, at worst. Reached at 512 GiB in clusters of 4 KiB, at 8
 * TiB in those of 64 KiB; larger disks get larger clusters. */
#define EXPORT_CLUSTERS_MAX (UINT64_C(1) << 27)

/* Two connections keep QEMU and the writer busy; more gained nothing on any machine measured. */
#define EXPORT_CONNECTIONS 2

/* A server or a file system that shows no sign of life for this long has failed. */
#define EXPORT_STALL_MS 60000

struct disk_export {
    const struct hold_disk *held;
    uint32_t cluster_bytes;
    bool incremental;
    char *why;
    char *file; /* name in the export directory */
    char *backing;
    char *backing_format;
    struct rp_error no_backing; /* its message: why an increment has none; "" as in the export */
    struct source *source;      /* until the copies have it */
    struct plan *plan;
    struct target *target;
    struct target_layout layout;
    int fd; /* the outdir's */
    struct copy_stats stats;
};

struct export
{
    const struct export_request *request;
    const struct target_ops *ops;
    struct outdir *outdir;
    size_t ndisks;
    struct disk_export *disks;
    struct rp_error no_backing; /* its message: why increments have no backing file */
};

void export_subject_clear(struct export_subject *subject)
{
    hold_free(subject->hold);
    for (size_t i = 0; i < subject->ndisks; i++) {
        free(subject->disks[i].target);
        free(subject->disks[i].start);
        free(subject->disks[i].why);
    }
    free(subject->disks);
    free(subject->vm_name);
    free(subject->uuid);
    free(subject->refpoint);
    free(subject->base);
    free(subject->base_last_export);
    *subject = (struct export_subject){0};
}

/* ---- preparations ---- */

/*
 * The source's, within what a target can have. But a raw file has no clusters, and would only miss
 * holes; and a delta is no coarser than its bitmap, which above QEMU's default cluster grows no
 * more: it would hold, for each piece that changed, up to 31 that did not.
 */
static uint32_t choose_cluster(const struct export *export, const struct export_disk *disk,
                               bool incremental)
{
    uint32_t bytes = disk->cluster_bytes;
    uint32_t max = incremental ? EXPORT_CLUSTER_BYTES : TARGET_CLUSTER_MAX_BYTES;

    if (bytes == 0 || export->ops == &target_raw)
        return EXPORT_CLUSTER_BYTES;
    if (bytes < TARGET_CLUSTER_MIN_BYTES)
        return TARGET_CLUSTER_MIN_BYTES;
    return bytes < max ? bytes : max;
}

static int choose_disks(struct export *export, struct rp_error *e)
{
    const struct export_subject *subject = export->request->subject;

    export->disks = calloc(subject->ndisks + 1, sizeof *export->disks);
    if (!export->disks)
        return rp_fail_memory(e);
    for (size_t i = 0; i < subject->ndisks; i++) {
        const struct export_disk *from = &subject->disks[i];
        struct disk_export *disk = &export->disks[export->ndisks];

        if (!export_is_wanted(export->request->settings, from->target))
            continue;
        disk->held = hold_find_disk(subject->hold, from->target);
        if (!disk->held)
            return rp_fail(e, RESULT_INVALID_STATE, "disk '%s' is not held", from->target);
        export->ndisks++;
        disk->incremental = from->fit == FIT_EXACT || from->fit == FIT_LARGER;
        disk->cluster_bytes = choose_cluster(export, from, disk->incremental);
        disk->why = export_explain_disk(subject, from);
        if (!disk->why || asprintf(&disk->file, "%s.%s", from->target, export->ops->format) < 0) {
            disk->file = NULL;
            return rp_fail_memory(e);
        }
    }
    return 0;
}

static bool is_cancelled(void *opaque)
{
    const struct export *export = opaque;
    struct rp_error ignored;

    return export->request->check(export->request->opaque, &ignored) != 0;
}

/*
 * A cancel or a deadline shows in the modules below as just "cancelled": say which it was. Nor do
 * they know why a server that they read from is gone.
 */
static int reason(struct export *export, bool is_lost, int rc, struct rp_error *e)
{
    const struct export_request *request = export->request;
    int asked = rc < 0 ? request->check(request->opaque, e) : 0;

    if (rc < 0 && asked == 0 && is_lost)
        asked = request->explain(request->opaque, e);
    return asked < 0 ? asked : rc;
}

static void bound_clusters(struct disk_export *disk)
{
    uint64_t size_bytes = source_size_bytes(disk->source);

    while (disk->cluster_bytes < TARGET_CLUSTER_MAX_BYTES &&
           size_bytes / disk->cluster_bytes > EXPORT_CLUSTERS_MAX)
        disk->cluster_bytes *= 2;
}

static int plan_disk(struct export *export, struct disk_export *disk, struct rp_error *e)
{
    const struct source_params params = {
        .socket_path = export->request->subject->hold->socket_path,
        .export_name = disk->held->export_name,
        .bitmap = disk->incremental ? disk->held->bitmap : NULL,
        .connections = EXPORT_CONNECTIONS,
        .timeout_ms = EXPORT_STALL_MS,
        .cancelled = is_cancelled,
        .opaque = export,
    };
    int rc = source_open(&params, &disk->source, e);

    if (rc == 0) {
        bound_clusters(disk);
        rc = source_plan(disk->source, disk->cluster_bytes, &disk->plan, e);
    }
    if (rc < 0) {
        rp_error_prefix(e, "disk '%s': ", disk->held->target);
        return reason(export, !disk->source || source_is_lost(disk->source), rc, e);
    }
    return 0;
}

/* ---- the base's export ---- */

/*
 * True when this manifest is that of the base: of this VM, of that instant, complete. An export of
 * a later moment than the base's (exact=no) serves too: what was written in between is in the
 * delta, which begins at the base's instant, once more.
 */
static bool is_base(const struct manifest *manifest, const struct export_subject *subject)
{
    if (manifest->result != RESULT_COMPLETED || strcmp(manifest->uuid, subject->uuid) != 0 ||
        strcmp(manifest->refpoint, subject->base) != 0)
        return false;
    /* A point of that name may have been deleted and made again, within the same second even. */
    if (*manifest->id && *subject->base_id && strcmp(manifest->id, subject->base_id) != 0)
        return false;
    return manifest->exact ? manifest->moment == subject->base_created
                           : manifest->moment >= subject->base_created;
}

/* It has what was written after the instant that is exported, too, which no delta takes back. */
static bool is_too_late(const struct manifest *manifest, const struct export_subject *subject)
{
    return manifest->moment > subject->moment;
}

static int set_backing(struct export *export, struct disk_export *disk, const char *base_dir,
                       const struct manifest_disk *base, struct rp_error *e)
{
    char *path;

    if (asprintf(&path, "%s/%s", base_dir, base->file) < 0)
        return rp_fail_memory(e);
    disk->backing = outdir_relative(outdir_path(export->outdir), path);
    disk->backing_format = strdup(base->format);
    free(path);
    return disk->backing && disk->backing_format ? 0 : rp_fail_memory(e);
}

/* The backing file of one increment, or why it has none. */
static int use_base_disk(struct export *export, struct disk_export *disk, const char *base_dir,
                         const struct manifest *manifest, struct rp_error *e)
{
    const struct manifest_disk *base = manifest_find_disk(manifest, disk->held->target);

    if (!base)
        rp_fail(&disk->no_backing, RESULT_FAILED, "the export of '%s' in '%s' has no disk '%s'",
                manifest->refpoint, base_dir, disk->held->target);
    else if (base->size_bytes > plan_size_bytes(disk->plan))
        rp_fail(&disk->no_backing, RESULT_FAILED, "disk '%s' was longer when '%s' was exported",
                disk->held->target, manifest->refpoint);
    else
        return set_backing(export, disk, base_dir, base, e);
    return 0;
}

/*
 * Gives each increment its backing file. Where the base was exported is either said in the
 * settings, and then it must fit, or remembered, and then an export that has moved or changed
 * leaves the increments without backing file, which is right too, only less handy.
 */
static int use_base_export(struct export *export, const char *base_dir,
                           const struct manifest *manifest, bool demanded, struct rp_error *e)
{
    const struct export_subject *subject = export->request->subject;
    struct rp_error *why = demanded ? e : &export->no_backing;
    char moment[MANIFEST_TIME_SIZE];
    int rc = 0;

    if (!is_base(manifest, subject)) {
        rc = rp_fail(why, RESULT_INVALID_PARAMETER,
                     "'%s' holds no export of reference point '%s' of this VM", base_dir,
                     subject->base);
    } else if (is_too_late(manifest, subject)) {
        manifest_print_time(manifest->moment, moment);
        rc = rp_fail(why, RESULT_INVALID_PARAMETER,
                     "the export of '%s' in '%s' is of a later moment (%s) than what is exported",
                     subject->base, base_dir, moment);
    }
    if (rc < 0 && demanded)
        rp_error_prefix(
            e, "line %u: ", export->request->settings->line[SETTING_BASE_EXPORT_DIRECTORY]);
    if (rc < 0)
        return demanded ? rc : 0;
    for (size_t i = 0; i < export->ndisks && rc == 0; i++)
        if (export->disks[i].incremental)
            rc = use_base_disk(export, &export->disks[i], base_dir, manifest, e);
    return rc;
}

static int find_base_export(struct export *export, struct rp_error *e)
{
    const struct export_request *request = export->request;
    const char *asked = request->settings->base_export_directory;
    const char *where = asked ? asked : request->subject->base_last_export;
    struct manifest manifest;
    char *directory = NULL, *text = NULL;
    size_t length;
    int rc;

    if (!request->subject->base)
        return 0;
    if (!*where) {
        rp_fail(&export->no_backing, RESULT_FAILED, "no export of '%s' is known",
                request->subject->base);
        return 0;
    }
    rc = outdir_resolve(where, request->caller, &directory, e);
    if (rc == 0)
        rc = outdir_read(directory, OUTDIR_MANIFEST, MANIFEST_MAX_BYTES, request->caller, &text,
                         &length, e);
    if (rc == 0)
        rc = manifest_parse(text, length, &manifest, e);
    if (rc == 0) {
        rc = use_base_export(export, directory, &manifest, asked != NULL, e);
        manifest_clear(&manifest);
    } else if (!asked && rc != -ENOMEM) {
        rp_fail(&export->no_backing, RESULT_FAILED, "the export of '%s' is not in '%s' any more",
                request->subject->base, where);
        rc = 0;
    }
    free(directory);
    free(text);
    return rc;
}

/*
 * An increment that stands alone is right, and of no use before it is put on its base: say so where
 * the job is looked at, and where the file is found years later.
 */
static int tell_of_missing_backing(struct export *export, struct rp_error *e)
{
    const struct export_request *request = export->request;
    struct rp_error note = RP_ERROR_INIT;

    for (size_t i = 0; i < export->ndisks; i++) {
        struct disk_export *disk = &export->disks[i];
        char *why;

        if (!disk->incremental || disk->backing)
            continue;
        rp_fail(&note, RESULT_FAILED,
                "no backing file, because %s; export again with BaseExportDirectory= to give it "
                "one",
                *disk->no_backing.message ? disk->no_backing.message : export->no_backing.message);
        if (asprintf(&why, "%s; %s", disk->why, note.message) < 0)
            return rp_fail_memory(e);
        free(disk->why);
        disk->why = why;
        rp_error_prefix(&note, "%s has ", disk->file);
        request->note(request->opaque, note.message);
    }
    return 0;
}

static int open_targets(struct export *export, uint64_t *ret_total_bytes, struct rp_error *e)
{
    uint64_t total = 0;

    for (size_t i = 0; i < export->ndisks; i++) {
        struct disk_export *disk = &export->disks[i];
        const struct target_params params = {
            .backing_file = disk->backing,
            .backing_format = disk->backing_format,
            .compressed = export->request->settings->compression == SETTINGS_COMPRESSION_ZSTD,
        };
        int rc = outdir_refuse_existing(export->outdir, disk->file, e);

        if (rc == 0)
            rc = export->ops->open(disk->plan, &params, &disk->target, &disk->layout, e);
        if (rc == 0)
            rc = outdir_create(export->outdir, disk->file, &disk->fd, e);
        if (rc < 0)
            return rc;
        total += plan_data_bytes(disk->plan);
    }
    *ret_total_bytes = total;
    return 0;
}

static int prepare(struct export *export, struct rp_error *e)
{
    const struct export_request *request = export->request;
    uint64_t total = 0;
    int rc = export_check(request->subject, request->settings, TEXT_WHOLE, e);

    if (rc == 0)
        rc = choose_disks(export, e);
    if (rc == 0)
        rc = outdir_open(request->settings->export_directory, request->caller, request->tag,
                         &export->outdir, e);
    for (size_t i = 0; i < export->ndisks && rc == 0; i++)
        rc = plan_disk(export, &export->disks[i], e);
    if (rc == 0)
        rc = find_base_export(export, e);
    if (rc == 0)
        rc = tell_of_missing_backing(export, e);
    if (rc == 0)
        rc = open_targets(export, &total, e);
    if (rc == 0)
        request->running(request->opaque, total);
    return rc;
}

/* ---- the copy ---- */

static void on_progress(void *opaque, uint64_t bytes_done)
{
    struct export *export = opaque;

    export->request->done(export->request->opaque, bytes_done);
}

static int on_check(void *opaque, struct rp_error *e)
{
    struct export *export = opaque;

    return export->request->check(export->request->opaque, e);
}

/* Hands the source over. */
static struct copies_disk prepare_copy(const struct export *export, struct disk_export *disk)
{
    const struct export_request *request = export->request;
    struct copies_disk copy = {
        .name = disk->held->target,
        .params = {.source = disk->source,
                   .plan = disk->plan,
                   .ops = export->ops,
                   .target = disk->target,
                   .layout = &disk->layout,
                   .fd = disk->fd,
                   .checksum = request->settings->checksum == SETTINGS_CHECKSUM_SHA256,
                   .compression_level = request->settings->compression_level,
                   .bandwidth_bytes = request->bandwidth_bytes,
                   .stall_ms = EXPORT_STALL_MS},
    };

    disk->source = NULL;
    return copy;
}

static int copy_disks(struct export *export, struct rp_error *e)
{
    struct copies_params params = {
        .disks = calloc(export->ndisks + 1, sizeof *params.disks),
        .ndisks = export->ndisks,
        .progress = on_progress,
        .check = on_check,
        .opaque = export,
    };
    bool is_lost = false;
    int rc;

    if (!params.disks)
        return rp_fail_memory(e);
    for (size_t i = 0; i < export->ndisks; i++)
        params.disks[i] = prepare_copy(export, &export->disks[i]);
    rc = copies_run(&params, e);
    for (size_t i = 0; i < export->ndisks; i++) {
        export->disks[i].stats = params.disks[i].stats;
        is_lost |= params.disks[i].is_lost;
    }
    free(params.disks);
    return reason(export, is_lost, rc, e);
}

/* ---- the end ---- */

static int describe_disk(const struct export *export, const struct disk_export *disk,
                         struct manifest_disk *ret_disk)
{
    char sha256[MANIFEST_SHA256_SIZE] = "";

    if (export->request->settings->checksum == SETTINGS_CHECKSUM_SHA256)
        manifest_print_sha256(disk->stats.sha256, sha256);
    *ret_disk = (struct manifest_disk){
        .target = strdup(disk->held->target),
        .file = strdup(disk->file),
        .format = strdup(export->ops->format),
        .size_bytes = plan_size_bytes(disk->plan),
        .data_bytes = plan_data_bytes(disk->plan),
        .incremental = disk->incremental,
        .why = strdup(disk->why),
        .base = strdup(disk->incremental ? export->request->subject->base : ""),
        .backing = strdup(disk->backing ? disk->backing : ""),
        .sha256 = strdup(sha256),
    };
    return ret_disk->target && ret_disk->file && ret_disk->format && ret_disk->why &&
                   ret_disk->base && ret_disk->backing && ret_disk->sha256
               ? 0
               : -ENOMEM;
}

static int describe(const struct export *export, struct papers *papers, struct rp_error *e)
{
    struct manifest *manifest = &papers->manifest;
    int rc = papers_describe(papers, e);

    if (rc < 0)
        return rc;
    manifest->disks = calloc(export->ndisks + 1, sizeof *manifest->disks);
    if (!manifest->disks)
        return rp_fail_memory(e);
    for (size_t i = 0; i < export->ndisks; i++)
        if (describe_disk(export, &export->disks[i], &manifest->disks[manifest->ndisks++]) < 0)
            return rp_fail_memory(e);
    return 0;
}

/* Should the service end between the first name and the last: the next one must know which. */
static int announce_names(struct export *export, struct rp_error *e)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    int rc;

    if (!out)
        return rp_fail_memory(e);
    rc = outdir_print_files(export->outdir, out, e);
    if (fclose(out) != 0 && rc == 0)
        rc = rp_fail_memory(e);
    if (rc == 0)
        rc = export->request->naming(export->request->opaque, text, e);
    free(text);
    return rc;
}

/* Disks and papers get their names and are on disk before the manifest gets its own. */
static int finish(struct export *export, struct rp_error *e)
{
    const struct export_request *request = export->request;
    struct papers papers = {
        .virt = request->virt,
        .subject = request->subject,
        .outdir = export->outdir,
        .checksum = request->settings->checksum == SETTINGS_CHECKSUM_SHA256,
    };
    int rc = describe(export, &papers, e);

    if (rc == 0)
        rc = papers_write(&papers, e);
    if (rc == 0)
        rc = announce_names(export, e);
    if (rc == 0)
        rc = outdir_publish(export->outdir, e);
    /* The last moment to hear a cancel: after it there is an export. */
    if (rc == 0)
        rc = request->check(request->opaque, e);
    if (rc == 0)
        rc = request->verify(request->opaque, e);
    if (rc == 0)
        rc = papers_write_manifest(&papers, e);
    manifest_clear(&papers.manifest);
    if (rc == 0)
        rc = outdir_publish(export->outdir, e);
    return rc == 0 ? request->commit(request->opaque, e) : rc;
}

static void clear(struct export *export)
{
    for (size_t i = 0; i < export->ndisks; i++) {
        struct disk_export *disk = &export->disks[i];

        source_close(disk->source);
        export->ops->close(disk->target);
        plan_free(disk->plan);
        free(disk->why);
        free(disk->file);
        free(disk->backing);
        free(disk->backing_format);
    }
    free(export->disks);
}

static bool stands(const struct export *export)
{
    for (size_t i = 0; i < export->ndisks; i++)
        if (export->disks[i].incremental && !export->disks[i].backing)
            return false;
    return true;
}

int export_run(const struct export_request *request, char **ret_directory, bool *ret_stands,
               struct rp_error *e)
{
    struct export export = {
        .request = request,
        .ops = request->settings->format == SETTINGS_FORMAT_RAW ? &target_raw : &target_qcow2,
    };
    char *directory = NULL;
    int rc = prepare(&export, e);

    if (rc == 0)
        rc = copy_disks(&export, e);
    if (rc == 0) {
        directory = strdup(outdir_path(export.outdir));
        rc = directory ? finish(&export, e) : rp_fail_memory(e);
    }
    outdir_close(export.outdir, rc == 0);
    if (rc == 0) {
        *ret_directory = directory;
        *ret_stands = stands(&export);
    } else {
        free(directory);
    }
    clear(&export);
    return rc;
}

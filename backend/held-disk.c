// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Held disks (held-disk.h): opened, read, and found out about. Owns the reader while somebody has
 * the disk open, and the thread that asks for block status; knows nothing of the registry.
 *
 * LOCKS. disk->lock, and inside it that of a reader's queue; neither is held while a read is
 * answered or a server waited for.
 */
#include "held-disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "extents.h"
#include "plan.h"
#include "reader.h"
#include "source.h"
#include "table.h"

/* As for an export: a server that is silent for so long has failed. */
#define TIMEOUT_MS 60000

/* In which holes and extents are told: QEMU's default for images and the bitmaps of most. */
#define CLUSTER_BYTES 65536u

/* Two let one thread take data from the server while another hands some out. */
#define READER_THREADS 2

/* What takes longer to find out than this is not waited for by whoever only looks. */
#define FIND_OUT_PATIENCE_MS 500

/* Until what could not be found out is tried again. */
#define FIND_OUT_AGAIN_MS 1000

/*
 * One read of this size, thrown away, when long reads begin on a disk that has much to read: see
 * WARM_UP_BYTES of copy.c, whose reason is this one's.
 */
#define WARM_UP_BYTES      (8u << 20)
#define WARM_UP_FROM_BYTES (UINT64_C(256) << 20)
#define LONG_READ_BYTES    (256u << 10)

struct disk {
    uint64_t serial; /* must be first: struct table */
    atomic_uint refs;
    atomic_llong used_ms;
    atomic_bool has_ended;
    char *target, *socket_path, *export_name, *bitmap;
    struct offline *offline;

    /* Protects all below. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on CLOCK_MONOTONIC */
    unsigned readers;       /* who have it open to read data */
    bool is_opening;
    struct reader *reader;
    bool is_warm;

    bool has_finder, is_finding, is_complete;
    pthread_t finder;
    int64_t asked_ms; /* 0 = never */
    bool has_size;
    uint64_t size_bytes;
    /* Do not change once they are there. */
    struct plan *allocation, *changes; /* the second only with a bitmap */
    struct extents *map;               /* of the one or the other */
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void init_lock(struct disk *disk)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct disk *held_disk_new(const struct held_disk_params *params)
{
    struct disk *disk = calloc(1, sizeof *disk);

    if (!disk)
        return NULL;
    disk->serial = table_new_serial(KIND_DISK);
    atomic_init(&disk->refs, 1);
    init_lock(disk);
    disk->target = strdup(params->target);
    disk->socket_path = strdup(params->socket_path);
    disk->export_name = strdup(params->export_name);
    disk->bitmap = params->bitmap ? strdup(params->bitmap) : NULL;
    disk->offline = params->offline;
    if (disk->offline)
        offline_ref(disk->offline);
    if (!disk->target || !disk->socket_path || !disk->export_name ||
        (params->bitmap && !disk->bitmap)) {
        held_disk_unref(disk);
        return NULL;
    }
    return disk;
}

void held_disk_ref(struct disk *disk)
{
    atomic_fetch_add(&disk->refs, 1);
}

void held_disk_unref(struct disk *disk)
{
    if (atomic_fetch_sub(&disk->refs, 1) != 1)
        return;
    if (disk->offline)
        offline_unref(disk->offline);
    extents_free(disk->map);
    plan_free(disk->allocation);
    plan_free(disk->changes);
    pthread_cond_destroy(&disk->changed);
    pthread_mutex_destroy(&disk->lock);
    free(disk->target);
    free(disk->socket_path);
    free(disk->export_name);
    free(disk->bitmap);
    free(disk);
}

uint64_t held_disk_serial(const struct disk *disk)
{
    return disk->serial;
}

const char *held_disk_target(const struct disk *disk)
{
    return disk->target;
}

int64_t held_disk_used_ms(const struct disk *disk)
{
    return atomic_load(&disk->used_ms);
}

static void use(struct disk *disk)
{
    atomic_store(&disk->used_ms, now_ms());
}

static int fail_ended(const struct disk *disk, struct rp_error *e)
{
    return rp_fail_errno(e, ENODEV, "disk '%s' is not held any more", disk->target);
}

/* Also a function that is given to others. */
static bool has_ended(void *opaque)
{
    const struct disk *disk = opaque;

    return atomic_load(&disk->has_ended);
}

void held_disk_end(struct disk *disk)
{
    struct reader *reader;
    bool has_finder;

    atomic_store(&disk->has_ended, true);
    pthread_mutex_lock(&disk->lock);
    pthread_cond_broadcast(&disk->changed);
    while (disk->is_opening)
        pthread_cond_wait(&disk->changed, &disk->lock);
    reader = disk->reader;
    disk->reader = NULL;
    has_finder = disk->has_finder;
    disk->has_finder = false;
    pthread_mutex_unlock(&disk->lock);
    reader_close(reader);
    if (has_finder)
        pthread_join(disk->finder, NULL);
}

/* ---- finding out ---- */

static int open_source(struct disk *disk, const char *bitmap, struct source **ret_source,
                       struct rp_error *e)
{
    const struct source_params params = {
        .socket_path = disk->socket_path,
        .export_name = disk->export_name,
        .bitmap = bitmap,
        .connections = 1,
        .timeout_ms = TIMEOUT_MS,
        .cancelled = has_ended,
        .opaque = disk,
    };

    return source_open(&params, ret_source, e);
}

static int open_and_plan(struct disk *disk, const char *bitmap, struct plan **ret_plan,
                         struct rp_error *e)
{
    struct source *source;
    int rc = open_source(disk, bitmap, &source, e);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&disk->lock);
    disk->has_size = true;
    disk->size_bytes = source_size_bytes(source);
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
    rc = source_plan(source, CLUSTER_BYTES, ret_plan, e);
    source_close(source);
    return rc;
}

/* Nothing was written to the images since they are served, as may be when the VM is off. */
static bool is_sound(void *opaque)
{
    const struct disk *disk = opaque;

    return !disk->offline || offline_is_unchanged(disk->offline);
}

/* `plan` is handed over to one of the disk's members. */
static int publish(struct disk *disk, struct plan *plan, struct plan **member, bool with_map,
                   struct rp_error *e)
{
    struct extents *map = NULL;
    int rc = is_sound(disk) ? 0 : fail_ended(disk, e);

    if (rc == 0 && with_map)
        rc = extents_new(plan, &map, e);
    if (rc < 0) {
        plan_free(plan);
        return rc;
    }
    pthread_mutex_lock(&disk->lock);
    *member = plan;
    if (with_map)
        disk->map = map;
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
    return 0;
}

/* What changed is little, and known soon: it comes first. Only this thread changes what it asks. */
static int find_out(struct disk *disk, struct rp_error *e)
{
    struct plan *plan;
    int rc = 0;

    if (disk->bitmap && !disk->changes) {
        rc = open_and_plan(disk, disk->bitmap, &plan, e);
        if (rc == 0)
            rc = publish(disk, plan, &disk->changes, true, e);
    }
    if (rc == 0 && !disk->allocation) {
        rc = open_and_plan(disk, NULL, &plan, e);
        if (rc == 0)
            rc = publish(disk, plan, &disk->allocation, !disk->bitmap, e);
    }
    return rc;
}

static void *run_finder(void *opaque)
{
    struct disk *disk = opaque;
    struct rp_error ignored;
    bool complete = find_out(disk, &ignored) == 0;

    pthread_mutex_lock(&disk->lock);
    disk->is_finding = false;
    disk->is_complete = complete;
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
    return NULL;
}

static bool is_worth_trying_locked(const struct disk *disk)
{
    return !disk->is_complete && !disk->is_finding && !has_ended((void *)(uintptr_t)disk) &&
           (disk->asked_ms == 0 || now_ms() - disk->asked_ms >= FIND_OUT_AGAIN_MS);
}

bool held_disk_is_stale(struct disk *disk)
{
    bool stale;

    pthread_mutex_lock(&disk->lock);
    stale = is_worth_trying_locked(disk) ||
            (disk->is_finding && now_ms() - disk->asked_ms < FIND_OUT_PATIENCE_MS);
    pthread_mutex_unlock(&disk->lock);
    return stale;
}

void held_disk_find_out(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    if (is_worth_trying_locked(disk)) {
        /* It is at its end: what it did with the lock last was to say so. */
        if (disk->has_finder)
            pthread_join(disk->finder, NULL);
        disk->asked_ms = now_ms();
        disk->has_finder = pthread_create(&disk->finder, NULL, run_finder, disk) == 0;
        disk->is_finding = disk->has_finder;
    }
    pthread_mutex_unlock(&disk->lock);
}

void held_disk_wait(struct disk *disk, int64_t until_ms)
{
    struct timespec until = {(time_t)(until_ms / 1000), (long)(until_ms % 1000) * 1000000};
    int err = 0;

    pthread_mutex_lock(&disk->lock);
    while (disk->is_finding && !has_ended(disk) && err != ETIMEDOUT)
        err = pthread_cond_timedwait(&disk->changed, &disk->lock, &until);
    pthread_mutex_unlock(&disk->lock);
}

bool held_disk_get_info(struct disk *disk, struct disk_info *ret_info)
{
    bool known;

    pthread_mutex_lock(&disk->lock);
    known = disk->has_size;
    if (known)
        *ret_info = (struct disk_info){
            .size_bytes = disk->size_bytes,
            .has_data_bytes = disk->allocation != NULL,
            .data_bytes = disk->allocation ? plan_data_bytes(disk->allocation) : 0,
            .has_map = disk->map != NULL,
            .map_bytes = disk->map ? extents_length_bytes(disk->map) : 0,
        };
    pthread_mutex_unlock(&disk->lock);
    return known;
}

/* ---- opening ---- */

/* The lock is let go of while connecting. */
static int open_reader_locked(struct disk *disk, struct rp_error *e)
{
    const struct reader_params params = {
        .socket_path = disk->socket_path,
        .export_name = disk->export_name,
        .threads = READER_THREADS,
        .timeout_ms = TIMEOUT_MS,
        .cancelled = has_ended,
        .is_sound = disk->offline ? is_sound : NULL,
        .opaque = disk,
    };
    struct reader *dead = disk->reader, *reader = NULL;
    int rc;

    disk->reader = NULL;
    disk->is_opening = true;
    pthread_mutex_unlock(&disk->lock);
    reader_close(dead);
    rc = reader_open(&params, &reader, e);
    pthread_mutex_lock(&disk->lock);
    disk->is_opening = false;
    disk->reader = reader;
    pthread_cond_broadcast(&disk->changed);
    return rc;
}

int held_disk_open(struct disk *disk, bool data, struct rp_error *e)
{
    int rc = 0;

    use(disk);
    pthread_mutex_lock(&disk->lock);
    while (disk->is_opening)
        pthread_cond_wait(&disk->changed, &disk->lock);
    if (!has_ended(disk) && data && (!disk->reader || reader_is_dead(disk->reader)))
        rc = open_reader_locked(disk, e);
    /* Nobody there: then the hold has ended, too, though nobody has told yet. */
    if (has_ended(disk) || (rc < 0 && e->result == RESULT_NOT_AVAILABLE))
        rc = fail_ended(disk, e);
    if (rc == 0) {
        disk->readers += data;
        held_disk_ref(disk);
    }
    pthread_mutex_unlock(&disk->lock);
    return rc;
}

void backend_disk_close(struct disk *disk, bool data)
{
    struct reader *reader = NULL;

    pthread_mutex_lock(&disk->lock);
    disk->readers -= data;
    if (disk->readers == 0 && !disk->is_opening) {
        reader = disk->reader;
        disk->reader = NULL;
    }
    pthread_mutex_unlock(&disk->lock);
    reader_close(reader);
    held_disk_unref(disk);
}

int backend_disk_look(struct disk *disk, struct disk_info *ret_info)
{
    if (has_ended(disk))
        return -ENODEV;
    use(disk);
    return held_disk_get_info(disk, ret_info) ? 0 : -ENODEV;
}

/* ---- reading ---- */

/* A range that is known to read as zeros need not be asked for. */
static bool is_hole(const struct plan *allocation, uint64_t offset, size_t length)
{
    uint64_t at = offset - offset % CLUSTER_BYTES, end = offset + length;
    uint64_t up = (end + CLUSTER_BYTES - 1) / CLUSTER_BYTES * CLUSTER_BYTES;
    struct plan_run run;

    return allocation && plan_run_within(allocation, at, up, &run) && run.state == CLUSTER_SKIP &&
           run.offset_bytes + run.length_bytes >= end;
}

static void warm_up_done(struct disk_read *read, int err)
{
    (void)err;
    free(read);
}

static void warm_up_locked(struct disk *disk, const struct disk_read *cause)
{
    struct disk_read *read;

    if (disk->is_warm || cause->length < LONG_READ_BYTES || disk->size_bytes < WARM_UP_FROM_BYTES ||
        disk->size_bytes - cause->offset < WARM_UP_BYTES)
        return;
    read = malloc(sizeof *read + WARM_UP_BYTES);
    if (!read)
        return;
    disk->is_warm = true;
    *read = (struct disk_read){
        .buffer = read + 1,
        .length = WARM_UP_BYTES,
        .offset = cause->offset,
        .done = warm_up_done,
    };
    if (!reader_read(disk->reader, read))
        free(read);
}

void backend_disk_read(struct disk *disk, struct disk_read *read)
{
    bool taken = false, hole;

    use(disk);
    pthread_mutex_lock(&disk->lock);
    hole = !has_ended(disk) && is_hole(disk->allocation, read->offset, read->length);
    if (!hole && disk->reader) {
        warm_up_locked(disk, read);
        taken = reader_read(disk->reader, read);
    }
    pthread_mutex_unlock(&disk->lock);
    if (taken)
        return;
    if (hole)
        memset(read->buffer, 0, read->length);
    read->done(read, hole ? 0 : ENODEV);
}

static uint64_t first_hole(const struct plan *allocation, uint64_t offset)
{
    uint64_t at = offset - offset % CLUSTER_BYTES;
    struct plan_run run;

    if (!plan_run_at(allocation, at, &run) || run.state == CLUSTER_SKIP)
        return offset;
    return run.offset_bytes + run.length_bytes;
}

static int first_data(const struct plan *allocation, uint64_t offset, uint64_t *ret_offset)
{
    uint64_t at = offset - offset % CLUSTER_BYTES;
    struct plan_run run;

    if (!plan_next_data(allocation, at, &run))
        return -ENXIO;
    *ret_offset = run.offset_bytes > offset ? run.offset_bytes : offset;
    return 0;
}

/* Until it is known, or known that it cannot be: then all of it may be data. */
static const struct plan *wait_for_allocation(struct disk *disk, uint64_t *ret_size_bytes)
{
    const struct plan *allocation;

    held_disk_find_out(disk);
    pthread_mutex_lock(&disk->lock);
    while (!disk->allocation && disk->is_finding && !has_ended(disk))
        pthread_cond_wait(&disk->changed, &disk->lock);
    allocation = disk->allocation;
    *ret_size_bytes = disk->size_bytes;
    pthread_mutex_unlock(&disk->lock);
    return allocation;
}

int backend_disk_seek(struct disk *disk, uint64_t offset, bool hole, uint64_t *ret_offset,
                      struct rp_error *e)
{
    uint64_t size_bytes;
    const struct plan *allocation = wait_for_allocation(disk, &size_bytes);

    use(disk);
    if (has_ended(disk))
        return fail_ended(disk, e);
    if (offset >= size_bytes)
        return rp_fail_errno(e, ENXIO, "there is nothing behind the end");
    if (!hole && allocation)
        return first_data(allocation, offset, ret_offset);
    if (!hole)
        *ret_offset = offset;
    else
        *ret_offset = allocation ? first_hole(allocation, offset) : size_bytes;
    return 0;
}

int backend_disk_print_map(struct disk *disk, uint64_t offset, char *buffer, size_t size,
                           size_t *ret_length)
{
    const struct extents *map;

    if (has_ended(disk))
        return -ENODEV;
    use(disk);
    pthread_mutex_lock(&disk->lock);
    map = disk->map;
    pthread_mutex_unlock(&disk->lock);
    if (!map)
        return -ENODEV;
    *ret_length = extents_print(map, offset, buffer, size);
    return 0;
}

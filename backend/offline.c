// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Serves the images of a VM that is off by a qemu-storage-daemon. Knows images and bitmaps, not
 * VMs. Any thread; what it starts belongs to the struct it returns.
 */
#include "offline.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "process.h"
#include "source.h"

#define SERVE_TIMEOUT_MS 30000
#define SERVE_POLL_MS    5

/* Whether there is anything in a bitmap can be told in clusters of any size. */
#define PROBE_CLUSTER_BYTES 65536u

/* How an image looked when it began to be served. */
struct offline_mark {
    struct timespec changed;
    off_t size;
    uint64_t writes; /* of a device */
};

struct offline {
    atomic_uint refs;
    struct process process; /* of whoever stops it; files do not change */
    char *pid_file, *socket_path;
    size_t nfiles;
    char **files;
    pthread_mutex_t lock; /* of what follows; held while files are looked at, nothing slower */
    pthread_cond_t changed;
    bool is_changing;
    struct offline_mark *marks;
};

const char *offline_file_driver(const char *file)
{
    struct stat st;

    return stat(file, &st) == 0 && S_ISBLK(st.st_mode) ? "host_device" : "file";
}

/*
 * A device's node does not tell when the device was written to, but the kernel counts: requests
 * and sectors written, and requests that discard (Documentation/block/stat.rst; the last are there
 * since Linux 4.18).
 */
static int count_writes(dev_t device, uint64_t *ret_writes)
{
    unsigned long long ios = 0, sectors = 0, discards = 0;
    char path[64];
    FILE *in;
    int count;

    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(device), minor(device));
    in = fopen(path, "re");
    if (!in)
        return -errno;
    count =
        fscanf(in, "%*u %*u %*u %*u %llu %*u %llu %*u %*u %*u %*u %llu", &ios, &sectors, &discards);
    fclose(in);
    *ret_writes = ios + sectors + discards;
    return count >= 2 ? 0 : -EIO;
}

static int look(const char *file, struct offline_mark *ret_mark)
{
    struct offline_mark mark;
    struct stat st;
    int rc = 0;

    if (stat(file, &st) < 0)
        return -errno;
    mark = (struct offline_mark){.changed = st.st_mtim, .size = st.st_size};
    if (S_ISBLK(st.st_mode))
        rc = count_writes(st.st_rdev, &mark.writes);
    if (rc == 0)
        *ret_mark = mark;
    return rc;
}

static bool is_unchanged_locked(const struct offline *offline)
{
    struct offline_mark now = {0};

    for (size_t i = 0; i < offline->nfiles; i++) {
        const struct offline_mark *then = &offline->marks[i];

        if (look(offline->files[i], &now) < 0 || now.size != then->size ||
            now.writes != then->writes || now.changed.tv_sec != then->changed.tv_sec ||
            now.changed.tv_nsec != then->changed.tv_nsec)
            return false;
    }
    return true;
}

static void wait_unchanging_locked(struct offline *offline)
{
    while (offline->is_changing)
        pthread_cond_wait(&offline->changed, &offline->lock);
}

bool offline_is_unchanged(struct offline *offline)
{
    bool same;

    pthread_mutex_lock(&offline->lock);
    wait_unchanging_locked(offline);
    same = is_unchanged_locked(offline);
    pthread_mutex_unlock(&offline->lock);
    return same;
}

bool offline_begin_change(struct offline *offline)
{
    bool same;

    pthread_mutex_lock(&offline->lock);
    wait_unchanging_locked(offline);
    same = is_unchanged_locked(offline);
    offline->is_changing = true;
    pthread_mutex_unlock(&offline->lock);
    return same;
}

void offline_end_change(struct offline *offline, bool was_unchanged)
{
    pthread_mutex_lock(&offline->lock);
    for (size_t i = 0; i < offline->nfiles && was_unchanged; i++)
        (void)look(offline->files[i], &offline->marks[i]);
    offline->is_changing = false;
    pthread_cond_broadcast(&offline->changed);
    pthread_mutex_unlock(&offline->lock);
}

/* A growing list of arguments; `*failed` gathers the lack of memory. */
struct arguments {
    char **items;
    size_t count;
    bool failed;
};

static void add(struct arguments *arguments, const char *text)
{
    char **items = arguments->failed
                       ? NULL
                       : reallocarray(arguments->items, arguments->count + 2, sizeof *items);

    if (!items) {
        arguments->failed = true;
        return;
    }
    arguments->items = items;
    items[arguments->count] = text ? strdup(text) : NULL;
    arguments->failed = !items[arguments->count];
    items[++arguments->count] = NULL;
}

static void clear(struct arguments *arguments)
{
    for (size_t i = 0; i < arguments->count; i++)
        free(arguments->items[i]);
    free(arguments->items);
}

/* In QEMU's option syntax a comma ends a value, and two stand for one. */
static void print_value(FILE *out, const char *value)
{
    for (; *value; value++) {
        fputc(*value, out);
        if (*value == ',')
            fputc(',', out);
    }
}

/* Finishes an option printed to `out`, and adds it. */
static void add_printed(struct arguments *arguments, FILE *out, char **text)
{
    if (fclose(out) != 0)
        arguments->failed = true;
    add(arguments, *text);
    free(*text);
    *text = NULL;
}

static FILE *open_text(struct arguments *arguments, char **ret_text, size_t *ret_length)
{
    FILE *out = open_memstream(ret_text, ret_length);

    arguments->failed |= !out;
    return out;
}

/*
 * Without locks: were they held, the VM could not be started meanwhile. Whoever reads must find out
 * whether it was.
 */
static void add_image(struct arguments *arguments, const char *file, const char *node,
                      const char *format, const char *backing, size_t index)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_text(arguments, &text, &length);

    if (!out)
        return;
    fprintf(out, "driver=%s,node-name=%sf%zu,read-only=on,force-share=on,locking=off,filename=",
            offline_file_driver(file), node, index);
    print_value(out, file);
    add(arguments, "--blockdev");
    add_printed(arguments, out, &text);

    out = open_text(arguments, &text, &length);
    if (!out)
        return;
    fprintf(out, "driver=%s,node-name=%s%zu,read-only=on,force-share=on,file=%sf%zu", format, node,
            index, node, index);
    if (backing)
        fprintf(out, ",backing=%s%zu", backing, index);
    add(arguments, "--blockdev");
    add_printed(arguments, out, &text);
}

/* Bitmaps that were gathered lie in an empty image, through which the disk is seen. */
static void add_disk(struct arguments *arguments, const struct offline_disk *disk, size_t index)
{
    char *text = NULL;
    size_t length;
    FILE *out;

    add_image(arguments, disk->file, "d", disk->format, NULL, index);
    if (disk->gathered)
        add_image(arguments, disk->gathered, "g", "qcow2", "d", index);
    out = open_text(arguments, &text, &length);
    if (!out)
        return;
    fprintf(out, "type=nbd,id=e%zu,node-name=%s%zu,name=", index, disk->gathered ? "g" : "d",
            index);
    print_value(out, disk->export_name);
    for (size_t i = 0, n = 0; i < 2; i++)
        if (disk->bitmaps[i]) {
            fprintf(out, ",bitmaps.%zu=", n++);
            print_value(out, disk->bitmaps[i]);
        }
    add(arguments, "--export");
    add_printed(arguments, out, &text);
}

static int start(struct offline *offline, const char *socket_path, const struct offline_disk *disks,
                 size_t ndisks, struct rp_error *e)
{
    struct arguments arguments = {0};
    char *text = NULL;
    size_t length;
    FILE *out;
    int rc;

    add(&arguments, "qemu-storage-daemon");
    /* The server has to stand before the exports that it serves. */
    out = open_text(&arguments, &text, &length);
    if (out) {
        fputs("addr.type=unix,max-connections=0,addr.path=", out);
        print_value(out, socket_path);
        add(&arguments, "--nbd-server");
        add_printed(&arguments, out, &text);
    }
    for (size_t i = 0; i < ndisks; i++)
        add_disk(&arguments, &disks[i], i);
    add(&arguments, "--pidfile");
    add(&arguments, offline->pid_file);
    rc =
        arguments.failed ? rp_fail_memory(e) : process_start(arguments.items, &offline->process, e);
    clear(&arguments);
    return rc;
}

/* The pid file is written when everything asked for on the command line is in place. */
static int wait_until_serving(struct offline *offline, struct rp_error *e)
{
    for (int waited_ms = 0; waited_ms < SERVE_TIMEOUT_MS; waited_ms += SERVE_POLL_MS) {
        if (access(offline->pid_file, F_OK) == 0)
            return 0;
        if (process_has_ended(&offline->process, e)) {
            rp_error_prefix(e, "qemu-storage-daemon: ");
            return -e->err;
        }
        poll(NULL, 0, SERVE_POLL_MS);
    }
    return rp_fail(e, RESULT_TIMEOUT, "qemu-storage-daemon did not begin to serve within %d s",
                   SERVE_TIMEOUT_MS / 1000);
}

/* One that a service which died left behind, if the pid in the file is still its. */
static void stop_old(const char *pid_file, const char *socket_path)
{
    char path[64], command[4096];
    FILE *in = fopen(pid_file, "re");
    long pid = 0;
    size_t length;

    if (!in)
        return;
    if (fscanf(in, "%ld", &pid) != 1 || pid <= 1)
        pid = 0;
    fclose(in);
    snprintf(path, sizeof path, "/proc/%ld/cmdline", pid);
    in = pid ? fopen(path, "re") : NULL;
    if (!in)
        return;
    length = fread(command, 1, sizeof command - 1, in);
    fclose(in);
    command[length] = '\0';
    if (strcmp(command, "qemu-storage-daemon") == 0 &&
        memmem(command, length, socket_path, strlen(socket_path)))
        kill((pid_t)pid, SIGTERM);
}

void offline_stop_left(const char *socket_path)
{
    char *pid_file;

    if (asprintf(&pid_file, "%s.pid", socket_path) < 0)
        return;
    stop_old(pid_file, socket_path);
    unlink(pid_file);
    unlink(socket_path);
    free(pid_file);
}

/* The files of a disk: all of its chain that can be seen. */
static size_t count_files(const struct offline_disk *disk)
{
    return disk->chain ? disk->chain->nlayers : 1;
}

/* No further than to the first that fails: the count is of those from the beginning. */
static bool copy_files(struct offline *offline, const struct offline_disk *disk)
{
    for (size_t i = 0; i < count_files(disk); i++) {
        char *file = strdup(disk->chain ? disk->chain->layers[i].path : disk->file);

        if (!file)
            return false;
        offline->files[offline->nfiles++] = file;
    }
    return true;
}

static struct offline *new_offline(const char *socket_path, const struct offline_disk *disks,
                                   size_t ndisks)
{
    struct offline *offline = calloc(1, sizeof *offline);
    bool is_whole = true;
    size_t nfiles = 0;

    if (!offline)
        return NULL;
    atomic_init(&offline->refs, 1);
    pthread_mutex_init(&offline->lock, NULL);
    pthread_cond_init(&offline->changed, NULL);
    offline->process.output = -1;
    for (size_t i = 0; i < ndisks; i++)
        nfiles += count_files(&disks[i]);
    offline->files = calloc(nfiles + 1, sizeof *offline->files);
    offline->marks = calloc(nfiles + 1, sizeof *offline->marks);
    if (asprintf(&offline->pid_file, "%s.pid", socket_path) < 0)
        offline->pid_file = NULL;
    offline->socket_path = strdup(socket_path);
    for (size_t i = 0; i < ndisks && offline->files && is_whole; i++)
        is_whole = copy_files(offline, &disks[i]);
    if (!offline->files || !offline->marks || !offline->pid_file || !offline->socket_path ||
        !is_whole) {
        offline_stop(offline);
        return NULL;
    }
    return offline;
}

int offline_serve(const char *socket_path, const struct offline_disk *disks, size_t ndisks,
                  struct offline **ret_offline, struct rp_error *e)
{
    struct offline *offline = new_offline(socket_path, disks, ndisks);
    int rc = offline ? 0 : rp_fail_memory(e);

    for (size_t i = 0; rc == 0 && i < offline->nfiles; i++) {
        int err = -look(offline->files[i], &offline->marks[i]);
        if (err)
            rc = rp_fail_errno(e, err, "cannot look at '%s'", offline->files[i]);
    }
    if (rc == 0) {
        stop_old(offline->pid_file, socket_path);
        unlink(offline->pid_file);
        unlink(socket_path);
        rc = start(offline, socket_path, disks, ndisks, e);
    }
    if (rc == 0)
        rc = wait_until_serving(offline, e);
    if (rc < 0) {
        offline_stop(offline);
        return rc;
    }
    *ret_offline = offline;
    return 0;
}

int offline_is_bitmap_empty(const char *socket_path, const char *export_name, const char *bitmap,
                            bool *ret_empty, struct rp_error *e)
{
    const struct source_params params = {
        .socket_path = socket_path,
        .export_name = export_name,
        .bitmap = bitmap,
        .connections = 1,
        .timeout_ms = SERVE_TIMEOUT_MS,
    };
    struct source *source;
    struct plan *plan;
    int rc = source_open(&params, &source, e);

    if (rc < 0)
        return rc;
    rc = source_plan(source, PROBE_CLUSTER_BYTES, &plan, e);
    source_close(source);
    if (rc < 0)
        return rc;
    *ret_empty = plan_count(plan, CLUSTER_DATA) == 0 && plan_count(plan, CLUSTER_ZERO) == 0;
    plan_free(plan);
    return 0;
}

void offline_ref(struct offline *offline)
{
    atomic_fetch_add(&offline->refs, 1);
}

void offline_unref(struct offline *offline)
{
    if (atomic_fetch_sub(&offline->refs, 1) != 1)
        return;
    for (size_t i = 0; i < offline->nfiles; i++)
        free(offline->files[i]);
    free(offline->files);
    free(offline->marks);
    pthread_cond_destroy(&offline->changed);
    pthread_mutex_destroy(&offline->lock);
    free(offline->pid_file);
    free(offline->socket_path);
    free(offline);
}

void offline_stop(struct offline *offline)
{
    if (!offline)
        return;
    process_stop(&offline->process);
    if (offline->pid_file)
        unlink(offline->pid_file);
    if (offline->socket_path)
        unlink(offline->socket_path);
    offline_unref(offline);
}

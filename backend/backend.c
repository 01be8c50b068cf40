// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The service as fs/ sees it: opens and closes the parts, and sends each call of backend.h to the
 * part that answers it.
 */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "create.h"
#include "hold.h"
#include "job.h"
#include "order.h"
#include "recover.h"
#include "registry.h"
#include "xml.h"

/*
 * How long rmdir and a cancel wait for a text to become a job: `echo ... > export; rmdir`, where
 * the kernel tells of the close behind the program's back. After that its writer is not about to
 * close it.
 */
#define RECEIVED_TIMEOUT_MS 500

struct backend {
    struct backend_options options; /* the strings are ours */
    struct backend_events outside;  /* where events go */
    atomic_bool is_closed;          /* nobody is there any more to get them */
    struct backend_events events;   /* where our parts send them: here */
    struct timespec started;
    int lock_fd; /* of the state directory: one service each */
    struct journal *journal;
    struct registry *registry;
    struct job_queue *queue;
    struct recovery *recovery;
    struct order_desk desk;
};

/* ---- folders ---- */

/*
 * One folder. Others may pass through it (QEMU runs as its own user and must reach its socket and
 * scratch files below), but not read it, whatever the umask.
 */
static int make_one_dir(const char *path, const char *option, struct rp_error *e)
{
    if (mkdir(path, 0711) == 0) {
        if (chmod(path, 0711) < 0)
            return rp_fail_errno(e, errno, "cannot set the mode of the folder '%s'", path);
    } else if (errno != EEXIST) {
        return rp_fail_errno(e, errno, "cannot make the folder '%s' (-o %s=DIR takes another)",
                             path, option);
    }
    return 0;
}

/* With those above it; `option` names the one that says where it is. */
static int make_dir(const char *path, const char *option, struct rp_error *e)
{
    char *copy = strdup(path);
    int rc = 0;

    if (!copy)
        return rp_fail_memory(e);
    for (char *slash = strchr(copy + 1, '/'); slash && rc == 0; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        rc = make_one_dir(copy, option, e);
        *slash = '/';
    }
    if (rc == 0)
        rc = make_one_dir(copy, option, e);
    free(copy);
    return rc;
}

/* Two services with one state would take each other's holds for orphans. */
static int lock_state(struct backend *backend, struct rp_error *e)
{
    char *path;

    if (asprintf(&path, "%s/lock", backend->options.state_dir) < 0)
        return rp_fail_memory(e);
    backend->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    free(path);
    if (backend->lock_fd < 0)
        return rp_fail_errno(e, errno,
                             "cannot write to the state folder '%s' (-o state=DIR takes another)",
                             backend->options.state_dir);
    if (flock(backend->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return rp_fail(e, RESULT_IN_USE,
                       "the state folder '%s' is used by another running service; mount with "
                       "another -o state=DIR, or end that one",
                       backend->options.state_dir);
    return 0;
}

static char *copy_or_null(const char *text, bool *ok)
{
    char *copy = text ? strdup(text) : NULL;

    *ok = *ok && (!text || copy);
    return copy;
}

static int copy_options(struct backend *backend, const struct backend_options *options,
                        struct rp_error *e)
{
    bool ok = true;
    char *scratch = NULL;

    backend->options = *options;
    backend->options.uri = copy_or_null(options->uri, &ok);
    backend->options.state_dir = copy_or_null(options->state_dir, &ok);
    backend->options.run_dir = copy_or_null(options->run_dir, &ok);
    if (options->scratch_dir)
        scratch = copy_or_null(options->scratch_dir, &ok);
    else if (asprintf(&scratch, "%s/scratch", options->state_dir) < 0)
        scratch = NULL;
    backend->options.scratch_dir = scratch;
    return ok && scratch ? 0 : rp_fail_memory(e);
}

/* ---- open and close ---- */

static void relay(void *opaque, uint64_t serial, unsigned topics)
{
    struct backend *backend = opaque;

    if (!backend->is_closed)
        backend->outside.changed(backend->outside.opaque, serial, topics);
}

static int open_parts(struct backend *backend, struct rp_error *e)
{
    int rc = make_dir(backend->options.state_dir, "state", e);

    if (rc == 0)
        rc = lock_state(backend, e);
    if (rc == 0)
        rc = hold_check_run_dir(backend->options.run_dir, e);
    if (rc == 0)
        rc = make_dir(backend->options.run_dir, "run", e);
    if (rc == 0)
        rc = make_dir(backend->options.scratch_dir, "scratch", e);
    if (rc == 0)
        rc = journal_open(backend->options.state_dir, &backend->journal, e);
    if (rc == 0)
        rc = job_queue_open(backend->options.jobs, backend->journal, &backend->events,
                            &backend->queue, e);
    if (rc == 0)
        rc = recover_start(backend->queue, backend->journal, &backend->recovery, e);
    if (rc == 0)
        rc = registry_open(&backend->options, &backend->events, backend->journal,
                           &backend->registry, e);
    if (rc < 0)
        return rc;
    backend->desk = (struct order_desk){
        .registry = backend->registry,
        .queue = backend->queue,
        .options = &backend->options,
        .events = backend->events,
    };
    return 0;
}

int backend_open(const struct backend_options *options, const struct backend_events *events,
                 struct backend **ret_backend, struct rp_error *e)
{
    struct backend *backend = calloc(1, sizeof *backend);
    int rc;

    if (!backend)
        return rp_fail_memory(e);
    xml_init();
    backend->lock_fd = -1;
    backend->outside = *events;
    backend->events = (struct backend_events){.changed = relay, .opaque = backend};
    clock_gettime(CLOCK_REALTIME, &backend->started);
    rc = copy_options(backend, options, e);
    if (rc == 0)
        rc = open_parts(backend, e);
    if (rc < 0) {
        backend_close(backend);
        return rc;
    }
    *ret_backend = backend;
    return 0;
}

void backend_close(struct backend *backend)
{
    bool all_ended;

    if (!backend)
        return;
    /* Jobs first: their workers use the registry. */
    all_ended = recover_stop(backend->recovery);
    all_ended &= !backend->queue || job_queue_end(backend->queue);
    registry_end(backend->registry);
    /*
     * A thread that a dead file server keeps in the kernel cannot be waited for, and would use what
     * was freed if it came back after all. The process is about to end, and takes it along.
     */
    backend->is_closed = true;
    if (!all_ended)
        return;
    job_queue_close(backend->queue);
    registry_close(backend->registry);
    journal_close(backend->journal);
    if (backend->lock_fd >= 0)
        close(backend->lock_fd);
    free((char *)backend->options.uri);
    free((char *)backend->options.state_dir);
    free((char *)backend->options.run_dir);
    free((char *)backend->options.scratch_dir);
    free(backend);
}

/* ---- the service ---- */

int backend_service_info(struct backend *backend, struct service_info *ret_info, struct rp_error *e)
{
    struct service_info info = {.started = backend->started};
    struct job_counts counts = job_count(backend->queue);
    int rc = registry_service_info(backend->registry, &info, e);

    if (rc < 0)
        return rc;
    info.jobs_queued = counts.queued;
    info.jobs_running = counts.running;
    info.jobs_ended = counts.ended;
    *ret_info = info;
    return 0;
}

void service_info_clear(struct service_info *info)
{
    free(info->uri);
    free(info->connection);
    free(info->libvirt);
    free(info->hypervisor);
    *info = (struct service_info){0};
}

const struct backend_options *backend_options_in_force(struct backend *backend)
{
    return &backend->options;
}

/* ---- directories and snapshots ---- */

int backend_stat(struct backend *backend, uint64_t serial, struct child *ret_child)
{
    switch (rp_serial_kind(serial)) {
    case KIND_VM:
    case KIND_REFPOINT:
        return registry_stat(backend->registry, serial, ret_child);
    case KIND_JOB:
        return job_stat(backend->queue, serial, ret_child);
    case KIND_DISK:
        return registry_disk_stat(backend->registry, serial, ret_child);
    case KIND_SERVICE:
        break;
    }
    *ret_child = (struct child){.changed = backend->started};
    return 0;
}

int backend_child(struct backend *backend, uint64_t parent, enum rp_kind kind, const char *name,
                  uint64_t *ret_serial)
{
    if (kind == KIND_JOB)
        return job_find(backend->queue, name, ret_serial);
    return kind == KIND_DISK ? registry_disk_child(backend->registry, parent, name, ret_serial)
                             : registry_child(backend->registry, parent, name, ret_serial);
}

size_t backend_children(struct backend *backend, uint64_t parent, enum rp_kind kind, uint64_t after,
                        struct child *ret_children, size_t max)
{
    struct registry *registry = backend->registry;

    if (kind == KIND_JOB)
        return job_list(backend->queue, after, ret_children, max);
    return kind == KIND_DISK ? registry_disk_children(registry, parent, after, ret_children, max)
                             : registry_children(registry, parent, after, ret_children, max);
}

bool backend_is_stale(struct backend *backend, uint64_t parent, enum rp_kind kind)
{
    if (kind == KIND_DISK)
        return registry_disk_is_stale(backend->registry, parent);
    return kind != KIND_JOB && registry_is_stale(backend->registry, parent);
}

void backend_refresh(struct backend *backend, uint64_t parent, enum rp_kind kind,
                     unsigned timeout_ms)
{
    if (kind == KIND_DISK)
        registry_disk_refresh(backend->registry, parent, timeout_ms);
    else if (kind != KIND_JOB)
        registry_refresh(backend->registry, parent, timeout_ms);
}

int backend_vm_info(struct backend *backend, uint64_t vm, struct vm_info *ret_info,
                    struct rp_error *e)
{
    registry_look_at_vm(backend->registry, vm);
    return registry_vm_info(backend->registry, vm, ret_info, e);
}

int backend_vm_xml(struct backend *backend, uint64_t vm, char **ret_xml, struct rp_error *e)
{
    registry_look_at_vm(backend->registry, vm);
    return registry_vm_xml(backend->registry, vm, ret_xml, e);
}

int backend_refpoint_info(struct backend *backend, uint64_t refpoint,
                          struct refpoint_info *ret_info, struct rp_error *e)
{
    return registry_refpoint_info(backend->registry, refpoint, ret_info, e);
}

int backend_refpoint_xml(struct backend *backend, uint64_t refpoint, char **ret_xml,
                         struct rp_error *e)
{
    return registry_refpoint_xml(backend->registry, refpoint, ret_xml, e);
}

bool backend_refpoint_is_held(struct backend *backend, uint64_t refpoint)
{
    return registry_is_held(backend->registry, refpoint);
}

int backend_disk_info(struct backend *backend, uint64_t disk, struct disk_info *ret_info,
                      struct rp_error *e)
{
    return registry_disk_info(backend->registry, disk, ret_info, e);
}

int backend_disk_open(struct backend *backend, uint64_t serial, bool data, struct disk **ret_disk,
                      struct rp_error *e)
{
    return registry_disk_open(backend->registry, serial, data, ret_disk, e);
}

/* ---- jobs ---- */

int backend_job_info(struct backend *backend, uint64_t serial, struct job_info *ret_info,
                     struct rp_error *e)
{
    return rp_serial_kind(serial) == KIND_JOB ? job_get_info(backend->queue, serial, ret_info, e)
                                              : order_get_info(&backend->desk, serial, ret_info, e);
}

int backend_job_of(struct backend *backend, uint64_t serial, uint64_t *ret_job)
{
    if (rp_serial_kind(serial) != KIND_JOB)
        return order_get_job(&backend->desk, serial, ret_job);
    *ret_job = serial;
    return 0;
}

int backend_job_state(struct backend *backend, uint64_t serial, enum job_state *ret_state,
                      int *ret_result)
{
    return rp_serial_kind(serial) == KIND_JOB
               ? job_get_state(backend->queue, serial, ret_state, ret_result)
               : order_get_state(&backend->desk, serial, ret_state, ret_result);
}

static bool is_receiving(struct backend *backend, uint64_t owner)
{
    enum job_state state;
    int result;

    return order_get_state(&backend->desk, owner, &state, &result) == 0 && state == JOB_RECEIVING;
}

int backend_job_cancel(struct backend *backend, uint64_t serial, struct rp_error *e)
{
    if (rp_serial_kind(serial) != KIND_JOB) {
        if (is_receiving(backend, serial)) {
            registry_wait_received(backend->registry, serial, RECEIVED_TIMEOUT_MS);
            if (is_receiving(backend, serial))
                return rp_fail(e, RESULT_IN_USE, "its settings are still being written");
        }
        serial = job_last_of(backend->queue, serial);
    }
    return serial ? job_cancel(backend->queue, serial, e) : 0;
}

/* ---- reference points ---- */

int backend_refpoint_create(struct backend *backend, uint64_t vm, const char *name,
                            const struct caller *caller __attribute__((unused)),
                            uint64_t *ret_refpoint, struct rp_error *e)
{
    const struct registry_spec spec = {.name = name};

    return registry_create(backend->registry, vm, &spec, ret_refpoint, e);
}

int backend_refpoint_delete(struct backend *backend, uint64_t refpoint, struct rp_error *e)
{
    enum job_state state;
    int result;

    registry_wait_received(backend->registry, refpoint, RECEIVED_TIMEOUT_MS);
    if (order_get_state(&backend->desk, refpoint, &state, &result) == 0 && state != JOB_RECEIVING &&
        !job_state_has_ended(state)) {
        result = rp_fail(e, RESULT_IN_USE, "the reference point is being exported");
        registry_refused(backend->registry, refpoint, e);
        return result;
    }
    return registry_delete(backend->registry, refpoint, e);
}

int backend_hold_release(struct backend *backend, uint64_t refpoint, struct rp_error *e)
{
    return registry_release(backend->registry, refpoint, e);
}

int backend_create_template(struct backend *backend, uint64_t vm, FILE *out, struct rp_error *e)
{
    return create_print_template(backend->registry, vm, out, e);
}

int backend_create_check(struct backend *backend, uint64_t vm, const char *text, size_t length,
                         enum text_state state, unsigned *ret_settings, struct rp_error *e)
{
    return create_check(backend->registry, vm, text, length, state == TEXT_WHOLE, ret_settings, e);
}

void backend_create_receiving(struct backend *backend, uint64_t vm, int delta)
{
    registry_creating(backend->registry, vm, delta);
}

void backend_create_refused(struct backend *backend, uint64_t vm, const struct rp_error *e)
{
    registry_refused(backend->registry, vm, e);
}

int backend_create_start(struct backend *backend, uint64_t vm, const char *text, size_t length,
                         uint64_t *ret_refpoint, struct rp_error *e)
{
    return create_start(backend->registry, vm, text, length, ret_refpoint, e);
}

/* ---- exports ---- */

int backend_export_template(struct backend *backend, uint64_t owner, FILE *out, struct rp_error *e)
{
    return order_print_template(&backend->desk, owner, out, e);
}

int backend_export_may_begin(struct backend *backend, uint64_t owner, struct rp_error *e)
{
    return order_may_begin(&backend->desk, owner, e);
}

void backend_export_receiving(struct backend *backend, uint64_t owner, int delta)
{
    order_receiving(&backend->desk, owner, delta);
}

int backend_export_check(struct backend *backend, uint64_t owner, const char *text, size_t length,
                         enum text_state state, const struct caller *caller, unsigned *ret_settings,
                         struct rp_error *e)
{
    return order_check(&backend->desk, owner, text, length, state, caller, ret_settings, e);
}

void backend_export_refused(struct backend *backend, uint64_t owner, const struct rp_error *e)
{
    order_refused(&backend->desk, owner, e);
}

int backend_export_start(struct backend *backend, uint64_t owner, const char *text, size_t length,
                         const struct caller *caller, uint64_t *ret_job, struct rp_error *e)
{
    return order_start(&backend->desk, owner, text, length, caller, ret_job, e);
}

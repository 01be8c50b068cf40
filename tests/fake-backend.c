// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All of backend.h in memory: no libvirt, no disk, no network. Linked with fs/ it makes the program
 * refpointfs-fake, on which shell tests meet every refusal and every result.
 *
 * What it pretends follows from its URI, fake:///?name=value&...
 *
 *   vms=N           machines vm1 ... vmN (2)
 *   refpoints=N     reference points r1 ... rN of each, bare (2)
 *   job_ms=N        how long a job takes (200)
 *   slow_ms=N       how long mkdir, rmdir, create and writing to hold take (0), and, with
 *                   stale=1, a refresh
 *   check_ms=N      how long the check of a text takes (0)
 *   stale=1         lists are always older than a second
 *   read_ms=N       how long a read takes in the first MiB of a held disk (0)
 *   unmapped=1      what changed on a held disk never becomes known
 *   open=NUMBER     backend_open() fails with that result
 *   connected=0     service/info says that there is no connection
 *
 * and from what is asked of it:
 *
 *   mkdir refpoints/result-NUMBER        fails with that result
 *   mkdir refpoints/vanish               the VM goes away, with all it has
 *   Name=result-NUMBER in create         the same, as soon as the line is complete
 *   rmdir refpoints/keep-NUMBER          fails with that result (mkdir of it works)
 *
 * and from names in an ExportDirectory, which nobody looks at otherwise:
 *
 *   /refuse-NUMBER                       refused with that result as soon as the line is complete
 *   /late-NUMBER                         refused with it only when the whole text is judged
 *   /result-NUMBER                       the job ends with that result
 *   /ms-N                                the job takes that long
 *
 * A held reference point has one disk, vda, of DISK_BYTES: each eight bytes of its data are their
 * own offset; the second and the third MiB read as zeros.
 *
 * Settings are parsed and printed by the backend's own settings.c.
 *
 * One lock for everything, never held while an event is sent or something pretends to be slow. One
 * thread, the clock, moves jobs and ends holds.
 */
#include "../backend/backend.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../backend/settings.h"

#define TICK_MS         20
#define JOB_BYTES       (UINT64_C(1) << 30)
#define NAME_MAX_LENGTH 200

#define MIB        (UINT64_C(1) << 20)
#define DISK_BYTES (4 * MIB + 512)
#define HOLE_BYTES MIB
#define HOLE_END   (3 * MIB)
#define DISK_MAP   "0 1048576 data\n2097152 65536 zero\n3145728 1049088 data\n"

struct list {
    uint64_t *serials;
    size_t count, room;
};

/* A VM, reference point or job; members of the other kinds stay zero. */
struct object {
    uint64_t serial, parent;
    char name[RP_NAME_SIZE];
    struct timespec changed;
    bool gone;
    struct list children;         /* of a VM: reference points; of one that is held: its disk */
    struct rp_error verb_refusal; /* of a VM: mkdir's and create's */
    int creating;                 /* of a VM: texts for create in hand; lists wait for them */

    bool held;
    long long hold_ends_ms;
    char *last_export;

    /* An owner's last job, and what is being said about the next. */
    uint64_t job;
    int receiving;
    struct rp_error refusal, newest_refusal; /* the first goes when a job starts */

    /* Of a job. */
    uint64_t owner, id;
    enum job_state state;
    int result, wanted_result;
    long long duration_ms, started_ms;
    bool cancel_requested, keep_hold;
    struct timespec submitted, started, ended;
    uid_t caller_uid;
    char *directory, *settings;
};

struct event {
    uint64_t serial;
    unsigned topics;
};

struct backend {
    struct backend_options options;
    struct backend_events events;
    char *uri, *state_dir, *run_dir, *scratch_dir;
    struct timespec started;
    uint64_t slow_ms, check_ms, job_ms, read_ms;
    bool stale, connected, unmapped;

    /* Protects everything below. */
    pthread_mutex_t lock;
    pthread_cond_t wake, created;
    bool closing;
    pthread_t clock;
    struct object **objects; /* by serial >> RP_KIND_BITS; [0] is unused */
    size_t nobjects, room;
    struct list vms, jobs;
    uint64_t last_job_id;
    struct disk_read *reads; /* that pretend to be slow */
};

/* One opening of a held disk. */
struct disk {
    struct backend *backend;
    uint64_t serial;
};

/* ---- small things ---- */

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static struct timespec monotonic(long long ms)
{
    return (struct timespec){(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
}

static struct timespec now_wall(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

static void pretend_slow(uint64_t ms)
{
    struct timespec pause = monotonic((long long)ms);

    if (ms > 0)
        nanosleep(&pause, NULL);
}

static char *copy(const char *text)
{
    return strdup(text ? text : "");
}

static uint64_t uri_number(const char *uri, const char *name, uint64_t otherwise)
{
    size_t length = strlen(name);

    for (const char *s = uri ? strpbrk(uri, "?&") : NULL; s; s = strpbrk(s + 1, "?&"))
        if (strncmp(s + 1, name, length) == 0 && s[1 + length] == '=')
            return strtoull(s + length + 2, NULL, 10);
    return otherwise;
}

/* The result in "prefixNUMBER", 0 when the text does not begin so. */
static int magic_result(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(text, prefix, length) == 0 ? (int)strtol(text + length, NULL, 10) : 0;
}

static void send(struct backend *backend, uint64_t serial, unsigned topics)
{
    if (backend->events.changed)
        backend->events.changed(backend->events.opaque, serial, topics);
}

/* ---- objects ---- */

static void list_add(struct list *list, uint64_t serial)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 8;
        list->serials = realloc(list->serials, list->room * sizeof *list->serials);
        if (!list->serials)
            abort();
    }
    list->serials[list->count++] = serial;
}

static void list_remove(struct list *list, uint64_t serial)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->serials[i] == serial) {
            memmove(&list->serials[i], &list->serials[i + 1],
                    (list->count - i - 1) * sizeof *list->serials);
            list->count--;
            return;
        }
    }
}

static struct object *find_locked(struct backend *backend, uint64_t serial)
{
    uint64_t index = serial >> RP_KIND_BITS;

    if (index == 0 || index >= backend->nobjects || backend->objects[index]->serial != serial ||
        backend->objects[index]->gone)
        return NULL;
    return backend->objects[index];
}

static int no_object(struct rp_error *e)
{
    return rp_fail_errno(e, ENOENT, "the object is gone");
}

static struct list *children_locked(struct backend *backend, uint64_t parent, enum rp_kind kind)
{
    struct object *object;

    if (parent == 0)
        return kind == KIND_VM ? &backend->vms : kind == KIND_JOB ? &backend->jobs : NULL;
    object = kind == KIND_REFPOINT || kind == KIND_DISK ? find_locked(backend, parent) : NULL;
    return object ? &object->children : NULL;
}

static struct object *add_locked(struct backend *backend, uint64_t parent, enum rp_kind kind,
                                 const char *name)
{
    struct object *object = calloc(1, sizeof *object);

    if (backend->nobjects == backend->room) {
        backend->room = backend->room ? backend->room * 2 : 64;
        backend->objects = realloc(backend->objects, backend->room * sizeof *backend->objects);
    }
    if (!object || !backend->objects)
        abort();
    object->serial = (uint64_t)backend->nobjects << RP_KIND_BITS | kind;
    object->parent = parent;
    object->changed = now_wall();
    snprintf(object->name, sizeof object->name, "%s", name);
    backend->objects[backend->nobjects++] = object;
    list_add(children_locked(backend, parent, kind), object->serial);
    return object;
}

static struct object *child_locked(struct backend *backend, uint64_t parent, enum rp_kind kind,
                                   const char *name)
{
    struct list *list = children_locked(backend, parent, kind);

    for (size_t i = 0; list && i < list->count; i++) {
        struct object *object = find_locked(backend, list->serials[i]);
        if (object && strcmp(object->name, name) == 0)
            return object;
    }
    return NULL;
}

static void set_held_locked(struct backend *backend, struct object *refpoint, bool held)
{
    if (refpoint->held == held)
        return;
    refpoint->held = held;
    if (held)
        add_locked(backend, refpoint->serial, KIND_DISK, "vda");
    while (!held && refpoint->children.count > 0) {
        find_locked(backend, refpoint->children.serials[0])->gone = true;
        list_remove(&refpoint->children, refpoint->children.serials[0]);
    }
}

/* ---- jobs, moved by the clock ---- */

static bool is_active(const struct object *job)
{
    return !job_state_has_ended(job->state);
}

/* The VM that can be exported under this serial, or whose reference point can. */
static uint64_t vm_of_locked(struct backend *backend, uint64_t owner)
{
    struct object *object = find_locked(backend, owner);

    return object && rp_serial_kind(owner) == KIND_REFPOINT ? object->parent : owner;
}

/* The job that keeps the owner's VM in use. */
static struct object *active_job_locked(struct backend *backend, uint64_t owner)
{
    uint64_t vm = vm_of_locked(backend, owner);

    for (size_t i = 0; i < backend->jobs.count; i++) {
        struct object *job = find_locked(backend, backend->jobs.serials[i]);
        if (job && is_active(job) && vm_of_locked(backend, job->owner) == vm)
            return job;
    }
    return NULL;
}

static void end_job_locked(struct backend *backend, struct object *job, enum job_state state,
                           int result)
{
    struct object *owner = find_locked(backend, job->owner);

    job->state = state;
    job->result = result;
    job->ended = job->changed = now_wall();
    if (owner && state == JOB_COMPLETED) {
        set_held_locked(backend, owner, owner->held && job->keep_hold);
        free(owner->last_export);
        owner->last_export = copy(job->directory);
    }
}

/* True when something can be told about the job. */
static bool move_job_locked(struct backend *backend, struct object *job, size_t *running)
{
    if (job->state == JOB_NEW && *running < backend->options.jobs) {
        job->state = JOB_RUNNING;
        job->started = job->changed = now_wall();
        job->started_ms = now_ms();
    } else if (job->state != JOB_RUNNING) {
        return false;
    }
    (*running)++;
    if (job->cancel_requested)
        end_job_locked(backend, job, JOB_TERMINATED, RESULT_FAILED);
    else if (now_ms() - job->started_ms >= job->duration_ms)
        end_job_locked(backend, job, job->wanted_result ? JOB_EXCEPTION : JOB_COMPLETED,
                       job->wanted_result);
    return true;
}

#define EVENTS_MAX 128

/* Whoever is woken by one of them may look at the others at once. */
static void send_all(struct backend *backend, const struct event *events, size_t n)
{
    for (size_t i = 0; i < n; i++)
        send(backend, events[i].serial, 0);
    for (size_t i = 0; i < n; i++)
        send(backend, events[i].serial, events[i].topics);
}

static void add_event(struct event *events, size_t *n, uint64_t serial, unsigned topics)
{
    if (*n < EVENTS_MAX)
        events[(*n)++] = (struct event){serial, topics};
}

/* One tick; *ret_busy tells whether another one will be needed. */
static size_t tick_locked(struct backend *backend, struct event *events, bool *ret_busy)
{
    size_t n = 0, running = 0;

    *ret_busy = false;
    for (size_t i = 0; i < backend->jobs.count && n + 3 < EVENTS_MAX; i++) {
        struct object *job = find_locked(backend, backend->jobs.serials[i]);
        if (!job || !is_active(job))
            continue;
        *ret_busy = true;
        if (move_job_locked(backend, job, &running)) {
            add_event(events, &n, job->serial, TOPIC_JOB);
            add_event(events, &n, job->owner,
                      is_active(job) ? TOPIC_JOB : TOPIC_JOB | TOPIC_HOLD | TOPIC_INFO);
            if (!is_active(job))
                add_event(events, &n, vm_of_locked(backend, job->owner), TOPIC_INFO);
        }
    }
    for (size_t i = 1; i < backend->nobjects && n + 2 < EVENTS_MAX; i++) {
        struct object *object = backend->objects[i];
        if (object->gone || !object->held)
            continue;
        *ret_busy = true;
        if (now_ms() >= object->hold_ends_ms && !active_job_locked(backend, object->serial)) {
            set_held_locked(backend, object, false);
            add_event(events, &n, object->serial, TOPIC_HOLD | TOPIC_INFO);
            add_event(events, &n, object->parent, TOPIC_INFO);
        }
    }
    return n;
}

/*
 * Reads whose time has come, or whose disk has gone or is being closed, off the list. Their disk
 * may be closed before they are answered: all they keep of it is an owner, or none when it has
 * gone.
 */
static struct disk_read *take_reads_locked(struct backend *backend, const struct disk *closed)
{
    struct disk_read **link = &backend->reads, *due = NULL;

    while (*link) {
        struct disk_read *read = *link;
        const struct disk *disk = read->owner;
        bool gone = disk == closed || !find_locked(backend, disk->serial);

        if (!gone && now_ms() < *(long long *)read->buffer) {
            link = &read->next;
            continue;
        }
        if (gone)
            read->owner = NULL;
        *link = read->next;
        read->next = due;
        due = read;
    }
    return due;
}

static void wait_for_tick_locked(struct backend *backend, bool busy)
{
    struct timespec until = monotonic(now_ms() + TICK_MS);

    if (busy)
        pthread_cond_timedwait(&backend->wake, &backend->lock, &until);
    else
        pthread_cond_wait(&backend->wake, &backend->lock);
}

static bool is_in_hole(uint64_t offset)
{
    return offset >= HOLE_BYTES && offset < HOLE_END;
}

static void fill(const struct disk_read *read)
{
    unsigned char *bytes = read->buffer;

    for (size_t i = 0; i < read->length; i++) {
        uint64_t at = read->offset + i, word = at & ~UINT64_C(7);
        bytes[i] = is_in_hole(at) ? 0 : (unsigned char)(word >> 8 * (at & 7));
    }
}

static void answer_read(struct disk_read *read)
{
    bool gone = !read->owner;

    if (!gone)
        fill(read);
    read->done(read, gone ? ENODEV : 0);
}

static void answer_reads(struct disk_read *reads)
{
    while (reads) {
        struct disk_read *read = reads;
        reads = read->next;
        answer_read(read);
    }
}

static void *run_clock(void *opaque)
{
    struct backend *backend = opaque;
    struct event events[EVENTS_MAX];
    bool busy;

    pthread_mutex_lock(&backend->lock);
    while (!backend->closing) {
        size_t n = tick_locked(backend, events, &busy);
        struct disk_read *reads = take_reads_locked(backend, NULL);
        if (n > 0 || reads) {
            pthread_mutex_unlock(&backend->lock);
            answer_reads(reads);
            send_all(backend, events, n);
            pthread_mutex_lock(&backend->lock);
        }
        if (!backend->closing)
            wait_for_tick_locked(backend, busy || backend->reads);
    }
    pthread_mutex_unlock(&backend->lock);
    return NULL;
}

/* ---- opening and closing ---- */

static void populate(struct backend *backend)
{
    uint64_t vms = uri_number(backend->uri, "vms", 2);
    uint64_t refpoints = uri_number(backend->uri, "refpoints", 2);
    char name[32];

    for (uint64_t v = 1; v <= vms; v++) {
        snprintf(name, sizeof name, "vm%" PRIu64, v);
        struct object *vm = add_locked(backend, 0, KIND_VM, name);
        for (uint64_t r = 1; r <= refpoints; r++) {
            snprintf(name, sizeof name, "r%" PRIu64, r);
            add_locked(backend, vm->serial, KIND_REFPOINT, name);
        }
    }
}

static void use_options(struct backend *backend, const struct backend_options *options)
{
    backend->uri = copy(options->uri);
    backend->state_dir = copy(options->state_dir);
    backend->run_dir = copy(options->run_dir);
    backend->scratch_dir = copy(options->scratch_dir);
    backend->options = *options;
    backend->options.uri = backend->uri;
    backend->options.state_dir = backend->state_dir;
    backend->options.run_dir = backend->run_dir;
    backend->options.scratch_dir = backend->scratch_dir;
    backend->slow_ms = uri_number(backend->uri, "slow_ms", 0);
    backend->check_ms = uri_number(backend->uri, "check_ms", 0);
    backend->job_ms = uri_number(backend->uri, "job_ms", 200);
    backend->read_ms = uri_number(backend->uri, "read_ms", 0);
    backend->unmapped = uri_number(backend->uri, "unmapped", 0);
    backend->stale = uri_number(backend->uri, "stale", 0);
    backend->connected = uri_number(backend->uri, "connected", 1);
}

int backend_open(const struct backend_options *options, const struct backend_events *events,
                 struct backend **ret_backend, struct rp_error *e)
{
    int result = (int)uri_number(options->uri, "open", 0);
    struct backend *backend;
    pthread_condattr_t attr;

    if (result)
        return rp_fail(e, result, "the service was asked not to open");
    backend = calloc(1, sizeof *backend);
    if (!backend)
        return rp_fail_memory(e);
    use_options(backend, options);
    backend->events = *events;
    backend->started = now_wall();
    pthread_mutex_init(&backend->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&backend->wake, &attr);
    pthread_cond_init(&backend->created, &attr);
    pthread_condattr_destroy(&attr);
    backend->objects = calloc(64, sizeof *backend->objects);
    backend->room = 64;
    backend->nobjects = 1; /* index 0 is the service */
    populate(backend);
    pthread_create(&backend->clock, NULL, run_clock, backend);
    *ret_backend = backend;
    return 0;
}

void backend_close(struct backend *backend)
{
    if (!backend)
        return;
    pthread_mutex_lock(&backend->lock);
    backend->closing = true;
    pthread_cond_signal(&backend->wake);
    pthread_mutex_unlock(&backend->lock);
    pthread_join(backend->clock, NULL);
    for (size_t i = 1; i < backend->nobjects; i++) {
        free(backend->objects[i]->children.serials);
        free(backend->objects[i]->last_export);
        free(backend->objects[i]->directory);
        free(backend->objects[i]->settings);
        free(backend->objects[i]);
    }
    free(backend->objects);
    free(backend->vms.serials);
    free(backend->jobs.serials);
    free(backend->uri);
    free(backend->state_dir);
    free(backend->run_dir);
    free(backend->scratch_dir);
    pthread_cond_destroy(&backend->wake);
    pthread_cond_destroy(&backend->created);
    pthread_mutex_destroy(&backend->lock);
    free(backend);
}

/* ---- directories ---- */

static void describe(const struct object *object, struct child *ret_child)
{
    ret_child->serial = object->serial;
    ret_child->changed = object->changed;
    memcpy(ret_child->name, object->name, sizeof ret_child->name);
}

int backend_stat(struct backend *backend, uint64_t serial, struct child *ret_child)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, serial);
    if (object)
        describe(object, ret_child);
    pthread_mutex_unlock(&backend->lock);
    return object ? 0 : -ENOENT;
}

int backend_child(struct backend *backend, uint64_t parent, enum rp_kind kind, const char *name,
                  uint64_t *ret_serial)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = child_locked(backend, parent, kind, name);
    if (object)
        *ret_serial = object->serial;
    pthread_mutex_unlock(&backend->lock);
    return object ? 0 : -ENOENT;
}

size_t backend_children(struct backend *backend, uint64_t parent, enum rp_kind kind, uint64_t after,
                        struct child *ret_children, size_t max)
{
    size_t n = 0;

    pthread_mutex_lock(&backend->lock);
    struct list *list = children_locked(backend, parent, kind);
    for (size_t i = 0; list && i < list->count && n < max; i++)
        if (list->serials[i] > after)
            describe(find_locked(backend, list->serials[i]), &ret_children[n++]);
    pthread_mutex_unlock(&backend->lock);
    return n;
}

static bool is_creating_locked(struct backend *backend, uint64_t vm)
{
    struct object *object = find_locked(backend, vm);

    return object && object->creating > 0;
}

bool backend_is_stale(struct backend *backend, uint64_t parent, enum rp_kind kind)
{
    bool creating;

    if (kind != KIND_REFPOINT)
        return false;
    pthread_mutex_lock(&backend->lock);
    creating = is_creating_locked(backend, parent);
    pthread_mutex_unlock(&backend->lock);
    return creating || backend->stale;
}

void backend_refresh(struct backend *backend, uint64_t parent, enum rp_kind kind,
                     unsigned timeout_ms)
{
    struct timespec until = monotonic(now_ms() + timeout_ms);

    (void)kind;
    if (backend->stale)
        pretend_slow(backend->slow_ms < timeout_ms ? backend->slow_ms : timeout_ms);
    pthread_mutex_lock(&backend->lock);
    while (is_creating_locked(backend, parent))
        if (pthread_cond_timedwait(&backend->created, &backend->lock, &until) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&backend->lock);
}

/* ---- snapshots ---- */

static void count_locked(struct backend *backend, struct service_info *info)
{
    info->vms = backend->vms.count;
    for (size_t i = 1; i < backend->nobjects; i++) {
        const struct object *object = backend->objects[i];
        if (object->gone)
            continue;
        info->refpoints += rp_serial_kind(object->serial) == KIND_REFPOINT;
        info->holds += object->held;
        if (rp_serial_kind(object->serial) == KIND_JOB) {
            info->jobs_queued += object->state == JOB_NEW;
            info->jobs_running += object->state == JOB_RUNNING;
            info->jobs_ended += !is_active(object);
        }
    }
}

int backend_service_info(struct backend *backend, struct service_info *ret_info, struct rp_error *e)
{
    struct service_info info = {
        .uri = copy(backend->uri),
        .connected = backend->connected,
        .connection = copy(backend->connected ? "connected" : "there is no hypervisor"),
        .libvirt = copy("0.0.0"),
        .hypervisor = copy("fake"),
        .can_hold = true,
        .started = backend->started,
    };

    (void)e;
    pthread_mutex_lock(&backend->lock);
    count_locked(backend, &info);
    pthread_mutex_unlock(&backend->lock);
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

static char *refusal_text(const struct rp_error *refusal)
{
    char *text = NULL;

    if (refusal->err == 0)
        return copy("");
    if (asprintf(&text, "%d %s", refusal->result, refusal->message) < 0)
        abort();
    return text;
}

static char *held_name_locked(struct backend *backend, const struct object *vm)
{
    for (size_t i = 0; i < vm->children.count; i++) {
        struct object *refpoint = find_locked(backend, vm->children.serials[i]);
        if (refpoint->held)
            return copy(refpoint->name);
    }
    return copy("");
}

static void fill_vm_locked(struct backend *backend, const struct object *vm, struct vm_info *info)
{
    *info = (struct vm_info){
        .name = copy(vm->name),
        .uuid = copy("00000000-0000-4000-8000-000000000001"),
        .state = "running",
        .persistent = true,
        .held = held_name_locked(backend, vm),
        .last_refusal = refusal_text(&vm->verb_refusal),
        .ndisks = 2,
        .disks = calloc(2, sizeof *info->disks),
        .changed = vm->changed,
    };
    /* A name that tries to forge a line. */
    info->disks[0] = (struct vm_disk){.target = copy("vda"),
                                      .source = copy("/images/line\nbreak.qcow2"),
                                      .format = copy("qcow2"),
                                      .size_bytes = JOB_BYTES,
                                      .tracked = true,
                                      .why_not = copy("")};
    info->disks[1] = (struct vm_disk){.target = copy("vdb"),
                                      .source = copy("/images/b.raw"),
                                      .format = copy("raw"),
                                      .why_not = copy("raw images have no bitmaps")};
}

int backend_vm_info(struct backend *backend, uint64_t vm, struct vm_info *ret_info,
                    struct rp_error *e)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = rp_serial_kind(vm) == KIND_VM ? find_locked(backend, vm) : NULL;
    if (object)
        fill_vm_locked(backend, object, ret_info);
    pthread_mutex_unlock(&backend->lock);
    return object ? 0 : no_object(e);
}

void vm_info_clear(struct vm_info *info)
{
    for (size_t i = 0; i < info->ndisks; i++) {
        free(info->disks[i].target);
        free(info->disks[i].source);
        free(info->disks[i].format);
        free(info->disks[i].why_not);
    }
    free(info->disks);
    free(info->name);
    free(info->uuid);
    free(info->held);
    free(info->last_refusal);
    *info = (struct vm_info){0};
}

static int make_xml(struct backend *backend, uint64_t serial, const char *element, char **ret_xml,
                    struct rp_error *e)
{
    struct child object;

    if (backend_stat(backend, serial, &object) < 0)
        return no_object(e);
    if (asprintf(ret_xml, "<%s>\n  <name>%s</name>\n</%s>\n", element, object.name, element) < 0)
        return rp_fail_memory(e);
    return 0;
}

int backend_vm_xml(struct backend *backend, uint64_t vm, char **ret_xml, struct rp_error *e)
{
    return make_xml(backend, vm, "domain", ret_xml, e);
}

int backend_refpoint_xml(struct backend *backend, uint64_t refpoint, char **ret_xml,
                         struct rp_error *e)
{
    return make_xml(backend, refpoint, "domaincheckpoint", ret_xml, e);
}

static void fill_refpoint_locked(struct backend *backend, const struct object *refpoint,
                                 struct refpoint_info *info)
{
    struct object *vm = find_locked(backend, refpoint->parent);

    *info = (struct refpoint_info){
        .name = copy(refpoint->name),
        .vm = copy(vm ? vm->name : ""),
        .parent = copy(""),
        .created = refpoint->changed,
        .consistency_level = 2,
        .held = refpoint->held,
        .ndisks = 1,
        .disks = calloc(1, sizeof *info->disks),
        .last_export = copy(refpoint->last_export),
    };
    if (asprintf(&info->instance_id, "fake:%s/%s", info->vm, info->name) < 0)
        abort();
    if (refpoint->held) {
        info->hold_expires = now_wall();
        info->hold_expires.tv_sec += (refpoint->hold_ends_ms - now_ms()) / 1000;
    }
    info->disks[0] = (struct refpoint_disk){.target = copy("vda"),
                                            .health = HEALTH_OK,
                                            .has_changed_bytes = true,
                                            .changed_bytes = 65536,
                                            .base = copy(""),
                                            .why_full = copy("")};
}

int backend_refpoint_info(struct backend *backend, uint64_t refpoint,
                          struct refpoint_info *ret_info, struct rp_error *e)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = rp_serial_kind(refpoint) == KIND_REFPOINT ? find_locked(backend, refpoint) : NULL;
    if (object)
        fill_refpoint_locked(backend, object, ret_info);
    pthread_mutex_unlock(&backend->lock);
    return object ? 0 : no_object(e);
}

void refpoint_info_clear(struct refpoint_info *info)
{
    for (size_t i = 0; i < info->ndisks; i++) {
        free(info->disks[i].target);
        free(info->disks[i].base);
        free(info->disks[i].why_full);
    }
    free(info->disks);
    free(info->name);
    free(info->vm);
    free(info->instance_id);
    free(info->parent);
    free(info->last_export);
    *info = (struct refpoint_info){0};
}

bool backend_refpoint_is_held(struct backend *backend, uint64_t refpoint)
{
    struct object *object;
    bool held;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, refpoint);
    held = object && object->held;
    pthread_mutex_unlock(&backend->lock);
    return held;
}

static bool is_receiving(const struct object *object)
{
    return object->receiving > 0;
}

/* What `serial` stands for now: a job to show, or NULL and the state and result without one. */
static struct object *shown_job_locked(struct backend *backend, const struct object *object,
                                       enum job_state *ret_state, int *ret_result)
{
    struct object *job;

    if (rp_serial_kind(object->serial) == KIND_JOB)
        job = find_locked(backend, object->serial);
    else
        job = find_locked(backend, object->job);
    if (job && (is_active(job) || rp_serial_kind(object->serial) == KIND_JOB ||
                (!is_receiving(object) && object->refusal.err == 0))) {
        *ret_state = job->state;
        *ret_result = is_active(job) ? RESULT_JOB_STARTED : job->result;
        return job;
    }
    *ret_state = is_receiving(object)  ? JOB_RECEIVING
                 : object->refusal.err ? JOB_EXCEPTION
                                       : JOB_NONE;
    *ret_result = is_receiving(object) ? RESULT_JOB_STARTED : object->refusal.result;
    return NULL;
}

static void fill_job(const struct object *job, struct job_info *info)
{
    info->id = job->id;
    info->bytes_total = JOB_BYTES;
    if (job->state == JOB_COMPLETED)
        info->bytes_done = JOB_BYTES;
    else if (job->state == JOB_RUNNING && job->duration_ms > 0)
        info->bytes_done =
            JOB_BYTES / (uint64_t)job->duration_ms * (uint64_t)(now_ms() - job->started_ms);
    if (info->bytes_done > JOB_BYTES)
        info->bytes_done = JOB_BYTES;
    info->rate_bytes = job->duration_ms > 0 ? JOB_BYTES * 1000 / (uint64_t)job->duration_ms : 0;
    info->moment = job->submitted;
    info->exact = EXACT_YES;
    info->submitted = job->submitted;
    info->started = job->started;
    info->ended = job->ended;
    info->caller_uid = job->caller_uid;
    info->has_caller = true;
    info->cancel_requested = job->cancel_requested;
}

static const char *error_of(const struct object *object, const struct object *job)
{
    if (!job)
        return is_receiving(object) ? "" : object->refusal.message;
    if (job->state == JOB_TERMINATED)
        return "cancelled";
    return job->state == JOB_EXCEPTION ? rp_result_row(job->result)->meaning : "";
}

static void fill_info_locked(struct backend *backend, const struct object *object,
                             struct job_info *info)
{
    *info = (struct job_info){0};
    struct object *job = shown_job_locked(backend, object, &info->state, &info->result);
    const struct object *owner = object;

    if (rp_serial_kind(object->serial) == KIND_JOB)
        owner = find_locked(backend, object->owner);
    if (job)
        fill_job(job, info);
    struct object *vm = owner ? find_locked(backend, vm_of_locked(backend, owner->serial)) : NULL;
    info->has_result = info->state != JOB_NONE;
    info->vm = copy(vm ? vm->name : "");
    info->refpoint = copy(owner && owner != vm ? owner->name : "");
    info->error = copy(error_of(object, job));
    info->export_directory = copy(job ? job->directory : "");
    info->settings = copy(job ? job->settings : "");
    info->last_refusal = refusal_text(owner ? &owner->newest_refusal : &object->newest_refusal);
}

int backend_job_info(struct backend *backend, uint64_t serial, struct job_info *ret_info,
                     struct rp_error *e)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, serial);
    if (object)
        fill_info_locked(backend, object, ret_info);
    pthread_mutex_unlock(&backend->lock);
    return object ? 0 : no_object(e);
}

void job_info_clear(struct job_info *info)
{
    free(info->vm);
    free(info->refpoint);
    free(info->error);
    free(info->export_directory);
    free(info->settings);
    free(info->last_refusal);
    *info = (struct job_info){0};
}

int backend_job_of(struct backend *backend, uint64_t serial, uint64_t *ret_job)
{
    const struct object *object, *job = NULL;
    enum job_state state;
    int result;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, serial);
    if (object)
        job = shown_job_locked(backend, object, &state, &result);
    if (job)
        *ret_job = job->serial;
    pthread_mutex_unlock(&backend->lock);
    return job ? 0 : -ENOENT;
}

int backend_job_state(struct backend *backend, uint64_t serial, enum job_state *ret_state,
                      int *ret_result)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, serial);
    if (object)
        shown_job_locked(backend, object, ret_state, ret_result);
    pthread_mutex_unlock(&backend->lock);
    return object ? 0 : -ENOENT;
}

/* ---- reference points ---- */

static void vanish_locked(struct backend *backend, struct object *vm, struct event *events,
                          size_t *n)
{
    for (size_t i = 0; i < vm->children.count; i++) {
        struct object *refpoint = find_locked(backend, vm->children.serials[i]);
        add_event(events, n, refpoint->serial, TOPIC_GONE);
        set_held_locked(backend, refpoint, false);
        refpoint->gone = true;
    }
    vm->children.count = 0;
    vm->gone = true;
    list_remove(&backend->vms, vm->serial);
    add_event(events, n, vm->serial, TOPIC_GONE);
    add_event(events, n, 0, TOPIC_LIST);
}

static int check_name_locked(struct backend *backend, const struct object *vm, const char *name,
                             struct rp_error *e)
{
    int result = magic_result(name, "result-");

    if (result)
        return rp_fail(e, result, "the name asks for a refusal");
    if (*name == '.' || strpbrk(name, " /") || strlen(name) > NAME_MAX_LENGTH)
        return rp_fail(e, RESULT_INVALID_PARAMETER, "'%s' cannot be a reference point's name",
                       name);
    if (child_locked(backend, vm->serial, KIND_REFPOINT, name)) {
        rp_fail(e, RESULT_INVALID_PARAMETER, "reference point '%s' exists", name);
        if (e)
            e->err = EEXIST;
        return -EEXIST;
    }
    return 0;
}

static int check_free_locked(struct backend *backend, const struct object *vm, struct rp_error *e)
{
    for (size_t i = 0; i < vm->children.count; i++)
        if (find_locked(backend, vm->children.serials[i])->held)
            return rp_fail(e, RESULT_IN_USE, "the VM is held by another reference point");
    return 0;
}

static int create_locked(struct backend *backend, struct object *vm, const char *name,
                         uint64_t hold_seconds, uint64_t *ret_refpoint, struct rp_error *e)
{
    int ret = check_name_locked(backend, vm, name, e);

    if (ret == 0)
        ret = check_free_locked(backend, vm, e);
    if (ret < 0)
        return ret;
    struct object *refpoint = add_locked(backend, vm->serial, KIND_REFPOINT, name);
    set_held_locked(backend, refpoint, true);
    refpoint->hold_ends_ms =
        now_ms() +
        1000LL * (long long)(hold_seconds ? hold_seconds : backend->options.hold_seconds);
    *ret_refpoint = refpoint->serial;
    pthread_cond_signal(&backend->wake);
    return 0;
}

static int create(struct backend *backend, uint64_t vm, const char *name, uint64_t hold_seconds,
                  uint64_t *ret_refpoint, struct rp_error *e)
{
    struct rp_error local = RP_ERROR_INIT;
    struct event events[EVENTS_MAX];
    struct object *object;
    size_t n = 0;
    int ret;

    pretend_slow(backend->slow_ms);
    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, vm);
    if (object && strcmp(name, "vanish") == 0) {
        vanish_locked(backend, object, events, &n);
        object = NULL;
    }
    ret = object ? create_locked(backend, object, name, hold_seconds, ret_refpoint, &local)
                 : no_object(&local);
    if (ret == 0) {
        object->verb_refusal = (struct rp_error){0}; /* old news */
        add_event(events, &n, vm, TOPIC_LIST | TOPIC_HOLD | TOPIC_INFO);
    } else if (object) {
        object->verb_refusal = local;
        add_event(events, &n, vm, TOPIC_INFO);
    }
    pthread_mutex_unlock(&backend->lock);
    send_all(backend, events, n);
    if (ret < 0 && e)
        *e = local;
    return ret;
}

int backend_refpoint_create(struct backend *backend, uint64_t vm, const char *name,
                            const struct caller *caller, uint64_t *ret_refpoint, struct rp_error *e)
{
    (void)caller;
    return create(backend, vm, name, 0, ret_refpoint, e);
}

int backend_create_template(struct backend *backend, uint64_t vm, FILE *out, struct rp_error *e)
{
    struct child object;

    if (backend_stat(backend, vm, &object) < 0)
        return no_object(e);
    settings_print_template(out, SETTINGS_OF_CREATE, "vda", NULL);
    return 0;
}

int backend_create_check(struct backend *backend, uint64_t vm, const char *text, size_t length,
                         enum text_state state, unsigned *ret_settings, struct rp_error *e)
{
    struct export_settings settings;
    struct object *object;
    unsigned count;
    int ret = settings_parse(text, length, state == TEXT_WHOLE, SETTINGS_OF_CREATE, &settings, e);

    if (ret < 0)
        return ret;
    pretend_slow(backend->check_ms);
    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, vm);
    ret = !object         ? no_object(e)
          : settings.name ? check_name_locked(backend, object, settings.name, e)
                          : 0;
    pthread_mutex_unlock(&backend->lock);
    count = settings.count;
    settings_clear(&settings);
    if (ret == 0)
        *ret_settings = count;
    return ret;
}

void backend_create_receiving(struct backend *backend, uint64_t vm, int delta)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, vm);
    if (object)
        object->creating += delta;
    pthread_cond_broadcast(&backend->created);
    pthread_mutex_unlock(&backend->lock);
}

void backend_create_refused(struct backend *backend, uint64_t vm, const struct rp_error *e)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, vm);
    if (object)
        object->verb_refusal = *e;
    pthread_mutex_unlock(&backend->lock);
    if (object)
        send(backend, vm, TOPIC_INFO);
}

int backend_create_start(struct backend *backend, uint64_t vm, const char *text, size_t length,
                         uint64_t *ret_refpoint, struct rp_error *e)
{
    struct rp_error local = RP_ERROR_INIT;
    struct export_settings settings;
    int ret = settings_parse(text, length, true, SETTINGS_OF_CREATE, &settings, &local);

    if (ret < 0) {
        backend_create_refused(backend, vm, &local);
        if (e)
            *e = local;
        return ret;
    }
    *ret_refpoint = 0;
    if (settings.count > 0)
        ret = create(backend, vm, settings.name, settings.hold_seconds, ret_refpoint, e);
    settings_clear(&settings);
    return ret;
}

static int delete_locked(struct backend *backend, struct object *refpoint, struct rp_error *e)
{
    struct object *vm = find_locked(backend, refpoint->parent);
    struct object *job = find_locked(backend, refpoint->job);
    int result = magic_result(refpoint->name, "keep-");

    if (result)
        return rp_fail(e, result, "the name asks for a refusal");
    if (job && is_active(job))
        return rp_fail(e, RESULT_IN_USE, "its job %" PRIu64 " runs", job->id);
    set_held_locked(backend, refpoint, false);
    refpoint->gone = true;
    if (vm)
        list_remove(&vm->children, refpoint->serial);
    return 0;
}

/* A text whose close is on its way becomes a job first. The owner, or NULL where it is gone. */
static struct object *wait_received_locked(struct backend *backend, uint64_t owner)
{
    struct object *object = find_locked(backend, owner);

    for (int ms = 0; ms < 500 && object && is_receiving(object); ms++) {
        pthread_mutex_unlock(&backend->lock);
        pretend_slow(1);
        pthread_mutex_lock(&backend->lock);
        object = find_locked(backend, owner);
    }
    return object;
}

int backend_refpoint_delete(struct backend *backend, uint64_t refpoint, struct rp_error *e)
{
    struct object *object;
    uint64_t vm = 0;
    int ret;

    pretend_slow(backend->slow_ms);
    pthread_mutex_lock(&backend->lock);
    object = wait_received_locked(backend, refpoint);
    if (object)
        vm = object->parent;
    ret = object ? delete_locked(backend, object, e) : no_object(e);
    pthread_mutex_unlock(&backend->lock);
    if (ret == 0) {
        send(backend, refpoint, TOPIC_GONE);
        send(backend, vm, TOPIC_LIST);
    }
    return ret;
}

int backend_hold_release(struct backend *backend, uint64_t refpoint, struct rp_error *e)
{
    struct object *object, *job;
    bool was_held = false;
    uint64_t vm = 0;
    int ret = 0;

    pretend_slow(backend->slow_ms);
    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, refpoint);
    job = object ? find_locked(backend, object->job) : NULL;
    if (!object) {
        ret = no_object(e);
    } else if (job && is_active(job)) {
        ret = rp_fail(e, RESULT_IN_USE, "its job %" PRIu64 " runs", job->id);
    } else {
        was_held = object->held;
        set_held_locked(backend, object, false);
        vm = object->parent;
    }
    pthread_mutex_unlock(&backend->lock);
    if (was_held) {
        send(backend, vm, TOPIC_INFO);
        send(backend, refpoint, TOPIC_HOLD | TOPIC_INFO);
    }
    return ret;
}

/* ---- disks of held reference points ---- */

int backend_disk_info(struct backend *backend, uint64_t serial, struct disk_info *ret_info,
                      struct rp_error *e)
{
    struct child object;

    if (rp_serial_kind(serial) != KIND_DISK || backend_stat(backend, serial, &object) < 0)
        return no_object(e);
    *ret_info = (struct disk_info){
        .size_bytes = DISK_BYTES,
        .has_data_bytes = true,
        .data_bytes = DISK_BYTES - (HOLE_END - HOLE_BYTES),
        .has_map = !backend->unmapped,
        .map_bytes = strlen(DISK_MAP),
    };
    return 0;
}

int backend_disk_open(struct backend *backend, uint64_t serial, bool data, struct disk **ret_disk,
                      struct rp_error *e)
{
    struct child object;
    struct disk *disk;

    (void)data;
    if (backend_stat(backend, serial, &object) < 0)
        return rp_fail_errno(e, ENODEV, "the disk is not held any more");
    disk = calloc(1, sizeof *disk);
    if (!disk)
        return rp_fail_memory(e);
    disk->backend = backend;
    disk->serial = serial;
    *ret_disk = disk;
    return 0;
}

void backend_disk_close(struct disk *disk, bool data)
{
    struct backend *backend = disk->backend;
    struct disk_read *reads;

    (void)data;
    pthread_mutex_lock(&backend->lock);
    reads = take_reads_locked(backend, disk);
    pthread_mutex_unlock(&backend->lock);
    answer_reads(reads);
    free(disk);
}

int backend_disk_look(struct disk *disk, struct disk_info *ret_info)
{
    return backend_disk_info(disk->backend, disk->serial, ret_info, NULL) < 0 ? -ENODEV : 0;
}

void backend_disk_read(struct disk *disk, struct disk_read *read)
{
    struct backend *backend = disk->backend;
    struct child object;

    read->owner = disk;
    if (backend->read_ms == 0 || read->offset >= MIB || read->length < sizeof(long long)) {
        if (backend_stat(backend, disk->serial, &object) < 0)
            read->owner = NULL;
        answer_read(read);
        return;
    }
    /* The time stands where the data will. */
    *(long long *)read->buffer = now_ms() + (long long)backend->read_ms;
    pthread_mutex_lock(&backend->lock);
    read->next = backend->reads;
    backend->reads = read;
    pthread_cond_signal(&backend->wake);
    pthread_mutex_unlock(&backend->lock);
}

int backend_disk_seek(struct disk *disk, uint64_t offset, bool hole, uint64_t *ret_offset,
                      struct rp_error *e)
{
    struct disk_info info;

    if (backend_disk_look(disk, &info) < 0)
        return rp_fail_errno(e, ENODEV, "the disk is not held any more");
    if (offset >= DISK_BYTES)
        return rp_fail_errno(e, ENXIO, "there is nothing behind the end");
    if (hole)
        *ret_offset = is_in_hole(offset) ? offset : offset < HOLE_BYTES ? HOLE_BYTES : DISK_BYTES;
    else
        *ret_offset = is_in_hole(offset) ? HOLE_END : offset;
    return 0;
}

int backend_disk_print_map(struct disk *disk, uint64_t offset, char *buffer, size_t size,
                           size_t *ret_length)
{
    size_t length = strlen(DISK_MAP);
    struct disk_info info;

    if (backend_disk_look(disk, &info) < 0)
        return -ENODEV;
    length = offset < length ? length - offset : 0;
    length = length < size ? length : size;
    memcpy(buffer, &DISK_MAP[length ? offset : 0], length);
    *ret_length = length;
    return 0;
}

/* ---- exports ---- */

static enum settings_scope scope_of(uint64_t owner)
{
    return rp_serial_kind(owner) == KIND_VM ? SETTINGS_OF_VM : SETTINGS_OF_REFPOINT;
}

int backend_export_template(struct backend *backend, uint64_t owner, FILE *out, struct rp_error *e)
{
    struct child object;

    if (backend_stat(backend, owner, &object) < 0)
        return no_object(e);
    settings_print_template(out, scope_of(owner), "vda", NULL);
    return 0;
}

int backend_export_may_begin(struct backend *backend, uint64_t owner, struct rp_error *e)
{
    struct object *job;
    uint64_t id = 0;

    pthread_mutex_lock(&backend->lock);
    job = active_job_locked(backend, owner);
    if (job)
        id = job->id;
    pthread_mutex_unlock(&backend->lock);
    return id ? rp_fail(e, RESULT_IN_USE, "job %" PRIu64 " of this VM runs", id) : 0;
}

void backend_export_receiving(struct backend *backend, uint64_t owner, int delta)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, owner);
    if (object)
        object->receiving += delta;
    pthread_mutex_unlock(&backend->lock);
    if (object)
        send(backend, owner, TOPIC_JOB);
}

/* The number behind `name` in the directory, as in "/any/ms-500"; 0 when the name is not in it. */
static long long magic_of(const struct export_settings *settings, const char *name)
{
    const char *found =
        settings->export_directory ? strstr(settings->export_directory, name) : NULL;

    return found ? strtoll(found + strlen(name), NULL, 10) : 0;
}

/* On success *ret_settings is the caller's to clear. */
static int parse(uint64_t owner, const char *text, size_t length, bool whole,
                 struct export_settings *ret_settings, struct rp_error *e)
{
    struct export_settings settings;
    int result;
    int ret = settings_parse(text, length, whole, scope_of(owner), &settings, e);

    if (ret < 0)
        return ret;
    result = (int)magic_of(&settings, "/refuse-");
    if (result)
        ret = rp_fail(e, result, "line %u: the directory asks for a refusal",
                      settings.line[SETTING_EXPORT_DIRECTORY]);
    result = (int)magic_of(&settings, "/late-");
    if (ret == 0 && whole && result)
        ret = rp_fail(e, result, "the whole text asks for a refusal");
    if (ret < 0)
        settings_clear(&settings);
    else
        *ret_settings = settings;
    return ret;
}

int backend_export_check(struct backend *backend, uint64_t owner, const char *text, size_t length,
                         enum text_state state, const struct caller *caller, unsigned *ret_settings,
                         struct rp_error *e)
{
    struct export_settings settings;
    int ret;

    (void)caller;
    pretend_slow(backend->check_ms);
    ret = parse(owner, text, length, state == TEXT_WHOLE, &settings, e);
    if (ret < 0)
        return ret;
    *ret_settings = settings.count;
    settings_clear(&settings);
    return 0;
}

void backend_export_refused(struct backend *backend, uint64_t owner, const struct rp_error *e)
{
    struct object *object;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, owner);
    if (object) {
        object->newest_refusal = *e;
        if (!active_job_locked(backend, owner))
            object->refusal = *e;
    }
    pthread_mutex_unlock(&backend->lock);
    if (object)
        send(backend, owner, TOPIC_JOB);
}

static char *print_settings(const struct export_settings *settings, enum settings_scope scope)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        abort();
    settings_print(settings, scope, out);
    fclose(out);
    return text;
}

static uint64_t start_locked(struct backend *backend, struct object *owner,
                             const struct export_settings *settings, const struct caller *caller)
{
    long long ms = magic_of(settings, "/ms-");
    char name[32];
    uint64_t id = ++backend->last_job_id;

    snprintf(name, sizeof name, "%" PRIu64, id);
    struct object *job = add_locked(backend, 0, KIND_JOB, name);
    job->id = id;
    job->owner = owner->serial;
    job->state = JOB_NEW;
    job->wanted_result = (int)magic_of(settings, "/result-");
    job->duration_ms = ms ? ms : (long long)backend->job_ms;
    job->keep_hold = settings->keep_hold;
    job->submitted = now_wall();
    job->caller_uid = caller->uid;
    job->settings = print_settings(settings, scope_of(owner->serial));
    job->directory = copy(settings->export_directory);
    owner->job = job->serial;
    owner->refusal = (struct rp_error)RP_ERROR_INIT;
    owner->receiving--;
    /* A reference point of the exported instant; its hold ends with the export, so none begins. */
    if (settings->refpoint)
        add_locked(backend, owner->serial, KIND_REFPOINT, settings->refpoint);
    pthread_cond_signal(&backend->wake);
    return job->serial;
}

/* Judges what only the objects can tell, and starts, without letting go of the lock between. */
static int start(struct backend *backend, uint64_t owner, const struct export_settings *settings,
                 const struct caller *caller, uint64_t *ret_job, struct rp_error *e)
{
    struct object *object, *running;
    int ret = 0;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, owner);
    running = object ? active_job_locked(backend, owner) : NULL;
    if (!object)
        ret = no_object(e);
    else if (running)
        ret = rp_fail(e, RESULT_IN_USE, "job %" PRIu64 " of this VM runs", running->id);
    else if (settings->refpoint)
        ret = check_name_locked(backend, object, settings->refpoint, e);
    if (ret == 0)
        *ret_job = start_locked(backend, object, settings, caller);
    pthread_mutex_unlock(&backend->lock);
    return ret;
}

int backend_export_start(struct backend *backend, uint64_t owner, const char *text, size_t length,
                         const struct caller *caller, uint64_t *ret_job, struct rp_error *e)
{
    struct rp_error local = RP_ERROR_INIT;
    struct export_settings settings = {.count = 0};
    uint64_t job = 0;
    int ret = parse(owner, text, length, true, &settings, &local);

    if (ret == 0 && settings.count > 0)
        ret = start(backend, owner, &settings, caller, &job, &local);
    settings_clear(&settings);
    if (ret < 0) {
        backend_export_refused(backend, owner, &local);
        if (e)
            *e = local;
        return ret;
    }
    if (job) {
        const struct event events[] = {{owner, TOPIC_JOB}, {job, TOPIC_JOB}, {0, TOPIC_LIST}};
        send_all(backend, events, sizeof events / sizeof events[0]);
    }
    *ret_job = job;
    return 0;
}

int backend_job_cancel(struct backend *backend, uint64_t serial, struct rp_error *e)
{
    struct object *object, *job;
    int ret = 0;

    pthread_mutex_lock(&backend->lock);
    object = find_locked(backend, serial);
    job = object && rp_serial_kind(serial) != KIND_JOB ? find_locked(backend, object->job) : object;
    if (object && job != object && !(job && is_active(job)) && is_receiving(object)) {
        object = wait_received_locked(backend, serial);
        job = object ? find_locked(backend, object->job) : NULL;
        if (object && is_receiving(object))
            ret = rp_fail(e, RESULT_IN_USE, "its settings are still being written");
    }
    if (ret == 0 && job && is_active(job))
        job->cancel_requested = true;
    pthread_cond_signal(&backend->wake);
    pthread_mutex_unlock(&backend->lock);
    return object ? ret : no_object(e);
}

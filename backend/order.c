// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * From the text in `export` to a job in the queue. Judges settings against what is known of the VM
 * and its hold, remembers refusals, and decides what an owner's job/ shows: the job that runs, the
 * text being received, the last refusal, or the last job. Any thread.
 */
#include "order.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outdir.h"
#include "settings.h"

/* What a job needs of the text it came from. */
struct order {
    struct order_desk *desk;
    uint64_t owner;
    struct caller caller;
    struct export_settings settings;
    struct export_subject subject; /* taken from the registry until it is given back */
    bool is_taken;
};

/* ---- the base's name ---- */

/*
 * "mon", "../mon", or a path into a mount of this service, ".../vms/VM/refpoints/mon". The name
 * goes to ret_name; NULL means that no base is asked for.
 */
static int base_name(const struct export_settings *settings, const char *vm_name, char **ret_name,
                     struct rp_error *e)
{
    unsigned line = settings->line[SETTING_BASE_REFPOINT];
    char *path, *slash, *vm, *name = NULL;

    *ret_name = NULL;
    if (!settings->base_refpoint)
        return 0;
    path = strdup(settings->base_refpoint);
    if (!path)
        return rp_fail_memory(e);
    for (size_t length = strlen(path); length > 1 && path[length - 1] == '/'; length--)
        path[length - 1] = '\0';
    slash = strrchr(path, '/');
    if (!slash || strncmp(path, "../", 3) == 0) {
        if (!slash || slash == path + 2)
            name = slash ? slash + 1 : path;
    } else {
        *slash = '\0';
        vm = strstr(path, "/vms/");
        if (vm && strncmp(vm + 5, vm_name, strlen(vm_name)) == 0 &&
            strcmp(vm + 5 + strlen(vm_name), "/refpoints") == 0)
            name = slash + 1;
    }
    if (name)
        *ret_name = strdup(name);
    free(path);
    if (!name)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "line %u: '%s' names no reference point of VM '%s'; write its name, or "
                       "../NAME",
                       line, settings->base_refpoint, vm_name);
    return *ret_name ? 0 : rp_fail_memory(e);
}

/* ---- judging ---- */

/* The subject of these settings; `use` as for registry_export_begin(). */
static int find_subject(struct order_desk *desk, uint64_t owner,
                        const struct export_settings *settings, bool use,
                        struct export_subject *ret_subject, struct rp_error *e)
{
    struct refpoint_info info;
    char *base = NULL;
    int rc = registry_refpoint_info(desk->registry, owner, &info, e);

    if (rc < 0)
        return rc;
    rc = base_name(settings, info.vm, &base, e);
    refpoint_info_clear(&info);
    if (rc < 0)
        return rc;
    rc = registry_export_begin(desk->registry, owner, base, use, ret_subject, e);
    if (rc < 0 && base)
        rp_error_prefix(e, "line %u: ", settings->line[SETTING_BASE_REFPOINT]);
    free(base);
    return rc;
}

static int check_directories(const struct export_settings *settings, const struct caller *caller,
                             struct rp_error *e)
{
    unsigned line = settings->line[SETTING_EXPORT_DIRECTORY];
    int rc = 0;

    if (settings->export_directory)
        rc = outdir_check(settings->export_directory, caller, e);
    if (rc == 0 && settings->base_export_directory) {
        line = settings->line[SETTING_BASE_EXPORT_DIRECTORY];
        rc = outdir_check_base(settings->base_export_directory, caller, e);
    }
    if (rc < 0)
        rp_error_prefix(e, "line %u: ", line);
    return rc;
}

static int judge(struct order_desk *desk, uint64_t owner, const struct export_settings *settings,
                 const struct caller *caller, struct rp_error *e)
{
    struct export_subject subject;
    int rc = check_directories(settings, caller, e);

    if (rc == 0)
        rc = find_subject(desk, owner, settings, false, &subject, e);
    if (rc == 0) {
        rc = export_check(&subject, settings, e);
        export_subject_clear(&subject);
    }
    return rc;
}

int order_check(struct order_desk *desk, uint64_t owner, const char *text, size_t length,
                bool whole, const struct caller *caller, unsigned *ret_settings, struct rp_error *e)
{
    struct export_settings settings;
    unsigned count;
    int rc = settings_parse(text, length, whole, false, &settings, e);

    if (rc < 0)
        return rc;
    count = settings.count;
    if (count > 0)
        rc = judge(desk, owner, &settings, caller, e);
    settings_clear(&settings);
    if (rc == 0)
        *ret_settings = count;
    return rc;
}

/* ---- what an owner remembers ---- */

struct refuse {
    const struct rp_error *e;
    uint64_t last_job;
    bool busy;
};

static void put_refusal(struct slot *slot, void *opaque)
{
    const struct refuse *refuse = opaque;

    slot->refusal = *refuse->e;
    slot->refused_after = refuse->last_job;
    slot->refused_while_busy = refuse->busy;
    clock_gettime(CLOCK_REALTIME, &slot->refused);
}

static void copy_slot(struct slot *slot, void *opaque)
{
    *(struct slot *)opaque = *slot;
}

static void count_receiving(struct slot *slot, void *opaque)
{
    slot->receiving += (unsigned)*(int *)opaque;
}

static bool is_running(struct order_desk *desk, uint64_t job)
{
    enum job_state state;
    int result;

    return job && job_get_state(desk->queue, job, &state, &result) == 0 &&
           !job_state_has_ended(state);
}

void order_refused(struct order_desk *desk, uint64_t owner, const struct rp_error *e)
{
    struct refuse refuse = {.e = e, .last_job = job_last_of(desk->queue, owner)};

    refuse.busy = is_running(desk, refuse.last_job);
    registry_with_slot(desk->registry, owner, put_refusal, &refuse);
    desk->events.changed(desk->events.opaque, owner, TOPIC_JOB);
}

void order_receiving(struct order_desk *desk, uint64_t owner, int delta)
{
    registry_with_slot(desk->registry, owner, count_receiving, &delta);
    desk->events.changed(desk->events.opaque, owner, TOPIC_JOB);
}

/* What job/ of an owner shows. */
enum view { VIEW_NONE, VIEW_JOB, VIEW_RECEIVING, VIEW_REFUSAL };

static int look(struct order_desk *desk, uint64_t owner, struct slot *ret_slot, uint64_t *ret_job,
                enum view *ret_view)
{
    int rc = registry_with_slot(desk->registry, owner, copy_slot, ret_slot);

    if (rc < 0)
        return rc;
    *ret_job = job_last_of(desk->queue, owner);
    if (is_running(desk, *ret_job))
        *ret_view = VIEW_JOB;
    else if (ret_slot->receiving > 0)
        *ret_view = VIEW_RECEIVING;
    else if (ret_slot->refusal.result && !ret_slot->refused_while_busy &&
             ret_slot->refused_after == *ret_job)
        *ret_view = VIEW_REFUSAL;
    else
        *ret_view = *ret_job ? VIEW_JOB : VIEW_NONE;
    return 0;
}

int order_get_state(struct order_desk *desk, uint64_t owner, enum job_state *ret_state,
                    int *ret_result)
{
    struct slot slot;
    enum view view;
    uint64_t job;
    int rc = look(desk, owner, &slot, &job, &view);

    if (rc < 0)
        return rc;
    if (view == VIEW_JOB)
        return job_get_state(desk->queue, job, ret_state, ret_result);
    *ret_state = view == VIEW_RECEIVING ? JOB_RECEIVING
                 : view == VIEW_REFUSAL ? JOB_EXCEPTION
                                        : JOB_NONE;
    *ret_result = view == VIEW_REFUSAL ? slot.refusal.result : RESULT_JOB_STARTED;
    return 0;
}

/* What is shown when there is no job to show: names, and the state. */
static int describe_slot(struct order_desk *desk, uint64_t owner, const struct slot *slot,
                         enum view view, struct job_info *ret_info, struct rp_error *e)
{
    struct refpoint_info owner_info;
    struct job_info info;
    int rc = registry_refpoint_info(desk->registry, owner, &owner_info, e);

    if (rc < 0)
        return rc;
    info = (struct job_info){
        .vm = strdup(owner_info.vm),
        .refpoint = strdup(owner_info.name),
        .error = strdup(view == VIEW_REFUSAL ? slot->refusal.message : ""),
        .export_directory = strdup(""),
        .settings = strdup(""),
        .last_refusal = strdup(""),
        .state = view == VIEW_RECEIVING ? JOB_RECEIVING
                 : view == VIEW_REFUSAL ? JOB_EXCEPTION
                                        : JOB_NONE,
        .has_result = view != VIEW_NONE,
        .result = view == VIEW_REFUSAL ? slot->refusal.result : RESULT_JOB_STARTED,
    };
    refpoint_info_clear(&owner_info);
    if (view == VIEW_REFUSAL)
        info.submitted = info.ended = slot->refused;
    if (!info.vm || !info.refpoint || !info.error || !info.export_directory || !info.settings ||
        !info.last_refusal) {
        job_info_clear(&info);
        return rp_fail_memory(e);
    }
    *ret_info = info;
    return 0;
}

int order_get_info(struct order_desk *desk, uint64_t owner, struct job_info *ret_info,
                   struct rp_error *e)
{
    struct job_info info;
    struct slot slot;
    enum view view;
    uint64_t job;
    int rc = look(desk, owner, &slot, &job, &view);

    if (rc < 0)
        return rp_fail_errno(e, -rc, "no such reference point");
    rc = view == VIEW_JOB ? job_get_info(desk->queue, job, &info, e)
                          : describe_slot(desk, owner, &slot, view, &info, e);
    if (rc < 0)
        return rc;
    if (slot.refusal.result) {
        free(info.last_refusal);
        if (asprintf(&info.last_refusal, "%d %s", slot.refusal.result, slot.refusal.message) < 0) {
            info.last_refusal = NULL;
            job_info_clear(&info);
            return rp_fail_memory(e);
        }
    }
    *ret_info = info;
    return 0;
}

/* ---- the template ---- */

static void print_targets(const struct refpoint_info *info, FILE *out)
{
    for (size_t i = 0; i < info->ndisks; i++)
        fprintf(out, "%s%s", i ? " " : "", info->disks[i].target);
}

/* The bases that a delta of this point can have: those its hold's bitmaps start at. */
static void print_bases(const struct refpoint_info *info, FILE *out)
{
    const char *last = "";

    for (size_t i = 0; i < info->ndisks; i++) {
        if (!*info->disks[i].base || strcmp(info->disks[i].base, last) == 0)
            continue;
        fprintf(out, "%s%s", *last ? " " : "", info->disks[i].base);
        last = info->disks[i].base;
    }
}

static char *gather(void (*print)(const struct refpoint_info *, FILE *),
                    const struct refpoint_info *info)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        return NULL;
    print(info, out);
    fclose(out);
    return text;
}

int order_print_template(struct order_desk *desk, uint64_t owner, FILE *out, struct rp_error *e)
{
    struct refpoint_info info;
    char *disks, *bases;
    int rc = registry_refpoint_info(desk->registry, owner, &info, e);

    if (rc < 0)
        return rc;
    disks = gather(print_targets, &info);
    bases = gather(print_bases, &info);
    settings_print_template(out, false, disks, bases && *bases ? bases : NULL);
    free(disks);
    free(bases);
    refpoint_info_clear(&info);
    return 0;
}

/* ---- the job ---- */

int order_may_begin(struct order_desk *desk, uint64_t owner, struct rp_error *e)
{
    struct refpoint_info info;
    uint64_t vm = registry_vm_of(desk->registry, owner);
    int rc;

    if (!vm)
        return rp_fail_errno(e, ENOENT, "no such reference point");
    if (!job_vm_is_busy(desk->queue, vm))
        return 0;
    rc = registry_refpoint_info(desk->registry, owner, &info, e);
    if (rc == 0) {
        rc = rp_fail(e, RESULT_IN_USE, "an export of VM '%s' is running", info.vm);
        refpoint_info_clear(&info);
    }
    return rc;
}

static void give_back(struct order *order)
{
    if (order->is_taken)
        registry_export_end(order->desk->registry, order->owner, &order->subject);
    order->is_taken = false;
}

static void release(void *opaque)
{
    struct order *order = opaque;

    give_back(order);
    settings_clear(&order->settings);
    free(order);
}

static int on_check(void *opaque, struct rp_error *e)
{
    return job_check(opaque, e);
}

static void on_running(void *opaque, uint64_t bytes_total)
{
    job_set_total(opaque, bytes_total);
    job_set_running(opaque);
}

static void on_done(void *opaque, uint64_t bytes_done)
{
    job_set_done(opaque, bytes_done);
}

static int run(struct job *job, void *opaque, struct rp_error *e)
{
    struct order *order = opaque;
    struct order_desk *desk = order->desk;
    const struct export_request request = {
        .virt = desk->registry->virt,
        .subject = &order->subject,
        .settings = &order->settings,
        .caller = &order->caller,
        .bandwidth_bytes = order->settings.has_bandwidth ? order->settings.bandwidth_bytes
                                                         : desk->options->bandwidth_bytes,
        .check = on_check,
        .running = on_running,
        .done = on_done,
        .opaque = job,
    };
    struct rp_error ignored;
    char *directory;
    int rc;

    job_set_timeout(job, order->settings.timeout_seconds);
    job_set_moment(job, (struct timespec){.tv_sec = order->subject.created}, EXACT_YES);
    rc = export_run(&request, &directory, e);
    if (rc < 0)
        return rc;
    registry_set_last_export(desk->registry, order->owner, directory);
    free(directory);
    /*
     * The hold ends before the job does: who waited for the result may mark the VM again at once.
     * The export is complete, whatever becomes of the hold: it would still run out by itself.
     */
    give_back(order);
    if (!order->settings.keep_hold)
        registry_release(desk->registry, order->owner, &ignored);
    return 0;
}

static int submit(struct order *order, uint64_t *ret_job, struct rp_error *e)
{
    struct job_params params = {
        .owner = order->owner,
        .vm = order->subject.vm,
        .vm_name = order->subject.vm_name,
        .refpoint = order->subject.refpoint,
        .export_directory = order->settings.export_directory,
        .caller_uid = order->caller.uid,
        .run = run,
        .release = release,
        .opaque = order,
    };
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    int rc;

    if (!out)
        return rp_fail_memory(e);
    settings_print(&order->settings, false, out);
    fclose(out);
    params.settings = text;
    rc = text ? job_submit(order->desk->queue, &params, ret_job, e) : rp_fail_memory(e);
    free(text);
    return rc;
}

static int start(struct order *order, uint64_t *ret_job, struct rp_error *e)
{
    int rc = judge(order->desk, order->owner, &order->settings, &order->caller, e);

    if (rc == 0)
        rc = find_subject(order->desk, order->owner, &order->settings, true, &order->subject, e);
    if (rc == 0) {
        order->is_taken = true;
        rc = submit(order, ret_job, e);
    }
    return rc;
}

int order_start(struct order_desk *desk, uint64_t owner, const char *text, size_t length,
                const struct caller *caller, uint64_t *ret_job, struct rp_error *e)
{
    struct order *order = calloc(1, sizeof *order);
    int rc;

    if (!order) {
        rc = rp_fail_memory(e);
        order_refused(desk, owner, e);
        return rc;
    }
    order->desk = desk;
    order->owner = owner;
    order->caller = *caller;
    rc = settings_parse(text, length, true, false, &order->settings, e);
    if (rc == 0 && order->settings.count == 0) {
        release(order);
        *ret_job = 0;
        return 0;
    }
    if (rc == 0)
        rc = start(order, ret_job, e);
    if (rc < 0) {
        release(order);
        order_refused(desk, owner, e);
    }
    return rc;
}

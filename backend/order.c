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
    bool made_hold;         /* for this job alone: nobody else will end it */
    uint64_t made_refpoint; /* likewise; 0 = none */
};

/* ---- the base's name ---- */

/*
 * "mon", "../mon", or a path into a mount of this service, ".../vms/VM/refpoints/mon". The name
 * goes to ret_name; NULL means that no base is asked for.
 */
int order_base_name(const struct export_settings *settings, const char *vm_name, char **ret_name,
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

/* The last check, for which close() waited, was just before. */
#define ORDER_START_AGE_MS 100

static enum settings_scope scope_of(uint64_t owner)
{
    return rp_serial_kind(owner) == KIND_VM ? SETTINGS_OF_VM : SETTINGS_OF_REFPOINT;
}

/* The subject of these settings; `use` as for registry_export_begin(). */
static int find_subject(struct order_desk *desk, uint64_t owner,
                        const struct export_settings *settings, bool use,
                        struct export_subject *ret_subject, struct rp_error *e)
{
    char *vm_name, *refpoint, *base = NULL;
    int rc = registry_names(desk->registry, owner, &vm_name, &refpoint, e);

    if (rc < 0)
        return rc;
    rc = order_base_name(settings, vm_name, &base, e);
    free(vm_name);
    free(refpoint);
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
                 enum text_state state, const struct caller *caller, struct rp_error *e)
{
    struct export_subject subject;
    int rc = registry_check_driver(desk->registry, e);

    if (rc == 0)
        rc = check_directories(settings, caller, e);
    if (rc == 0)
        rc = find_subject(desk, owner, settings, false, &subject, e);
    if (rc == 0) {
        rc = export_check(&subject, settings, state, e);
        export_subject_clear(&subject);
    }
    return rc;
}

int order_check(struct order_desk *desk, uint64_t owner, const char *text, size_t length,
                enum text_state state, const struct caller *caller, unsigned *ret_settings,
                struct rp_error *e)
{
    struct export_settings settings;
    unsigned count;
    int rc = settings_parse(text, length, state == TEXT_WHOLE, scope_of(owner), &settings, e);

    if (rc < 0)
        return rc;
    count = settings.count;
    /* As long as no disk is named, what is refused of a growing text is no matter of the disks. */
    if (settings.ndisks || (count > 0 && state != TEXT_GROWING))
        registry_freshen(desk->registry, owner, 0);
    if (count > 0)
        rc = judge(desk, owner, &settings, state, caller, e);
    settings_clear(&settings);
    if (rc == 0)
        *ret_settings = count;
    return rc;
}

/* ---- the template ---- */

/* The choices that there really are, joined by spaces. */
static void print_choices(const struct export_subject *subject, FILE *disks, FILE *bases)
{
    const char *last = "";

    for (size_t i = 0; i < subject->ndisks; i++) {
        const struct export_disk *disk = &subject->disks[i];

        fprintf(disks, "%s%s", i ? " " : "", disk->target);
        /* Of a hold: its bitmaps start somewhere, and a delta cannot go back further. */
        if (*disk->start && strcmp(disk->start, last) != 0) {
            fprintf(bases, "%s%s", *last ? " " : "", disk->start);
            last = disk->start;
        }
    }
}

static void print_points(struct registry *registry, const struct export_subject *subject,
                         FILE *bases)
{
    struct child children[32];
    uint64_t after = 0;
    size_t count;

    while ((count = registry_children(registry, subject->vm, after, children, 32)) > 0) {
        for (size_t i = 0; i < count; i++)
            if (strcmp(children[i].name, subject->refpoint) != 0)
                fprintf(bases, "%s ", children[i].name);
        after = children[count - 1].serial;
    }
}

int order_print_template(struct order_desk *desk, uint64_t owner, FILE *out, struct rp_error *e)
{
    struct export_subject subject;
    char *disks = NULL, *bases = NULL;
    size_t length;
    FILE *to_disks, *to_bases;
    int rc = registry_export_begin(desk->registry, owner, NULL, false, &subject, e);

    if (rc < 0)
        return rc;
    to_disks = open_memstream(&disks, &length);
    to_bases = open_memstream(&bases, &length);
    if (to_disks && to_bases) {
        print_choices(&subject, to_disks, to_bases);
        if (!subject.hold)
            print_points(desk->registry, &subject, to_bases);
    }
    if (to_disks)
        fclose(to_disks);
    if (to_bases)
        fclose(to_bases);
    settings_print_template(out, scope_of(owner), disks, bases);
    free(disks);
    free(bases);
    export_subject_clear(&subject);
    return 0;
}

/* ---- the job ---- */

int order_may_begin(struct order_desk *desk, uint64_t owner, struct rp_error *e)
{
    char *vm_name, *refpoint;
    uint64_t vm = registry_vm_of(desk->registry, owner);
    int rc;

    if (!vm)
        return rp_fail_errno(e, ENOENT, "no such reference point or VM");
    if (!job_vm_is_busy(desk->queue, vm))
        return 0;
    rc = registry_names(desk->registry, owner, &vm_name, &refpoint, e);
    if (rc == 0) {
        rc = rp_fail(e, RESULT_IN_USE, "an export of VM '%s' is running", vm_name);
        free(vm_name);
        free(refpoint);
    }
    return rc;
}

static void give_back(struct order *order)
{
    if (order->is_taken)
        registry_export_end(order->desk->registry, &order->subject);
    order->is_taken = false;
}

static void release(void *opaque)
{
    struct order *order = opaque;

    give_back(order);
    settings_clear(&order->settings);
    free(order);
}

/* What the export calls back with. */
struct run {
    struct job *job;
    struct order *order;
};

static int on_check(void *opaque, struct rp_error *e)
{
    struct run *run = opaque;
    int rc = job_check(run->job, e);

    return rc < 0
               ? rc
               : registry_export_verify(run->order->desk->registry, &run->order->subject, false, e);
}

static int on_explain(void *opaque, struct rp_error *e)
{
    struct run *run = opaque;

    return registry_export_explain(run->order->desk->registry, &run->order->subject, e);
}

static int on_verify(void *opaque, struct rp_error *e)
{
    struct run *run = opaque;

    return registry_export_verify(run->order->desk->registry, &run->order->subject, true, e);
}

static int on_naming(void *opaque, const char *files, struct rp_error *e)
{
    return job_set_files(((struct run *)opaque)->job, files, e);
}

static int on_commit(void *opaque, struct rp_error *e)
{
    return job_commit(((struct run *)opaque)->job, e);
}

static void on_running(void *opaque, uint64_t bytes_total)
{
    struct run *run = opaque;

    job_set_total(run->job, bytes_total);
    job_set_running(run->job);
}

static void on_note(void *opaque, const char *note)
{
    job_set_note(((struct run *)opaque)->job, note);
}

static void on_done(void *opaque, uint64_t bytes_done)
{
    job_set_done(((struct run *)opaque)->job, bytes_done);
}

/* ---- the hold of a job ---- */

/* The disks of the subject that the settings want, for the hold to be of no more than needed. */
static char **wanted_disks(const struct order *order, size_t *ret_count)
{
    const struct export_subject *subject = &order->subject;
    char **disks = calloc(subject->ndisks + 1, sizeof *disks);

    *ret_count = 0;
    for (size_t i = 0; disks && i < subject->ndisks; i++)
        disks[(*ret_count)++] = subject->disks[i].target;
    return disks;
}

/*
 * A bare reference point, or the VM as it is: the VM is held for the time of the job. What the data
 * then shows is this moment; for a reference point that is its instant only if nothing was written
 * since, and otherwise it must be said.
 */
static int make_hold(struct job *job, struct order *order, struct rp_error *e)
{
    const struct export_settings *settings = &order->settings;
    struct export_subject *subject = &order->subject;
    struct registry_spec spec = {
        .name = settings->refpoint,
        .base = subject->base,
        .no_bitmap = !subject->base && !settings->refpoint,
        .untracked = true,
        .point = *subject->refpoint ? subject->refpoint : NULL,
    };
    char note[RP_MESSAGE_SIZE];
    char *name = NULL, **disks = NULL;
    int rc;

    if (settings->refpoint) {
        name = strdup(settings->refpoint);
        if (!name)
            return rp_fail_memory(e);
    } else {
        /* A new reference point covers all disks, whichever of them are exported. */
        spec.disks =
            settings->ndisks ? settings->disks : (disks = wanted_disks(order, &spec.ndisks));
        spec.ndisks = settings->ndisks ? settings->ndisks : spec.ndisks;
        if (!spec.disks)
            return rp_fail_memory(e);
    }
    rc = registry_export_hold(order->desk->registry, &spec, subject, &order->made_refpoint, e);
    order->made_hold = subject->hold != NULL;
    free(disks);
    if (rc == 0 && name) {
        free(subject->refpoint);
        subject->refpoint = name;
        name = NULL;
    }
    free(name);
    if (rc < 0)
        return rc;
    if (subject->exact == EXACT_YES)
        return 0;
    if (settings->require_exact)
        return rp_fail(e, RESULT_INVALID_STATE,
                       "line %u: the VM has been written to since reference point '%s', and "
                       "RequireExact=yes",
                       settings->line[SETTING_REQUIRE_EXACT], subject->refpoint);
    snprintf(note, sizeof note,
             "the data is that of the beginning of the export, not of reference point '%s': it was "
             "held no longer, and the VM has been written to since",
             subject->refpoint);
    job_set_note(job, note);
    return 0;
}

/* Whatever was made for the job goes with it, unless it succeeded and was to stay. */
static void end_hold(struct order *order, bool succeeded)
{
    struct registry *registry = order->desk->registry;
    uint64_t vm = order->subject.vm, refpoint = order->made_refpoint;
    bool made = order->made_hold, keep = order->settings.keep_hold && succeeded;
    struct rp_error ignored;

    give_back(order);
    if (refpoint && !succeeded)
        registry_delete(registry, refpoint, &ignored);
    else if (made && !(keep && refpoint))
        registry_release_vm(registry, vm, &ignored);
    else if (!made && succeeded && !keep)
        registry_release(registry, order->owner, &ignored);
}

static int export(struct job *job, struct order *order, struct rp_error *e)
{
    struct order_desk *desk = order->desk;
    struct run callback = {job, order};
    const struct export_request request = {
        .virt = desk->registry->virt,
        .subject = &order->subject,
        .settings = &order->settings,
        .caller = &order->caller,
        .bandwidth_bytes = order->settings.has_bandwidth ? order->settings.bandwidth_bytes
                                                         : desk->options->bandwidth_bytes,
        .tag = job_tag(job),
        .check = on_check,
        .explain = on_explain,
        .verify = on_verify,
        .naming = on_naming,
        .commit = on_commit,
        .running = on_running,
        .done = on_done,
        .note = on_note,
        .opaque = &callback,
    };
    char *directory;
    bool stands;
    int rc = order->subject.hold ? 0 : make_hold(job, order, e);

    if (rc < 0)
        return rc;
    job_set_moment(job, (struct timespec){.tv_sec = order->subject.moment}, order->subject.exact);
    rc = export_run(&request, &directory, &stands, e);
    if (rc < 0)
        return rc;
    registry_set_last_export(desk->registry,
                             order->made_refpoint ? order->made_refpoint : order->owner, directory,
                             stands);
    free(directory);
    return 0;
}

/*
 * The hold ends before the job does: who waited for the result may mark the VM again at once. The
 * export is complete, whatever becomes of the hold: it would still run out by itself.
 */
static int run(struct job *job, void *opaque, struct rp_error *e)
{
    struct order *order = opaque;
    int rc;

    job_set_timeout(job, order->settings.timeout_seconds);
    rc = export(job, order, e);
    end_hold(order, rc == 0);
    return rc;
}

static int submit(struct order *order, uint64_t *ret_job, struct rp_error *e)
{
    struct job_params params = {
        .owner = order->owner,
        .vm = order->subject.vm,
        .vm_name = order->subject.vm_name,
        .uuid = order->subject.uuid,
        .refpoint = order->subject.refpoint,
        .point_id = order->subject.id,
        .export_directory = order->settings.export_directory,
        .makes_directory = outdir_is_missing(order->settings.export_directory, &order->caller),
        .caller = &order->caller,
        .run = run,
        .release = release,
        .opaque = order,
    };
    struct order_desk *desk = order->desk; /* the order may be gone once it is submitted */
    uint64_t owner = order->owner;
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    int rc;

    if (!out)
        return rp_fail_memory(e);
    settings_print(&order->settings, scope_of(order->owner), out);
    fclose(out);
    params.settings = text;
    rc = text ? job_submit(desk->queue, &params, ret_job, e) : rp_fail_memory(e);
    free(text);
    /*
     * The text is a job now. Afterwards: were it before, a reader between the two would see the job
     * before this one. A quick job may have ended by now, hidden by its text from those who were
     * told of its end.
     */
    if (rc == 0)
        order_receiving(desk, owner, -1);
    return rc;
}

static int start(struct order *order, uint64_t *ret_job, struct rp_error *e)
{
    int rc;

    registry_freshen(order->desk->registry, order->owner, ORDER_START_AGE_MS);
    rc = judge(order->desk, order->owner, &order->settings, TEXT_WHOLE, &order->caller, e);
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
    rc = settings_parse(text, length, true, scope_of(owner), &order->settings, e);
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

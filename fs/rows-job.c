// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The files of a job: in jobs/<id>/, and in the job/ of each object that can be exported, where
 * they show its last job. All work on "a job, or the owner of one", as backend_job_info() does.
 * Shows snapshots; any thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "record.h"
#include "rows.h"

static const char *const state_names[] = {
    [JOB_NONE] = "none",
    [JOB_RECEIVING] = "receiving",
    [JOB_NEW] = "new",
    [JOB_STARTING] = "starting",
    [JOB_RUNNING] = "running",
    [JOB_SUSPENDED] = "suspended",
    [JOB_SHUTTING_DOWN] = "shutting-down",
    [JOB_COMPLETED] = "completed",
    [JOB_TERMINATED] = "terminated",
    [JOB_KILLED] = "killed",
    [JOB_EXCEPTION] = "exception",
};

/* 100 is a promise that the export is complete; bytes alone never earn it. */
static unsigned percent(const struct job_info *job)
{
    if (job->state == JOB_COMPLETED)
        return 100;
    if (job->bytes_total == 0)
        return 0;
    if (job->bytes_done >= job->bytes_total)
        return 99;
    unsigned done = (unsigned)((double)job->bytes_done * 100.0 / (double)job->bytes_total);
    return done > 99 ? 99 : done;
}

static void show_durations(const struct job_info *job, FILE *out)
{
    struct timespec until = job->ended;

    if (!job_state_has_ended(job->state))
        clock_gettime(CLOCK_REALTIME, &until);
    /* The clock may have been set back meanwhile. */
    if (job->started.tv_sec != 0 && until.tv_sec >= job->started.tv_sec)
        record_number(out, "elapsed", (uint64_t)(until.tv_sec - job->started.tv_sec));
    else
        record_empty(out, "elapsed");

    if (job_state_has_ended(job->state) && job->state != JOB_NONE)
        record_number(out, "remaining", 0);
    else if (job->rate_bytes > 0 && job->bytes_total >= job->bytes_done)
        record_number(out, "remaining", (job->bytes_total - job->bytes_done) / job->rate_bytes);
    else
        record_empty(out, "remaining");
}

static void show_result(const struct job_info *job, FILE *out)
{
    if (!job->has_result) {
        record_empty(out, "result");
        record_empty(out, "result_name");
        return;
    }
    record_number(out, "result", (uint64_t)job->result);
    record_text(out, "result_name", rp_result_row(job->result)->name);
}

static void show_who_and_where(const struct job_info *job, FILE *out)
{
    record_text(out, "export_directory", job->export_directory);
    if (job->has_caller)
        record_number(out, "caller_uid", job->caller_uid);
    else
        record_empty(out, "caller_uid");
    record_text(out, "last_refusal", job->last_refusal);
}

int rows_show_job_status(const struct node *node, FILE *out, struct rp_error *e)
{
    static const char *const exact[] = {
        [EXACT_UNKNOWN] = "", [EXACT_NO] = "no", [EXACT_YES] = "yes"};
    struct job_info job;
    int ret = backend_job_info(node->backend, node->serial, &job, e);

    if (ret < 0)
        return ret;
    if (job.id)
        record_number(out, "id", job.id);
    else
        record_empty(out, "id");
    record_text(out, "vm", job.vm);
    record_text(out, "reference_point", job.refpoint);
    record_text(out, "state", state_names[job.state]);
    record_number(out, "job_state", job.state >= JOB_NEW ? job.state : 0);
    show_result(&job, out);
    record_text(out, "error", job.error);
    record_number(out, "percent", percent(&job));
    record_number(out, "bytes_done", job.bytes_done);
    record_number(out, "bytes_total", job.bytes_total);
    record_number(out, "rate", job.rate_bytes);
    record_time(out, "moment", job.moment);
    record_text(out, "exact", exact[job.exact]);
    record_time(out, "submitted", job.submitted);
    record_time(out, "started", job.started);
    record_time(out, "ended", job.ended);
    show_durations(&job, out);
    show_who_and_where(&job, out);
    job_info_clear(&job);
    return 0;
}

int rows_show_job_state(const struct node *node, FILE *out, struct rp_error *e)
{
    enum job_state state;
    int result;

    if (backend_job_state(node->backend, node->serial, &state, &result) < 0)
        return rp_fail_errno(e, ENOENT, "the job");
    fprintf(out, "%s\n", state_names[state]);
    return 0;
}

int rows_show_job_result(const struct node *node, FILE *out, struct rp_error *e)
{
    enum job_state state;
    int result;

    if (backend_job_state(node->backend, node->serial, &state, &result) < 0)
        return rp_fail_errno(e, ENOENT, "the job");
    if (state != JOB_NONE)
        fprintf(out, "%d\n", result);
    return 0;
}

int rows_show_job_progress(const struct node *node, FILE *out, struct rp_error *e)
{
    struct job_info job;
    int ret = backend_job_info(node->backend, node->serial, &job, e);

    if (ret < 0)
        return ret;
    fprintf(out, "%u\n", percent(&job));
    job_info_clear(&job);
    return 0;
}

int rows_show_job_error(const struct node *node, FILE *out, struct rp_error *e)
{
    struct job_info job;
    int ret = backend_job_info(node->backend, node->serial, &job, e);

    if (ret < 0)
        return ret;
    if (job.error && *job.error) {
        record_escape(out, job.error);
        putc('\n', out);
    }
    job_info_clear(&job);
    return 0;
}

int rows_show_job_settings(const struct node *node, FILE *out, struct rp_error *e)
{
    struct job_info job;
    int ret = backend_job_info(node->backend, node->serial, &job, e);

    if (ret < 0)
        return ret;
    fputs(job.settings ? job.settings : "", out);
    job_info_clear(&job);
    return 0;
}

/* What a read of `wait` is answered with: nothing before the first job, else the result. */
int rows_show_job_wait(const struct node *node, FILE *out, struct rp_error *e)
{
    return rows_show_job_result(node, out, e);
}

int rows_show_job_cancel(const struct node *node, FILE *out, struct rp_error *e)
{
    struct job_info job;
    int ret = backend_job_info(node->backend, node->serial, &job, e);

    if (ret < 0)
        return ret;
    fprintf(out, "%d\n", job.cancel_requested ? 1 : 0);
    job_info_clear(&job);
    return 0;
}

/* Any byte but white space is a value: a stray newline from an editor must not stop an export. */
static int check_cancel(const struct node *node, const char *text, size_t length,
                        enum text_state state, const struct caller *caller, unsigned *ret_values,
                        struct rp_error *e)
{
    (void)node, (void)state, (void)caller, (void)e;
    record_trim(&text, &length);
    *ret_values = length > 0;
    return 0;
}

static int commit_cancel(const struct node *node, const char *text, size_t length,
                         const struct caller *caller, struct rp_error *e)
{
    (void)text, (void)length, (void)caller;
    return backend_job_cancel(node->backend, node->serial, e);
}

const struct store rows_store_job_cancel = {
    .max = 4096, /* nobody means more than a word; a page is what sysfs takes */
    .at_write = true,
    .check = check_cancel,
    .commit = commit_cancel,
};

enum change rows_job_changes(const struct node *node)
{
    enum job_state state;
    int result;

    if (backend_job_state(node->backend, node->serial, &state, &result) < 0 ||
        !job_state_has_ended(state))
        return CHANGES_FREELY;
    /* That of an owner becomes another job's. */
    return rp_serial_kind(node->serial) == KIND_JOB ? CHANGES_NO_MORE : CHANGES_BY_EVENTS;
}

static const struct attr rows[] = {
    {.path = "", .mode = S_IFDIR | 0755},
    JOB_ROWS(""),
};

const struct class class_job = {"job", KIND_JOB, sizeof rows / sizeof rows[0], rows};

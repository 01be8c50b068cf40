// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What survives the service: read once at the beginning, then written through. Any thread.
 */
#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "statedir.h"

#define UUID_SIZE 37

/* Far from where counting on would begin anew; no service of ours comes there. */
#define JOB_NUMBER_MAX INT64_MAX

/* Of one VM. The uuid comes first: the tree compares by it. */
struct vm_exports {
    char uuid[UUID_SIZE];
    struct kept_exports exports;
};

struct left_hold {
    char uuid[UUID_SIZE];
    struct kept_hold hold;
};

struct journal {
    struct statedir *jobs_dir, *holds_dir, *marks_dir, *exports_dir;
    pthread_mutex_t file; /* of exports on disk: one writer at a time; taken before `lock` */
    pthread_mutex_t lock; /* protects what follows; never held while the disk is written */
    void *exports;        /* a tree, tsearch(3), of struct vm_exports */
    struct kept_job *jobs;
    size_t njobs;
    struct left_hold *holds;
    size_t nholds;
    uint64_t last_job; /* constant once it is open */
};

/* ---- reading ---- */

/* What a text that is called so has the number of; 0: none that a job can have. */
static uint64_t job_number(const char *name)
{
    uint64_t number = strtoull(name, NULL, 10);
    char expected[32];

    snprintf(expected, sizeof expected, "%" PRIu64, number);
    return number <= JOB_NUMBER_MAX && strcmp(expected, name) == 0 ? number : 0;
}

static int take_job(void *opaque, const char *name, const char *text, size_t length,
                    struct rp_error *e)
{
    struct journal *journal = opaque;
    struct kept_job job, *jobs;
    uint64_t number = job_number(name);
    int rc;

    if (number > journal->last_job)
        journal->last_job = number;
    if (!text)
        return 0;
    rc = kept_job_parse(text, length, &job, e);
    if (rc < 0)
        return rc;
    jobs = reallocarray(journal->jobs, journal->njobs + 1, sizeof *jobs);
    if (jobs)
        journal->jobs = jobs;
    if (!jobs || number == 0 || job.id != number) {
        kept_job_clear(&job);
        return jobs ? -EINVAL : rp_fail_memory(e);
    }
    jobs[journal->njobs++] = job;
    return 0;
}

static int take_hold(void *opaque, const char *name, const char *text, size_t length,
                     struct rp_error *e)
{
    struct journal *journal = opaque;
    struct left_hold *holds;
    struct kept_hold hold;
    int rc;

    if (!text)
        return 0;
    rc = strlen(name) == UUID_SIZE - 1 ? kept_hold_parse(text, length, &hold, e) : -EINVAL;
    if (rc < 0)
        return rc;
    holds = reallocarray(journal->holds, journal->nholds + 1, sizeof *holds);
    if (!holds) {
        kept_hold_clear(&hold);
        return rp_fail_memory(e);
    }
    journal->holds = holds;
    holds[journal->nholds].hold = hold;
    memcpy(holds[journal->nholds++].uuid, name, UUID_SIZE);
    return 0;
}

static int compare_vms(const void *a, const void *b)
{
    return strcmp(((const struct vm_exports *)a)->uuid, ((const struct vm_exports *)b)->uuid);
}

static struct vm_exports *find_vm_locked(struct journal *journal, const char *uuid)
{
    struct vm_exports key, **found;

    snprintf(key.uuid, sizeof key.uuid, "%s", uuid);
    found = tfind(&key, &journal->exports, compare_vms);
    return found ? *found : NULL;
}

static void free_vm(void *opaque)
{
    struct vm_exports *vm = opaque;

    kept_exports_clear(&vm->exports);
    free(vm);
}

static struct vm_exports *add_vm_locked(struct journal *journal, const char *uuid)
{
    struct vm_exports *vm = find_vm_locked(journal, uuid);

    if (vm)
        return vm;
    vm = calloc(1, sizeof *vm);
    if (!vm)
        return NULL;
    snprintf(vm->uuid, sizeof vm->uuid, "%s", uuid);
    if (tsearch(vm, &journal->exports, compare_vms))
        return vm;
    free(vm);
    return NULL;
}

static int take_exports(void *opaque, const char *name, const char *text, size_t length,
                        struct rp_error *e)
{
    struct journal *journal = opaque;
    struct kept_exports exports;
    struct vm_exports *vm;
    int rc;

    if (!text)
        return 0;
    rc = strlen(name) == UUID_SIZE - 1 ? kept_exports_parse(text, length, &exports, e) : -EINVAL;
    if (rc < 0)
        return rc;
    vm = add_vm_locked(journal, name);
    if (!vm) {
        kept_exports_clear(&exports);
        return rp_fail_memory(e);
    }
    vm->exports = exports;
    return 0;
}

static int compare_jobs(const void *a, const void *b)
{
    uint64_t first = ((const struct kept_job *)a)->id, second = ((const struct kept_job *)b)->id;

    return first < second ? -1 : first > second;
}

/* ---- opening ---- */

int journal_open(const char *state_dir, struct journal **ret_journal, struct rp_error *e)
{
    struct journal *journal = calloc(1, sizeof *journal);
    int rc;

    if (!journal)
        return rp_fail_memory(e);
    pthread_mutex_init(&journal->file, NULL);
    pthread_mutex_init(&journal->lock, NULL);
    rc = statedir_open(state_dir, "jobs", &journal->jobs_dir, e);
    if (rc == 0)
        rc = statedir_open(state_dir, "holds", &journal->holds_dir, e);
    if (rc == 0)
        rc = statedir_open(state_dir, "marks", &journal->marks_dir, e);
    if (rc == 0)
        rc = statedir_open(state_dir, "exports", &journal->exports_dir, e);
    if (rc == 0)
        rc = statedir_each(journal->jobs_dir, take_job, journal, e);
    if (rc == 0)
        rc = statedir_each(journal->holds_dir, take_hold, journal, e);
    if (rc == 0)
        rc = statedir_each(journal->exports_dir, take_exports, journal, e);
    if (rc < 0) {
        journal_close(journal);
        return rc;
    }
    if (journal->njobs)
        qsort(journal->jobs, journal->njobs, sizeof *journal->jobs, compare_jobs);
    *ret_journal = journal;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    for (size_t i = 0; i < journal->njobs; i++)
        kept_job_clear(&journal->jobs[i]);
    for (size_t i = 0; i < journal->nholds; i++)
        kept_hold_clear(&journal->holds[i].hold);
    free(journal->jobs);
    free(journal->holds);
    tdestroy(journal->exports, free_vm);
    statedir_close(journal->jobs_dir);
    statedir_close(journal->holds_dir);
    statedir_close(journal->marks_dir);
    statedir_close(journal->exports_dir);
    pthread_mutex_destroy(&journal->file);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
}

/* ---- writing ---- */

/* Ends printing to `out`, puts the text under `name` and frees it; NULL: there was no memory. */
static int write_printed(struct statedir *dir, const char *name, FILE *out, char **text,
                         const size_t *length, bool durable, struct rp_error *e)
{
    int rc;

    if (!out || fclose(out) != 0)
        rc = rp_fail_memory(e);
    else
        rc = statedir_write(dir, name, *text, *length, durable, e);
    free(*text);
    return rc;
}

int journal_write_job(struct journal *journal, const struct kept_job *job, struct rp_error *e)
{
    char name[32], *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    snprintf(name, sizeof name, "%" PRIu64, job->id);
    if (out)
        kept_job_print(job, out);
    return write_printed(journal->jobs_dir, name, out, &text, &length, true, e);
}

void journal_remove_job(struct journal *journal, uint64_t id)
{
    char name[32];

    snprintf(name, sizeof name, "%" PRIu64, id);
    statedir_remove(journal->jobs_dir, name);
}

void journal_take_jobs(struct journal *journal, struct kept_job **ret_jobs, size_t *ret_count)
{
    pthread_mutex_lock(&journal->lock);
    *ret_jobs = journal->jobs;
    *ret_count = journal->njobs;
    journal->jobs = NULL;
    journal->njobs = 0;
    pthread_mutex_unlock(&journal->lock);
}

uint64_t journal_last_job(const struct journal *journal)
{
    return journal->last_job;
}

/* ---- holds ---- */

int journal_write_hold(struct journal *journal, const char *uuid, const struct kept_hold *hold,
                       struct rp_error *e)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (out)
        kept_hold_print(hold, out);
    return write_printed(journal->holds_dir, uuid, out, &text, &length, false, e);
}

void journal_remove_hold(struct journal *journal, const char *uuid)
{
    statedir_remove(journal->holds_dir, uuid);
}

static void take_locked(struct journal *journal, size_t index, struct kept_hold *ret_hold)
{
    *ret_hold = journal->holds[index].hold;
    journal->holds[index] = journal->holds[--journal->nholds];
}

bool journal_take_hold(struct journal *journal, const char *uuid, struct kept_hold *ret_hold)
{
    bool found = false;

    pthread_mutex_lock(&journal->lock);
    for (size_t i = 0; i < journal->nholds && !found; i++)
        if (strcmp(journal->holds[i].uuid, uuid) == 0) {
            take_locked(journal, i, ret_hold);
            found = true;
        }
    pthread_mutex_unlock(&journal->lock);
    return found;
}

bool journal_take_any_hold(struct journal *journal, char *ret_uuid, struct kept_hold *ret_hold)
{
    bool found;

    pthread_mutex_lock(&journal->lock);
    found = journal->nholds > 0;
    if (found) {
        memcpy(ret_uuid, journal->holds[0].uuid, UUID_SIZE);
        take_locked(journal, 0, ret_hold);
    }
    pthread_mutex_unlock(&journal->lock);
    return found;
}

/* ---- marks ---- */

int journal_write_mark(struct journal *journal, const char *uuid, const struct kept_mark *mark,
                       struct rp_error *e)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (out)
        kept_mark_print(mark, out);
    return write_printed(journal->marks_dir, uuid, out, &text, &length, true, e);
}

void journal_remove_mark(struct journal *journal, const char *uuid)
{
    statedir_remove(journal->marks_dir, uuid);
}

bool journal_read_mark(struct journal *journal, const char *uuid, struct kept_mark *ret_mark)
{
    struct rp_error ignored;
    size_t length = 0;
    char *text = NULL;
    int rc = statedir_read(journal->marks_dir, uuid, &text, &length, &ignored);

    if (rc == 0)
        rc = kept_mark_parse(text, length, ret_mark, &ignored);
    free(text);
    return rc == 0;
}

/* ---- exports ---- */

static struct kept_export *find_locked(struct journal *journal, const char *uuid,
                                       const char *refpoint)
{
    struct vm_exports *vm = find_vm_locked(journal, uuid);

    for (size_t i = 0; vm && i < vm->exports.count; i++)
        if (strcmp(vm->exports.items[i].refpoint, refpoint) == 0)
            return &vm->exports.items[i];
    return NULL;
}

char *journal_get_export(struct journal *journal, const char *uuid, const char *refpoint,
                         time_t created, const char *id)
{
    const struct kept_export *export;
    char *directory = NULL;

    pthread_mutex_lock(&journal->lock);
    export = find_locked(journal, uuid, refpoint);
    if (export && export->created == (uint64_t)created && strcmp(export->id, id) == 0)
        directory = strdup(export->directory);
    pthread_mutex_unlock(&journal->lock);
    return directory;
}

/* The exports of that VM as they are now. */
static int save_exports(struct journal *journal, const char *uuid, struct rp_error *e)
{
    const struct vm_exports *vm;
    char *text = NULL;
    size_t length;
    bool any = false;
    FILE *out;
    int rc = 0;

    pthread_mutex_lock(&journal->file);
    out = open_memstream(&text, &length);
    pthread_mutex_lock(&journal->lock);
    vm = find_vm_locked(journal, uuid);
    any = vm && vm->exports.count > 0;
    if (out && any)
        kept_exports_print(&vm->exports, out);
    pthread_mutex_unlock(&journal->lock);
    if (any || !out) {
        rc = write_printed(journal->exports_dir, uuid, out, &text, &length, true, e);
    } else {
        fclose(out);
        free(text);
        statedir_remove(journal->exports_dir, uuid);
    }
    pthread_mutex_unlock(&journal->file);
    return rc;
}

static void remove_locked(struct journal *journal, const char *uuid,
                          const struct kept_export *export)
{
    struct vm_exports *vm = find_vm_locked(journal, uuid);

    kept_exports_remove(&vm->exports, (size_t)(export - vm->exports.items));
}

static int set_locked(struct journal *journal, const char *uuid, const char *refpoint,
                      time_t created, const char *id, const char *directory)
{
    struct kept_export *export = find_locked(journal, uuid, refpoint);
    struct vm_exports *vm;

    if (export)
        remove_locked(journal, uuid, export);
    vm = add_vm_locked(journal, uuid);
    export = vm ? kept_exports_add(&vm->exports) : NULL;
    if (!export)
        return -ENOMEM;
    *export = (struct kept_export){
        .refpoint = strdup(refpoint),
        .id = strdup(id),
        .directory = strdup(directory),
        .created = (uint64_t)created,
    };
    if (export->refpoint && export->id && export->directory)
        return 0;
    remove_locked(journal, uuid, export);
    return -ENOMEM;
}

int journal_set_export(struct journal *journal, const char *uuid, const char *refpoint,
                       time_t created, const char *id, const char *directory, struct rp_error *e)
{
    int rc;

    pthread_mutex_lock(&journal->lock);
    rc = set_locked(journal, uuid, refpoint, created, id, directory);
    pthread_mutex_unlock(&journal->lock);
    return rc < 0 ? rp_fail_memory(e) : save_exports(journal, uuid, e);
}

void journal_forget(struct journal *journal, const char *uuid, const char *refpoint)
{
    const struct kept_export *export;
    struct rp_error ignored;
    bool found;

    pthread_mutex_lock(&journal->lock);
    export = find_locked(journal, uuid, refpoint);
    found = export != NULL;
    if (found)
        remove_locked(journal, uuid, export);
    pthread_mutex_unlock(&journal->lock);
    if (found)
        save_exports(journal, uuid, &ignored);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/job.c: the queue's order and bounds, states, cancel, time limits, and an
 * end that leaves nothing behind. Jobs here wait for the test to let them go, so that every state
 * can be looked at without a race.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../backend/job.h"

#define PATIENCE_MS 10000 /* for what must happen; a test that waits so long has failed */

/* What a job of the test does. */
struct script {
    atomic_bool go; /* set by the test: end */
    atomic_bool is_running;
    atomic_int released;
    int result; /* 0, or what to fail with */
    uint64_t timeout_seconds;
};

static atomic_uint events;

static void on_changed(void *opaque, uint64_t serial, unsigned topics)
{
    (void)opaque, (void)serial, (void)topics;
    atomic_fetch_add(&events, 1);
}

static int run(struct job *job, void *opaque, struct rp_error *e)
{
    struct script *script = opaque;
    int rc;

    job_set_timeout(job, script->timeout_seconds);
    job_set_total(job, 100);
    job_set_running(job);
    job_set_done(job, 40);
    script->is_running = true;
    while (!script->go) {
        rc = job_check(job, e);
        if (rc < 0)
            return rc;
        usleep(1000);
    }
    return script->result ? rp_fail(e, script->result, "the script says so") : 0;
}

static void release(void *opaque)
{
    atomic_fetch_add(&((struct script *)opaque)->released, 1);
}

static struct job_queue *open_queue(unsigned max_running)
{
    const struct backend_events to_events = {.changed = on_changed};
    struct job_queue *queue = NULL;
    struct rp_error e;

    assert_int_equal(job_queue_open(max_running, NULL, &to_events, &queue, &e), 0);
    return queue;
}

static int submit(struct job_queue *queue, uint64_t vm, struct script *script, uint64_t *ret_job,
                  struct rp_error *e)
{
    const struct caller caller = {.uid = 7};
    const struct job_params params = {
        .owner = vm + 100,
        .vm = vm,
        .vm_name = "web1",
        .refpoint = "tue",
        .settings = "ExportDirectory=/b\n",
        .export_directory = "/b",
        .uuid = "0",
        .point_id = "",
        .caller = &caller,
        .run = run,
        .release = release,
        .opaque = script,
    };

    return job_submit(queue, &params, ret_job, e);
}

static uint64_t submit_good(struct job_queue *queue, uint64_t vm, struct script *script)
{
    struct rp_error e = RP_ERROR_INIT;
    uint64_t job = 0;

    assert_int_equal(submit(queue, vm, script, &job, &e), 0);
    return job;
}

static enum job_state state_of(struct job_queue *queue, uint64_t job)
{
    enum job_state state = JOB_NONE;
    int result;

    assert_int_equal(job_get_state(queue, job, &state, &result), 0);
    return state;
}

static int result_of(struct job_queue *queue, uint64_t job)
{
    enum job_state state;
    int result = -1;

    assert_int_equal(job_get_state(queue, job, &state, &result), 0);
    return result;
}

static void wait_for_state(struct job_queue *queue, uint64_t job, enum job_state state)
{
    for (int i = 0; i < PATIENCE_MS && state_of(queue, job) != state; i++)
        usleep(1000);
    assert_int_equal(state_of(queue, job), state);
}

static void wait_until_running(struct script *script)
{
    for (int i = 0; i < PATIENCE_MS && !script->is_running; i++)
        usleep(1000);
    assert_true(script->is_running);
}

static void test_runs_to_completion(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script script = {0};
    struct job_info info;
    struct rp_error e;
    uint64_t job = submit_good(queue, 4, &script);

    (void)unused;
    wait_until_running(&script);
    assert_int_equal(job_get_info(queue, job, &info, &e), 0);
    assert_int_equal(info.id, 1);
    assert_int_equal(info.state, JOB_RUNNING);
    assert_int_equal(info.result, RESULT_JOB_STARTED);
    assert_int_equal(info.bytes_done, 40);
    assert_int_equal(info.bytes_total, 100);
    assert_int_equal(info.caller_uid, 7);
    assert_int_equal(info.ended.tv_sec, 0);
    assert_string_equal(info.settings, "ExportDirectory=/b\n");
    job_info_clear(&info);

    script.go = true;
    wait_for_state(queue, job, JOB_COMPLETED);
    assert_int_equal(job_get_info(queue, job, &info, &e), 0);
    assert_int_equal(info.result, RESULT_COMPLETED);
    assert_int_equal(info.bytes_done, 100);
    assert_string_equal(info.error, "");
    assert_true(info.ended.tv_sec >= info.started.tv_sec);
    job_info_clear(&info);
    assert_int_equal(script.released, 1);
    job_queue_close(queue);
    assert_int_equal(script.released, 1);
}

static void test_failure_keeps_number_and_sentence(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script script = {.go = true, .result = RESULT_INVALID_STATE};
    struct job_info info;
    struct rp_error e;
    uint64_t job = submit_good(queue, 4, &script);

    (void)unused;
    wait_for_state(queue, job, JOB_EXCEPTION);
    assert_int_equal(job_get_info(queue, job, &info, &e), 0);
    assert_int_equal(info.result, RESULT_INVALID_STATE);
    assert_string_equal(info.error, "the script says so");
    job_info_clear(&info);
    job_queue_close(queue);
}

static void test_no_more_run_than_allowed_and_in_order(void **unused)
{
    struct job_queue *queue = open_queue(2);
    struct script scripts[4] = {0};
    uint64_t jobs[4];

    (void)unused;
    for (unsigned i = 0; i < 4; i++)
        jobs[i] = submit_good(queue, 4 * (i + 1), &scripts[i]);
    wait_until_running(&scripts[0]);
    wait_until_running(&scripts[1]);
    assert_int_equal(state_of(queue, jobs[2]), JOB_NEW);
    assert_int_equal(state_of(queue, jobs[3]), JOB_NEW);
    assert_int_equal(job_count(queue).queued, 2);
    assert_int_equal(job_count(queue).running, 2);

    scripts[1].go = true;
    wait_until_running(&scripts[2]); /* the older of those that wait */
    assert_int_equal(state_of(queue, jobs[3]), JOB_NEW);
    for (unsigned i = 0; i < 4; i++)
        scripts[i].go = true;
    for (unsigned i = 0; i < 4; i++)
        wait_for_state(queue, jobs[i], JOB_COMPLETED);
    assert_int_equal(job_count(queue).ended, 4);
    job_queue_close(queue);
}

static void test_one_job_a_vm(void **unused)
{
    struct job_queue *queue = open_queue(4);
    struct script first = {0}, second = {.go = true};
    struct rp_error e = RP_ERROR_INIT;
    uint64_t job = submit_good(queue, 4, &first), other = 99;

    (void)unused;
    assert_true(job_vm_is_busy(queue, 4));
    assert_false(job_vm_is_busy(queue, 8));
    assert_int_equal(submit(queue, 4, &second, &other, &e), -EBUSY);
    assert_int_equal(e.result, RESULT_IN_USE);
    assert_int_equal(other, 99);
    assert_int_equal(second.released, 0); /* still the caller's */

    first.go = true;
    wait_for_state(queue, job, JOB_COMPLETED);
    other = submit_good(queue, 4, &second);
    wait_for_state(queue, other, JOB_COMPLETED);
    assert_int_equal(job_last_of(queue, 104), other);
    assert_int_equal(job_last_of(queue, 105), 0);
    job_queue_close(queue);
}

static void test_cancel_while_running(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script script = {0};
    struct rp_error e;
    uint64_t job = submit_good(queue, 4, &script);

    (void)unused;
    wait_until_running(&script);
    assert_int_equal(job_cancel(queue, job, &e), 0);
    wait_for_state(queue, job, JOB_TERMINATED);
    assert_int_equal(result_of(queue, job), RESULT_FAILED);
    /* Once more, of a job that has ended: nothing to do. */
    assert_int_equal(job_cancel(queue, job, &e), 0);
    assert_int_equal(state_of(queue, job), JOB_TERMINATED);
    job_queue_close(queue);
}

static void test_cancel_in_the_queue_never_runs(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script first = {0}, second = {0};
    struct rp_error e;
    uint64_t running = submit_good(queue, 4, &first), queued = submit_good(queue, 8, &second);

    (void)unused;
    wait_until_running(&first);
    assert_int_equal(job_cancel(queue, queued, &e), 0);
    assert_int_equal(state_of(queue, queued), JOB_TERMINATED);
    /* What it was given goes back at once: a hold that stays in use could not be let go. */
    assert_int_equal(second.released, 1);
    assert_int_equal(job_cancel(queue, queued, &e), 0);
    first.go = true;
    wait_for_state(queue, running, JOB_COMPLETED);
    job_queue_close(queue);
    assert_false(second.is_running);
    assert_int_equal(second.released, 1);
}

static void test_time_limit(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script script = {.timeout_seconds = 1};
    uint64_t job = submit_good(queue, 4, &script);

    (void)unused;
    wait_for_state(queue, job, JOB_EXCEPTION);
    assert_int_equal(result_of(queue, job), RESULT_TIMEOUT);
    job_queue_close(queue);
}

static void test_close_ends_what_runs_and_what_waits(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script first = {0}, second = {0};

    (void)unused;
    submit_good(queue, 4, &first);
    submit_good(queue, 8, &second);
    wait_until_running(&first);
    job_queue_close(queue);
    assert_int_equal(first.released, 1);
    assert_int_equal(second.released, 1);
    assert_false(second.is_running);
}

static void test_names_and_listing(void **unused)
{
    struct job_queue *queue = open_queue(4);
    struct script scripts[3] = {{.go = true}, {.go = true}, {.go = true}};
    struct child children[2];
    uint64_t jobs[3], found;

    (void)unused;
    for (unsigned i = 0; i < 3; i++) {
        jobs[i] = submit_good(queue, 4, &scripts[i]);
        wait_for_state(queue, jobs[i], JOB_COMPLETED);
    }
    assert_int_equal(job_list(queue, 0, children, 2), 2);
    assert_string_equal(children[0].name, "1");
    assert_string_equal(children[1].name, "2");
    assert_int_equal(job_list(queue, children[1].serial, children, 2), 1);
    assert_string_equal(children[0].name, "3");
    assert_int_equal(job_find(queue, "2", &found), 0);
    assert_int_equal(found, jobs[1]);
    assert_int_equal(job_find(queue, "02", &found), -ENOENT);
    assert_int_equal(job_find(queue, "4", &found), -ENOENT);
    assert_int_equal(job_stat(queue, 4, children), -ENOENT);
    job_queue_close(queue);
}

/* Old jobs are forgotten, numbers go on, and what is shown stays bounded. */
static void test_old_jobs_are_forgotten(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script script = {.go = true};
    uint64_t job = 0, found;

    (void)unused;
    for (unsigned i = 0; i < 1100; i++) {
        job = submit_good(queue, 4, &script);
        wait_for_state(queue, job, JOB_COMPLETED);
    }
    assert_in_range(job_count(queue).ended, 1000, 1001);
    assert_int_equal(job_find(queue, "1", &found), -ENOENT);
    assert_int_equal(job_find(queue, "1100", &found), 0);
    assert_int_equal(found, job);
    job_queue_close(queue);
    assert_int_equal(script.released, 1100);
}

static void test_changes_are_told(void **unused)
{
    struct job_queue *queue = open_queue(1);
    struct script script = {.go = true};
    unsigned before = events;

    (void)unused;
    wait_for_state(queue, submit_good(queue, 4, &script), JOB_COMPLETED);
    job_queue_close(queue);
    /* Queued, starting, running, completed: for the job and its owner each, and the list. */
    assert_true(events - before >= 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_to_completion),
        cmocka_unit_test(test_failure_keeps_number_and_sentence),
        cmocka_unit_test(test_no_more_run_than_allowed_and_in_order),
        cmocka_unit_test(test_one_job_a_vm),
        cmocka_unit_test(test_cancel_while_running),
        cmocka_unit_test(test_cancel_in_the_queue_never_runs),
        cmocka_unit_test(test_time_limit),
        cmocka_unit_test(test_close_ends_what_runs_and_what_waits),
        cmocka_unit_test(test_names_and_listing),
        cmocka_unit_test(test_old_jobs_are_forgotten),
        cmocka_unit_test(test_changes_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

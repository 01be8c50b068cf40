// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Several disks copied together, each from an nbdkit of its own: what comes out of them, how many
 * at a time, and what becomes of the others when one fails. Servers die with this program.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../backend/copies.h"
#include "../backend/ring.h"

#define MIB(n) ((uint64_t)(n) << 20)

#define DISKS     5u
#define ANSWER_MS 30000u

static char folder[64];

/* One disk from its server to its file. */
struct disk {
    char name[8], socket_path[96], path[96];
    pid_t server;
    struct source *source;
    struct plan *plan;
    struct target *target;
    struct target_layout layout;
};

/* All of them, and what was seen on the way. */
struct run {
    struct disk disks[DISKS];
    bool compressed;
    uint64_t bandwidth_bytes;
    uint64_t cancel_at_bytes; /* 0: never */
    pthread_mutex_t lock;     /* of what follows */
    uint64_t progress_bytes;
    bool in_progress, disordered;
    pthread_t threads[DISKS]; /* those that asked whether to go on */
    unsigned nthreads;
    struct copies_disk copies[DISKS];
    struct rp_error error;
};

static void run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void run_command(const char *format, ...)
{
    char command[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

/* `words`: the plugin and its filters. */
static void start_server(struct disk *disk, const char *words)
{
    char command[512];

    snprintf(command, sizeof command, "exec nbdkit -f -U %s %s 2>/dev/null", disk->socket_path,
             words);
    disk->server = fork();
    if (disk->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
}

/* The server may have its socket and not listen yet. */
static int open_source(struct disk *disk, struct rp_error *e)
{
    const struct source_params params = {.socket_path = disk->socket_path,
                                         .export_name = "",
                                         .connections = 2,
                                         .timeout_ms = ANSWER_MS};
    int rc = source_open(&params, &disk->source, e);

    for (int i = 0; i < 3000 && rc < 0 && e->result == RESULT_NOT_AVAILABLE; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        rc = source_open(&params, &disk->source, e);
    }
    return rc;
}

static void open_disk(struct run *run, struct disk *disk)
{
    const struct target_params target = {.compressed = run->compressed};
    struct rp_error e = RP_ERROR_INIT;

    if (open_source(disk, &e) < 0 || source_plan(disk->source, 65536, &disk->plan, &e) < 0 ||
        target_qcow2.open(disk->plan, &target, &disk->target, &disk->layout, &e) < 0)
        fail_msg("%s", e.message);
}

static void close_disk(struct disk *disk)
{
    target_qcow2.close(disk->target);
    plan_free(disk->plan);
    if (disk->server > 0) {
        kill(disk->server, SIGKILL);
        waitpid(disk->server, NULL, 0);
    }
    unlink(disk->socket_path);
}

static void note_progress(void *opaque, uint64_t bytes_done)
{
    struct run *run = opaque;

    pthread_mutex_lock(&run->lock);
    run->disordered |= run->in_progress || bytes_done < run->progress_bytes;
    run->in_progress = true;
    run->progress_bytes = bytes_done;
    pthread_mutex_unlock(&run->lock);
    sched_yield();
    pthread_mutex_lock(&run->lock);
    run->in_progress = false;
    pthread_mutex_unlock(&run->lock);
}

static int check_run(void *opaque, struct rp_error *e)
{
    struct run *run = opaque;
    unsigned i = 0;
    bool cancel;

    pthread_mutex_lock(&run->lock);
    while (i < run->nthreads && !pthread_equal(run->threads[i], pthread_self()))
        i++;
    if (i == run->nthreads && i < DISKS)
        run->threads[run->nthreads++] = pthread_self();
    cancel = run->cancel_at_bytes && run->progress_bytes >= run->cancel_at_bytes;
    pthread_mutex_unlock(&run->lock);
    return cancel ? rp_fail(e, RESULT_FAILED, "cancelled") : 0;
}

static void prepare(struct run *run, unsigned i, const char *words)
{
    struct disk *disk = &run->disks[i];

    snprintf(disk->name, sizeof disk->name, "vd%c", 'a' + (int)i);
    snprintf(disk->socket_path, sizeof disk->socket_path, "%s/vd%c.sock", folder, 'a' + (int)i);
    snprintf(disk->path, sizeof disk->path, "%s/vd%c", folder, 'a' + (int)i);
    start_server(disk, words);
    open_disk(run, disk);
    run->copies[i] = (struct copies_disk){
        .name = disk->name,
        .params = {.source = disk->source,
                   .plan = disk->plan,
                   .ops = &target_qcow2,
                   .target = disk->target,
                   .layout = &disk->layout,
                   .fd = open(disk->path, O_CREAT | O_TRUNC | O_RDWR, 0600),
                   .checksum = true,
                   .bandwidth_bytes = run->bandwidth_bytes,
                   .stall_ms = ANSWER_MS},
    };
    assert_true(run->copies[i].params.fd >= 0);
}

static int copy(struct run *run, unsigned ndisks)
{
    const struct copies_params params = {.disks = run->copies,
                                         .ndisks = ndisks,
                                         .progress = note_progress,
                                         .check = check_run,
                                         .opaque = run};
    int rc;

    pthread_mutex_init(&run->lock, NULL);
    rc = copies_run(&params, &run->error);
    pthread_mutex_destroy(&run->lock);
    assert_false(run->disordered);
    for (unsigned i = 0; i < ndisks; i++)
        close(run->copies[i].params.fd);
    return rc;
}

static void close_disks(struct run *run, unsigned ndisks)
{
    for (unsigned i = 0; i < ndisks; i++)
        close_disk(&run->disks[i]);
}

/* Compared with a server that has the same, and is not slow. */
static void assert_copied(const struct run *run, unsigned i, unsigned mib)
{
    const struct disk *disk = &run->disks[i];
    char hex[2 * COPY_SHA256_BYTES + 1];

    for (int byte = 0; byte < COPY_SHA256_BYTES; byte++)
        snprintf(hex + 2 * byte, 3, "%02x", run->copies[i].stats.sha256[byte]);
    run_command("echo '%s  %s' | sha256sum -c --quiet", hex, disk->path);
    run_command("qemu-img check -q %s", disk->path);
    run_command("nbdkit -U - pattern %uM --run 'qemu-img compare -q -f raw -F qcow2 $uri %s'", mib,
                disk->path);
}

/* ---- what must come out right ---- */

/* Slow enough that both threads have some to do; one of them is empty, and two are of a size. */
static void five_disks_two_at_a_time(void **state)
{
    static const unsigned sizes[DISKS] = {20, 0, 33, 5, 20};

    (void)state;
    for (int compressed = 0; compressed < 2; compressed++) {
        struct run run = {.compressed = compressed};
        uint64_t total = 0;

        for (unsigned i = 0; i < DISKS; i++) {
            char words[128];

            snprintf(words, sizeof words, "--filter=delay pattern %uM delay-read=100ms", sizes[i]);
            prepare(&run, i, words);
            total += MIB(sizes[i]);
        }
        if (copy(&run, DISKS) < 0)
            fail_msg("%s", run.error.message);
        assert_int_equal(run.progress_bytes, total);
        assert_int_equal(run.nthreads, copy_at_once_max(&run.copies[0].params));
        for (unsigned i = 0; i < DISKS; i++)
            assert_copied(&run, i, sizes[i]);
        close_disks(&run, DISKS);
    }
}

/* The limit is one for all disks together. */
static void a_limit_holds_for_the_sum(void **state)
{
    struct run run = {.bandwidth_bytes = MIB(10)};
    struct timespec begin, end;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        prepare(&run, i, "pattern 4M");
    clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_int_equal(copy(&run, 3), 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    assert_true((double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9 >
                12.0 / 10 * 0.9);
    close_disks(&run, 3);
}

static unsigned starts_to_fail;

typedef void *thread_function(void *opaque);

int __real_ring_start(pthread_t *ret_thread, thread_function *run, void *opaque,
                      struct rp_error *e);
int __wrap_ring_start(pthread_t *ret_thread, thread_function *run, void *opaque,
                      struct rp_error *e);

int __wrap_ring_start(pthread_t *ret_thread, thread_function *run, void *opaque, struct rp_error *e)
{
    if (starts_to_fail == 0)
        return __real_ring_start(ret_thread, run, opaque, e);
    starts_to_fail--;
    return rp_fail(e, RESULT_OUT_OF_MEMORY, "cannot start a thread");
}

/* The second thread only makes it faster. */
static void one_thread_will_do(void **state)
{
    struct run run = {.compressed = false};

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        prepare(&run, i, "--filter=delay pattern 4M delay-read=100ms");
    starts_to_fail = 1;
    if (copy(&run, 3) < 0)
        fail_msg("%s", run.error.message);
    assert_int_equal(run.nthreads, 1);
    for (unsigned i = 0; i < 3; i++)
        assert_copied(&run, i, 4);
    close_disks(&run, 3);
}

/* ---- what must fail, and how ---- */

/* Without the first of its own threads no copy can be. */
static void a_copy_needs_its_threads(void **state)
{
    struct run run = {.compressed = false};

    (void)state;
    prepare(&run, 0, "pattern 1M");
    starts_to_fail = 1;
    assert_true(copy(&run, 1) < 0);
    assert_string_equal(run.error.message, "disk 'vda': cannot start a thread");
    close_disks(&run, 1);
}

/* The other's server would take an hour. */
static void a_failure_ends_the_others(void **state)
{
    struct run run = {.compressed = false};

    (void)state;
    prepare(&run, 0, "--filter=delay pattern 8G delay-read=1");
    prepare(&run, 1, "--filter=error pattern 50M error-pread=EIO error-pread-rate=100%");
    prepare(&run, 2, "pattern 1M");
    assert_int_equal(copy(&run, 3), -EIO);
    assert_int_equal(run.error.result, RESULT_FAILED);
    assert_non_null(strstr(run.error.message, "disk 'vdb': reading at "));
    close_disks(&run, 3);
}

static void a_cancel_ends_all(void **state)
{
    struct run run = {.cancel_at_bytes = MIB(16)};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        prepare(&run, i, "pattern 8G");
    assert_true(copy(&run, 4) < 0);
    assert_non_null(strstr(run.error.message, "cancelled"));
    close_disks(&run, 4);
}

/* ---- */

static int make_folder(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(folder, sizeof folder, "%.40s/unit-copies-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    run_command("rm -rf %s", folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_disks_two_at_a_time),  cmocka_unit_test(a_limit_holds_for_the_sum),
        cmocka_unit_test(one_thread_will_do),        cmocka_unit_test(a_copy_needs_its_threads),
        cmocka_unit_test(a_failure_ends_the_others), cmocka_unit_test(a_cancel_ends_all),
    };

    if (system("command -v nbdkit qemu-img >/dev/null") != 0)
        return 77; /* what the build takes for "skipped" */
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

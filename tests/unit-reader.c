// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * backend/reader.c and held-disk.c against nbdkit: many readers at once, a slow server, one that
 * falls silent, one that dies, one whose reads fail. And the text of extents, at every offset.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../backend/extents.h"
#include "../backend/held-disk.h"
#include "../backend/reader.h"

#define DISK  (UINT64_C(8) << 20)
#define PIECE 4096u

static char folder[] = "/tmp/unit-reader-XXXXXX";
static char path[64], control[96];
static pid_t server;

/* ---- the server ---- */

/* nbdkit with the words, up to seven; each eight bytes of its disk tell their own offset. */
static void start(char *const *words)
{
    char pid_file[80];
    char *arguments[16] = {(char[]){"nbdkit"}, (char[]){"-f"}, (char[]){"-U"}, path,
                           (char[]){"-P"},     pid_file,       (char[]){"-r"}};
    size_t n = 7;

    snprintf(pid_file, sizeof pid_file, "%s/pid", folder);
    unlink(path);
    unlink(pid_file);
    while (*words)
        arguments[n++] = *words++;
    server = fork();
    assert_true(server >= 0);
    if (server == 0) {
        execvp(arguments[0], arguments);
        _exit(127);
    }
    for (int waited = 0; access(pid_file, F_OK) < 0; waited++) {
        assert_true(waited < 1000 && waitpid(server, NULL, WNOHANG) == 0);
        usleep(10000);
    }
    unlink(pid_file);
}

static void stop(void)
{
    if (server > 0) {
        kill(server, SIGCONT);
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
    }
    server = 0;
}

/* Returns when all its threads stand still: until then one may answer. */
static void halt(void)
{
    int status;

    kill(server, SIGSTOP);
    assert_int_equal(waitpid(server, &status, WUNTRACED), server);
    assert_true(WIFSTOPPED(status));
}

static struct reader *open_reader(unsigned threads, unsigned timeout_ms)
{
    const struct reader_params params = {
        .socket_path = path, .export_name = "", .threads = threads, .timeout_ms = timeout_ms};
    struct rp_error e = RP_ERROR_INIT;
    struct reader *reader = NULL;

    if (reader_open(&params, &reader, &e) < 0)
        fail_msg("%s", e.message);
    assert_int_equal(reader_size_bytes(reader), DISK);
    return reader;
}

/* ---- reads ---- */

struct one {
    struct disk_read read;
    uint64_t words[PIECE / 8];
    atomic_int err; /* -1 until done */
};

static void note(struct disk_read *read, int err)
{
    struct one *one = (struct one *)((char *)read - offsetof(struct one, read));

    atomic_store(&one->err, err);
}

static void prepare(struct one *one, uint64_t offset)
{
    one->read =
        (struct disk_read){.buffer = one->words, .length = PIECE, .offset = offset, .done = note};
    atomic_store(&one->err, -1);
}

static int wait_for(struct one *one)
{
    for (int waited = 0; atomic_load(&one->err) < 0; waited++) {
        assert_true(waited < 30000);
        usleep(1000);
    }
    return atomic_load(&one->err);
}

/* nbdkit's pattern has its offsets big-endian. */
static void assert_right(const struct one *one)
{
    for (size_t i = 0; i < PIECE / 8; i++)
        assert_int_equal(__builtin_bswap64(one->words[i]), one->read.offset + 8 * i);
}

#define READERS 16
#define ROUNDS  200

static void *read_much(void *opaque)
{
    struct reader *reader = opaque;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    struct one *ones = calloc(8, sizeof *ones);

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 8; i++) {
            prepare(&ones[i], (uint64_t)rand_r(&seed) % (DISK / 512 - 8) * 512);
            assert_true(reader_read(reader, &ones[i].read));
        }
        for (int i = 0; i < 8; i++) {
            assert_int_equal(wait_for(&ones[i]), 0);
            assert_right(&ones[i]);
        }
    }
    free(ones);
    return NULL;
}

/* More at once than the connections take. */
static void many_readers_each_get_their_own(void **state)
{
    char *const words[] = {(char[]){"pattern"}, (char[]){"8M"}, NULL};
    struct reader *reader;
    pthread_t threads[READERS];

    (void)state;
    start(words);
    reader = open_reader(2, 10000);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_much, reader), 0);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    assert_false(reader_is_dead(reader));
    reader_close(reader);
    stop();
}

static void closing_fails_what_is_under_way(void **state)
{
    char *const words[] = {(char[]){"--filter=delay"}, (char[]){"pattern"}, (char[]){"8M"},
                           (char[]){"rdelay=60"}, NULL};
    static struct one ones[64];
    struct reader *reader;

    (void)state;
    start(words);
    reader = open_reader(2, 60000);
    for (int i = 0; i < 64; i++) {
        prepare(&ones[i], (uint64_t)i * PIECE);
        assert_true(reader_read(reader, &ones[i].read));
    }
    reader_close(reader);
    for (int i = 0; i < 64; i++)
        assert_int_equal(atomic_load(&ones[i].err), ENODEV);
    stop();
}

static void a_silent_server_times_out(void **state)
{
    char *const words[] = {(char[]){"pattern"}, (char[]){"8M"}, NULL};
    static struct one one, other;
    struct reader *reader;

    (void)state;
    start(words);
    reader = open_reader(1, 3000); /* for the connection as well */
    halt();
    prepare(&one, 0);
    assert_true(reader_read(reader, &one.read));
    assert_int_equal(wait_for(&one), ETIMEDOUT);
    assert_true(reader_is_dead(reader));
    prepare(&other, 0);
    assert_false(reader_read(reader, &other.read));
    reader_close(reader);
    stop();
}

static void a_server_that_dies_is_gone(void **state)
{
    char *const words[] = {(char[]){"--filter=delay"}, (char[]){"pattern"}, (char[]){"8M"},
                           (char[]){"rdelay=60"}, NULL};
    static struct one ones[64];
    struct reader *reader;

    (void)state;
    start(words);
    reader = open_reader(2, 60000);
    for (int i = 0; i < 64; i++) {
        prepare(&ones[i], (uint64_t)i * PIECE);
        assert_true(reader_read(reader, &ones[i].read));
    }
    stop();
    for (int i = 0; i < 64; i++)
        assert_int_equal(wait_for(&ones[i]), ENODEV);
    reader_close(reader);
}

/* One read that fails is no reason for others to. */
static void an_error_is_of_its_read_alone(void **state)
{
    char *const words[] = {(char[]){"--filter=error"},
                           (char[]){"pattern"},
                           (char[]){"8M"},
                           (char[]){"error-pread=EIO"},
                           (char[]){"error-rate=1"},
                           control,
                           NULL};
    static struct one one;
    char file[64];
    struct reader *reader;

    (void)state;
    snprintf(file, sizeof file, "%s/fail", folder);
    snprintf(control, sizeof control, "error-file=%s", file);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    start(words);
    reader = open_reader(1, 10000);
    prepare(&one, 0);
    assert_true(reader_read(reader, &one.read));
    assert_int_equal(wait_for(&one), EIO);
    unlink(file);
    prepare(&one, PIECE);
    assert_true(reader_read(reader, &one.read));
    assert_int_equal(wait_for(&one), 0);
    assert_right(&one);
    reader_close(reader);
    stop();
}

static void nobody_there_is_said(void **state)
{
    const struct reader_params params = {
        .socket_path = path, .export_name = "", .threads = 2, .timeout_ms = 1000};
    struct rp_error e = RP_ERROR_INIT;
    struct reader *reader;

    (void)state;
    unlink(path);
    assert_true(reader_open(&params, &reader, &e) < 0);
    assert_int_equal(e.result, RESULT_NOT_AVAILABLE);
}

/* ---- held disks ---- */

static struct disk *new_disk(void)
{
    const struct held_disk_params params = {
        .target = "vda", .socket_path = path, .export_name = ""};
    struct disk *disk = held_disk_new(&params);

    assert_non_null(disk);
    return disk;
}

static void find_out(struct disk *disk, struct disk_info *ret_info)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    assert_true(held_disk_is_stale(disk));
    held_disk_find_out(disk);
    held_disk_wait(disk, ((int64_t)now.tv_sec + 30) * 1000);
    assert_true(held_disk_get_info(disk, ret_info));
    assert_false(held_disk_is_stale(disk));
}

/* 64 KiB of data behind a MiB of nothing, and some at the odd end. */
static void holes_are_known_and_not_asked_for(void **state)
{
    char *const words[] = {(char[]){"data"}, (char[]){"@0x100000 1*65536 @0x2fffff 1"},
                           (char[]){"size=3145729"}, NULL};
    struct disk *disk = new_disk();
    struct rp_error e = RP_ERROR_INIT;
    struct disk_info info;
    static struct one one;
    char text[128] = "";
    uint64_t found;
    size_t length;

    (void)state;
    start(words);
    find_out(disk, &info);
    assert_int_equal(info.size_bytes, 3145729);
    assert_int_equal(held_disk_open(disk, true, &e), 0);
    assert_int_equal(backend_disk_seek(disk, 0, false, &found, &e), 0);
    assert_int_equal(found, 1 << 20);
    assert_int_equal(backend_disk_seek(disk, found, true, &found, &e), 0);
    assert_true(found > 1 << 20 && found < 2 << 20);
    assert_int_equal(backend_disk_seek(disk, 3145729, false, &found, &e), -ENXIO);
    assert_int_equal(backend_disk_print_map(disk, 0, text, sizeof text - 1, &length), 0);
    assert_int_equal(length, info.map_bytes);
    assert_int_equal(strncmp(text, "1048576 ", 8), 0);

    /* The server gone, holes still read as zeros, and data no more. */
    stop();
    memset(one.words, 0xff, PIECE);
    prepare(&one, PIECE);
    backend_disk_read(disk, &one.read);
    assert_int_equal(wait_for(&one), 0);
    assert_int_equal(one.words[0] | one.words[PIECE / 8 - 1], 0);
    prepare(&one, 1 << 20);
    backend_disk_read(disk, &one.read);
    assert_int_equal(wait_for(&one), ENODEV);

    held_disk_end(disk);
    prepare(&one, PIECE);
    backend_disk_read(disk, &one.read);
    assert_int_equal(wait_for(&one), ENODEV);
    assert_int_equal(backend_disk_look(disk, &info), -ENODEV);
    assert_int_equal(backend_disk_seek(disk, 0, false, &found, &e), -ENODEV);
    assert_int_equal(held_disk_open(disk, true, &e), -ENODEV);
    backend_disk_close(disk, true);
    held_disk_unref(disk);
}

/* ---- extents ---- */

static void any_part_of_the_text_is_the_same(void **state)
{
    static char whole[1 << 20], part[1000];
    struct extents *extents;
    struct plan *plan;
    size_t length;

    (void)state;
    assert_int_equal(plan_new(UINT64_C(65536) * 40000 + 512, 65536, &plan, NULL), 0);
    for (uint64_t i = 0; i < 40000; i += 3)
        plan_mark(plan, i * 65536, 65536, i % 2 ? CLUSTER_ZERO : CLUSTER_DATA, NULL);
    plan_mark(plan, UINT64_C(65536) * 40000, 1, CLUSTER_DATA, NULL);
    assert_int_equal(extents_new(plan, &extents, NULL), 0);
    length = extents_print(extents, 0, whole, sizeof whole);
    assert_int_equal(length, extents_length_bytes(extents));
    assert_true(length > 4 * EXTENTS_INDEX_BYTES && length < sizeof whole);
    assert_int_equal(strncmp(whole, "0 65536 data\n196608 65536 zero\n", 31), 0);
    assert_int_equal(strncmp(whole + length - 20, "2621440000 512 data\n", 20), 0);
    for (size_t at = 0; at < length; at += 333) {
        size_t expected = length - at < sizeof part ? length - at : sizeof part;

        assert_int_equal(extents_print(extents, at, part, sizeof part), expected);
        assert_memory_equal(part, whole + at, expected);
    }
    assert_int_equal(extents_print(extents, length, part, sizeof part), 0);
    extents_free(extents);
    plan_free(plan);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/nbd", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    stop();
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_readers_each_get_their_own),
        cmocka_unit_test(closing_fails_what_is_under_way),
        cmocka_unit_test(a_silent_server_times_out),
        cmocka_unit_test(a_server_that_dies_is_gone),
        cmocka_unit_test(an_error_is_of_its_read_alone),
        cmocka_unit_test(nobody_there_is_said),
        cmocka_unit_test(holes_are_known_and_not_asked_for),
        cmocka_unit_test(any_part_of_the_text_is_the_same),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

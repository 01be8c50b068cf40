// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * backend/target-*.c without a source: layouts of plans made here, rendered to files that
 * `qemu-img check` and `qemu-img map` judge, and read back entry by entry.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../backend/target.h"

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define TIB(n) ((uint64_t)(n) << 40)

static char folder[] = "/tmp/unit-target-XXXXXX";
static char file[64];

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

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

struct made {
    struct plan *plan;
    struct target *target;
    struct target_layout layout;
};

static void made_open(struct made *m, struct plan *plan, const struct target_params *params)
{
    static const struct target_params alone;
    struct rp_error e = RP_ERROR_INIT;

    m->plan = plan;
    if (target_qcow2.open(plan, params ? params : &alone, &m->target, &m->layout, &e) < 0)
        fail_msg("%s", e.message);
}

static void made_close(struct made *m)
{
    target_qcow2.close(m->target);
    plan_free(m->plan);
}

/* What stands in the file from `at` on, at most `window` of it: metadata is written, data stays a
 * hole. Returns its length. */
static uint64_t write_piece(struct made *m, int fd, uint64_t at, size_t window, uint64_t *metadata)
{
    unsigned char *buffer;
    uint64_t from, length = target_qcow2.find(m->target, at, &from);

    if (length == 0)
        return plan_cluster_bytes(m->plan);
    /* All of it, once, in its order. */
    assert_int_equal(from, *metadata);
    if (length > window)
        length = window;
    buffer = malloc(length);
    memset(buffer, 0xee, length); /* what is not rendered shows */
    target_qcow2.render(m->target, from, buffer, length);
    assert_int_equal(pwrite(fd, buffer, length, (off_t)at), length);
    free(buffer);
    *metadata += length;
    return length;
}

/* Metadata in ascending windows. */
static void write_file(struct made *m, size_t window)
{
    int fd = open(file, O_CREAT | O_TRUNC | O_RDWR, 0600);
    uint64_t metadata = 0, at = 0;

    assert_true(fd >= 0);
    while (at < m->layout.file_bytes)
        at += write_piece(m, fd, at, window, &metadata);
    assert_int_equal(at, m->layout.file_bytes);
    assert_int_equal(metadata, m->layout.metadata_bytes);
    assert_int_equal(ftruncate(fd, (off_t)m->layout.file_bytes), 0);
    close(fd);
}

static struct plan *new_plan(uint64_t size, uint32_t cluster)
{
    struct plan *plan;

    assert_int_equal(plan_new(size, cluster, &plan, NULL), 0);
    return plan;
}

static struct plan *random_plan(uint64_t *seed, uint64_t size, uint32_t cluster, int marks)
{
    struct plan *plan = new_plan(size, cluster);

    for (int i = 0; i < marks; i++)
        assert_int_equal(plan_mark(plan, next_random(seed) % size,
                                   next_random(seed) % (cluster * 20ull),
                                   next_random(seed) % 3 ? CLUSTER_DATA : CLUSTER_ZERO, NULL),
                         0);
    return plan;
}

static uint64_t read_entry(int fd, uint64_t offset)
{
    uint64_t entry;

    assert_int_equal(pread(fd, &entry, sizeof entry, (off_t)offset), sizeof entry);
    return be64toh(entry);
}

/* Follows L1 and L2 for each cluster of the disk, and compares with the plan. */
static void assert_mapping(const struct made *m)
{
    const uint64_t copied = UINT64_C(1) << 63, size = plan_size_bytes(m->plan);
    uint64_t cluster = plan_cluster_bytes(m->plan), span = cluster / 8 * cluster;
    uint64_t front = m->layout.metadata_bytes, host, tables = 0;
    int fd = open(file, O_RDONLY);
    uint64_t l1 = read_entry(fd, 40);
    struct plan_run run;

    for (uint64_t at = 0; at < size; at += span)
        tables += read_entry(fd, l1 + at / span * 8) != 0;
    host = front - tables * cluster;

    for (uint64_t at = 0; at < size; at += cluster) {
        uint64_t table = read_entry(fd, l1 + at / cluster / (cluster / 8) * 8), entry = 0;

        assert_true(plan_run_within(m->plan, at, at + cluster, &run));
        if (table && at % span == 0) {
            assert_int_equal(table, host | copied);
            host += cluster;
        }
        if (table) {
            entry = read_entry(fd, (table & ~copied) + at / cluster % (cluster / 8) * 8);
        }
        if (run.state == CLUSTER_DATA) {
            assert_int_equal(entry, host | copied);
            host += cluster;
        } else {
            assert_int_equal(entry, run.state == CLUSTER_ZERO ? 1 : 0);
        }
    }
    assert_int_equal(host, m->layout.file_bytes);
    close(fd);
}

static void random_plans_make_sound_files(void **state)
{
    static const uint32_t clusters[] = {4096, 8192, 65536, 1u << 20, 2u << 20};

    (void)state;
    for (uint64_t round = 0; round < 20; round++) {
        uint64_t seed = 7919 * (round + 1);
        uint32_t cluster = clusters[round % 5];
        uint64_t size = 512 * (1 + next_random(&seed) % (cluster * 3ull));
        struct made m;

        made_open(&m, random_plan(&seed, size, cluster, (int)(round * 3)), NULL);
        write_file(&m, KIB(512) * (1 + round % 4));
        run_command("qemu-img check -q %s", file);
        assert_mapping(&m);
        made_close(&m);
    }
}

/* Asked in any order, it answers as when asked in the file's. */
static void assert_finds_anywhere(const struct made *m, uint64_t *seed)
{
    uint32_t cluster = plan_cluster_bytes(m->plan);
    uint64_t clusters = m->layout.file_bytes / cluster, from = 0;
    uint64_t *lengths = calloc(clusters, sizeof *lengths),
             *metadata = calloc(clusters, sizeof from);

    for (uint64_t i = 0; i < clusters; i++)
        lengths[i] = target_qcow2.find(m->target, i * cluster, &metadata[i]);
    for (int round = 0; round < 2000; round++) {
        uint64_t i = next_random(seed) % clusters, within = next_random(seed) % cluster;
        uint64_t length = target_qcow2.find(m->target, i * cluster + within, &from);

        assert_int_equal(length, lengths[i] ? lengths[i] - within : 0);
        if (length)
            assert_int_equal(from, metadata[i] + within);
    }
    free(lengths);
    free(metadata);
}

/* The cursor is an optimization: any window, in any order, shows the same bytes. */
static void windows_are_independent(void **state)
{
    static const uint32_t clusters[] = {4096, 65536, 2u << 20};

    (void)state;
    for (unsigned c = 0; c < 3; c++) {
        uint64_t seed = 99 + c;
        struct made m;
        unsigned char *whole, part[8192];

        made_open(&m, random_plan(&seed, clusters[c] * 5000ull, clusters[c], 300), NULL);
        whole = malloc(m.layout.metadata_bytes);
        target_qcow2.render(m.target, 0, whole, m.layout.metadata_bytes);
        for (int i = 0; i < 2000; i++) {
            size_t length = 512 * (1 + next_random(&seed) % 16);
            uint64_t at = next_random(&seed) % (m.layout.metadata_bytes - length) / 512 * 512;

            target_qcow2.render(m.target, at, part, length);
            assert_memory_equal(part, whole + at, length);
        }
        free(whole);
        assert_finds_anywhere(&m, &seed);
        made_close(&m);
    }
}

static void eight_tib_sparse(void **state)
{
    struct plan *plan = new_plan(TIB(8), 65536);
    struct made m;

    (void)state;
    for (uint64_t i = 0; i < 64; i++)
        assert_int_equal(plan_mark(plan, i * (TIB(8) / 64), MIB(1), CLUSTER_DATA, NULL), 0);
    assert_int_equal(plan_mark(plan, TIB(8) - 1, 1, CLUSTER_DATA, NULL), 0);
    made_open(&m, plan, NULL);
    write_file(&m, MIB(1));
    assert_true(m.layout.metadata_bytes < MIB(6));
    run_command("qemu-img check -q %s", file);
    made_close(&m);
}

/* 8 TiB of data: more refcount blocks than one cluster of table holds, and a full L1. Too large to
 * write, so the entries are judged where they are computed. */
static void eight_tib_full(void **state)
{
    struct plan *plan = new_plan(TIB(8), 65536);
    uint64_t at;
    struct made m;
    uint64_t entries[64];
    uint16_t *counts = malloc(65536);

    (void)state;
    assert_int_equal(plan_mark(plan, 0, TIB(8), CLUSTER_DATA, NULL), 0);
    made_open(&m, plan, NULL);
    target_qcow2.render(m.target, m.layout.metadata_bytes - 512, entries, 512);
    for (int i = 0; i < 64; i++) {
        uint64_t host = m.layout.file_bytes - (64 - (uint64_t)i) * 65536;

        assert_int_equal(be64toh(entries[i]), host | UINT64_C(1) << 63);
    }
    assert_int_equal(m.layout.file_bytes, m.layout.metadata_bytes + TIB(8));

    /* The last refcount block counts exactly up to the file's end. */
    target_qcow2.render(m.target, 0, entries, 512);
    at = be64toh(entries[6]);
    target_qcow2.render(m.target, at, entries, 512);
    at = be64toh(entries[0]) + (m.layout.file_bytes - 1) / 65536 / 32768 * 65536;
    target_qcow2.render(m.target, at, counts, 65536);
    for (uint64_t i = 0; i < 32768; i++)
        assert_int_equal(be16toh(counts[i]),
                         (m.layout.file_bytes - 1) / 65536 % 32768 >= i ? 1 : 0);
    free(counts);
    made_close(&m);
}

static void small_clusters_have_a_largest_disk(void **state)
{
    static const struct target_params alone;
    struct target_layout layout;
    struct target *target;
    struct rp_error e = RP_ERROR_INIT;
    struct plan *plan = new_plan(TIB(8), 4096);
    struct made m;

    (void)state;
    made_open(&m, plan, NULL);
    write_file(&m, MIB(2));
    run_command("qemu-img check -q %s", file);
    made_close(&m);
    plan = new_plan(TIB(8) + 1, 4096);
    assert_int_equal(target_qcow2.open(plan, &alone, &target, &layout, &e), -EOPNOTSUPP);
    plan_free(plan);
}

static void tiny_disks(void **state)
{
    static const uint64_t sizes[] = {0, 1, 512, 513, 65535, 65536, 65537};

    (void)state;
    for (unsigned i = 0; i < 7; i++)
        for (int state_of_all = CLUSTER_SKIP; state_of_all <= CLUSTER_DATA; state_of_all++) {
            struct plan *plan = new_plan(sizes[i], 65536);
            struct made m;

            assert_int_equal(plan_mark(plan, 0, sizes[i], (enum cluster_state)state_of_all, NULL),
                             0);
            made_open(&m, plan, NULL);
            write_file(&m, 4096);
            run_command("qemu-img check -q %s", file);
            run_command("test $(qemu-img info --output=json %s | "
                        "sed -n 's/.*\"virtual-size\": \\([0-9]*\\).*/\\1/p' | head -1) = %llu",
                        file, (unsigned long long)((sizes[i] + 511) / 512 * 512));
            made_close(&m);
        }
}

static void the_backing_file_is_named(void **state)
{
    char name[1024];
    const struct target_params params = {.backing_file = name, .backing_format = "raw"};
    struct made m;

    (void)state;
    for (size_t length = 1; length <= 1023; length += 511) {
        memset(name, 'b', length);
        name[length] = '\0';
        made_open(&m, new_plan(MIB(1), 4096), &params);
        write_file(&m, 4096);
        run_command("qemu-img info -U --output=json %s | grep -q '\"backing-filename\": \"%s\"'",
                    file, length < 600 ? name : "b*");
        run_command("qemu-img info -U %s | grep -q 'backing file format: raw'", file);
        made_close(&m);
    }
}

static void what_cannot_be_held_is_refused(void **state)
{
    char name[1025];
    struct target_params params = {.backing_file = name, .backing_format = "qcow2"};
    struct plan *plan = new_plan(MIB(1), 65536), *small = new_plan(MIB(1), 2048),
                *large = new_plan(MIB(1), 4u << 20);
    struct target *target = NULL;
    struct target_layout layout = {.file_bytes = 77};
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    memset(name, 'b', 1024);
    name[1024] = '\0';
    assert_int_equal(target_qcow2.open(plan, &params, &target, &layout, &e), -EOPNOTSUPP);
    assert_int_equal(e.result, RESULT_NOT_SUPPORTED);
    assert_non_null(strstr(e.message, "1024 bytes"));
    assert_int_equal(target_raw.open(plan, &params, &target, &layout, &e), -EOPNOTSUPP);
    params.backing_file = "base";
    params.backing_format = NULL;
    assert_int_equal(target_qcow2.open(plan, &params, &target, &layout, &e), -EOPNOTSUPP);
    params.backing_file = NULL;
    assert_int_equal(target_qcow2.open(small, &params, &target, &layout, &e), -EOPNOTSUPP);
    assert_int_equal(target_raw.open(large, &params, &target, &layout, &e), -EOPNOTSUPP);
    assert_null(target);
    assert_int_equal(layout.file_bytes, 77);
    plan_free(plan);
    plan_free(small);
    plan_free(large);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/disk.qcow2", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_plans_make_sound_files),
        cmocka_unit_test(windows_are_independent),
        cmocka_unit_test(eight_tib_sparse),
        cmocka_unit_test(eight_tib_full),
        cmocka_unit_test(small_clusters_have_a_largest_disk),
        cmocka_unit_test(tiny_disks),
        cmocka_unit_test(the_backing_file_is_named),
        cmocka_unit_test(what_cannot_be_held_is_refused),
    };

    if (system("command -v qemu-img >/dev/null") != 0)
        return 77; /* what the build takes for "skipped" */
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

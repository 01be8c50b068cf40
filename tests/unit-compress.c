// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Compressed files without a source: blocks made here go through press and packer as in a copy, and
 * what comes out is judged by qemu-img, by a walk over its tables, and against the same data raw.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../backend/compress.h"
#include "../backend/packer.h"
#include "../backend/reread.h"
#include "../backend/target.h"

#define KIB(n)      ((uint64_t)(n) << 10)
#define MIB(n)      ((uint64_t)(n) << 20)
#define GIB(n)      ((uint64_t)(n) << 30)
#define TIB(n)      ((uint64_t)(n) << 40)
#define BLOCK_BYTES MIB(2)
#define COPIED      (UINT64_C(1) << 63)
#define COMPRESSED  (UINT64_C(1) << 62)

static char folder[] = "/tmp/unit-compress-XXXXXX";
static char file[64], raw_file[64];

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

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

/* ---- data of all kinds ---- */

enum kind { ZEROS, NOISE, WORDS, SAME, NEARLY_NOISE, KINDS };

static void fill(unsigned char *to, size_t length, enum kind kind, uint64_t *seed)
{
    for (size_t i = 0; i < length; i += 8) {
        uint64_t value = next_random(seed);

        if (kind == ZEROS)
            value = 0;
        else if (kind == SAME)
            value = 0x7777777777777777;
        else if (kind == WORDS)
            value = 0x2065687420666f20 + (value & 0x0300000700030007);
        else if (kind == NEARLY_NOISE && i % 256 < 8)
            value = 0;
        memcpy(to + i, &value, 8);
    }
}

/* ---- a copy without a source ---- */

struct made {
    struct plan *plan;
    struct target *target;
    struct target_layout layout;
    int level;
    enum kind kind; /* KINDS: mixed */
    uint64_t seed;
    struct rp_error error;
    uint64_t file_bytes;
    /* What the walk saw. */
    uint64_t compressed, whole, zero;
};

static void made_open(struct made *m, struct plan *plan)
{
    const struct target_params params = {.compressed = true};

    m->plan = plan;
    if (target_qcow2.open(plan, &params, &m->target, &m->layout, &m->error) < 0)
        fail_msg("%s", m->error.message);
    assert_true(m->layout.compressed);
}

static void made_close(struct made *m)
{
    target_qcow2.close(m->target);
    plan_free(m->plan);
}

static struct ring_block *claim(struct ring *ring)
{
    struct ring_progress progress;

    for (;;) {
        struct ring_block *block = ring_claim(ring);

        ring_get_progress(ring, &progress);
        if (block || progress.failed)
            return progress.failed ? NULL : block;
        poll(&(struct pollfd){.fd = ring_wake_fd(ring), .events = POLLIN}, 1, 30000);
        ring_clear_wake(ring);
    }
}

/* The clusters of one run of data, through the ring and into the raw file. Blocks end where the
 * copy's do, and a run need not fill one. */
static void produce_run(struct made *m, struct ring *ring, struct ring_block **block,
                        const struct plan_run *run, int raw)
{
    uint64_t cluster = plan_cluster_bytes(m->plan);

    for (uint64_t at = 0; at < run->length_bytes; at += cluster) {
        uint64_t left = run->length_bytes - at;
        size_t length = (size_t)(left < cluster ? left : cluster);
        enum kind kind = m->kind < KINDS ? m->kind : (enum kind)(next_random(&m->seed) % KINDS);
        unsigned char *to;

        if (!*block && !(*block = claim(ring)))
            return;
        to = (*block)->data + (*block)->length;
        fill(to, (size_t)cluster, kind, &m->seed);
        memset(to + length, 0, (size_t)cluster - length);
        if (raw >= 0)
            assert_int_equal(pwrite(raw, to, length, (off_t)(run->offset_bytes + at)), length);
        (*block)->length += (size_t)cluster;
        (*block)->source_bytes += length;
        if ((*block)->length == BLOCK_BYTES) {
            (*block)->sealed = true;
            *block = NULL;
            ring_publish(ring);
        }
    }
}

static void produce(struct made *m, struct ring *ring, int raw)
{
    struct ring_block *block = NULL;
    struct plan_run run = {0, 0, CLUSTER_SKIP};

    while (plan_next_data(m->plan, run.offset_bytes + run.length_bytes, &run))
        produce_run(m, ring, &block, &run, raw);
    if (block) {
        block->sealed = true;
        ring_publish(ring);
    }
    ring_end(ring);
}

/* Returns 0 or the error that the threads noted. */
static int make_file(struct made *m, unsigned presses, int fd, int raw)
{
    const struct ring_params params = {BLOCK_BYTES, 6, {[RING_WRITER] = 1, [RING_PRESS] = presses}};
    struct writer writer = {.fd = fd};
    struct compress compress = {.cluster_bytes = plan_cluster_bytes(m->plan), .level = m->level};
    struct packer packer = {.writer = &writer,
                            .ops = &target_qcow2,
                            .target = m->target,
                            .data_offset = m->layout.data_offset,
                            .cluster_bytes = compress.cluster_bytes};
    pthread_t threads[9];
    struct ring *ring;
    int rc;

    assert_int_equal(ring_new(&params, &ring, &m->error), 0);
    compress.ring = ring;
    writer.ring = ring;
    assert_int_equal(ring_start(&threads[0], packer_run, &packer, &m->error), 0);
    for (unsigned i = 0; i < presses; i++)
        assert_int_equal(ring_start(&threads[1 + i], compress_run, &compress, &m->error), 0);
    produce(m, ring, raw);
    for (unsigned i = 0; i < 1 + presses; i++)
        pthread_join(threads[i], NULL);
    m->file_bytes = writer.file_bytes;
    rc = ring_error(ring, &m->error);
    ring_free(ring);
    return rc;
}

/* ---- judges ---- */

static uint64_t read_entry(int fd, uint64_t offset)
{
    uint64_t entry;

    assert_int_equal(pread(fd, &entry, sizeof entry, (off_t)offset), sizeof entry);
    return be64toh(entry);
}

static void look_at_entry(struct made *m, uint64_t entry, enum cluster_state state)
{
    uint64_t cluster = plan_cluster_bytes(m->plan);

    if (state != CLUSTER_DATA) {
        assert_int_equal(entry, state == CLUSTER_ZERO);
        return;
    }
    m->compressed += !!(entry & COMPRESSED);
    m->whole += !!(entry & COPIED);
    m->zero += entry == 1;
    if (entry & COMPRESSED)
        assert_false(entry & COPIED);
    else if (entry != 1)
        assert_int_equal((entry & ~COPIED) % cluster, 0);
}

/* Follows L1 and L2 for each cluster of the disk. */
static void walk(struct made *m)
{
    uint64_t cluster = plan_cluster_bytes(m->plan), size = plan_size_bytes(m->plan);
    int fd = open(file, O_RDONLY);
    uint64_t l1 = read_entry(fd, 40);
    struct plan_run run;

    assert_int_equal(read_entry(fd, 72), 8);                  /* incompatible features */
    assert_int_equal(read_entry(fd, 104), UINT64_C(1) << 56); /* compression type */
    for (uint64_t at = 0; at < size; at += cluster) {
        uint64_t table = read_entry(fd, l1 + at / cluster / (cluster / 8) * 8), entry = 0;

        assert_true(plan_run_within(m->plan, at, at + cluster, &run));
        if (table)
            entry = read_entry(fd, (table & ~COPIED) + at / cluster % (cluster / 8) * 8);
        look_at_entry(m, entry, run.state);
    }
    assert_int_equal(m->compressed + m->whole + m->zero, plan_count(m->plan, CLUSTER_DATA));
    close(fd);
}

static void assert_made(struct made *m, unsigned presses)
{
    int fd = open(file, O_CREAT | O_TRUNC | O_RDWR, 0600);
    int raw = open(raw_file, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    struct stat st;

    assert_int_equal(ftruncate(raw, (off_t)((plan_size_bytes(m->plan) + 511) / 512 * 512)), 0);
    if (make_file(m, presses, fd, raw) < 0)
        fail_msg("%s", m->error.message);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, m->file_bytes);
    assert_int_equal(m->file_bytes % plan_cluster_bytes(m->plan), 0);
    assert_true(m->file_bytes <= m->layout.file_bytes);
    close(fd);
    close(raw);
    run_command("qemu-img check -q %s", file);
    run_command("qemu-img compare -q -f raw -F qcow2 %s %s", raw_file, file);
    walk(m);
}

static struct plan *new_plan(uint64_t size, uint32_t cluster)
{
    struct plan *plan;

    assert_int_equal(plan_new(size, cluster, &plan, NULL), 0);
    return plan;
}

static struct plan *full_plan(uint64_t size, uint32_t cluster)
{
    struct plan *plan = new_plan(size, cluster);

    assert_int_equal(plan_mark(plan, 0, size, CLUSTER_DATA, NULL), 0);
    return plan;
}

/* ---- */

static void random_disks_come_back(void **state)
{
    static const uint32_t clusters[] = {4096, 65536, 2u << 20, 8192, 1u << 20, 32768, 262144};
    static const int levels[] = {1, 3, 9, 1};

    (void)state;
    for (uint64_t round = 0; round < 28; round++) {
        uint64_t seed = 7919 * (round + 1);
        uint32_t cluster = clusters[round % 7];
        uint64_t size = 1 + next_random(&seed) % MIB(round % 4 ? 24 : 1);
        struct plan *plan = new_plan(size, cluster);
        struct made m = {.level = levels[round % 4], .kind = KINDS, .seed = seed};

        for (unsigned i = 0; i < round * 2; i++)
            assert_int_equal(plan_mark(plan, next_random(&seed) % size,
                                       next_random(&seed) % (cluster * 20ull),
                                       next_random(&seed) % 3 ? CLUSTER_DATA : CLUSTER_ZERO, NULL),
                             0);
        made_open(&m, plan);
        assert_made(&m, 1 + (unsigned)round % 3);
        made_close(&m);
    }
}

/* 40 MiB in clusters of 4 KiB: several refcount blocks, and L2 tables in more than one piece. */
static void many_small_clusters(void **state)
{
    (void)state;
    for (enum kind kind = WORDS; kind <= KINDS; kind += KINDS - WORDS) {
        struct made m = {.level = 1, .kind = kind, .seed = 5};

        made_open(&m, full_plan(MIB(150) - 4096 * 3, 4096));
        assert_made(&m, 2);
        assert_true(m.compressed > 10000);
        made_close(&m);
    }
}

static void what_does_not_shrink_stays_whole(void **state)
{
    (void)state;
    for (enum kind kind = ZEROS; kind < KINDS; kind++) {
        struct made m = {.level = 1, .kind = kind, .seed = 11};

        made_open(&m, full_plan(MIB(9), 65536));
        assert_made(&m, 2);
        assert_int_equal(m.zero, kind == ZEROS ? 144 : 0);
        assert_int_equal(m.whole, kind == NOISE || kind == NEARLY_NOISE ? 144 : 0);
        if (kind == ZEROS)
            assert_int_equal(m.file_bytes, m.layout.data_offset);
        if (kind == NOISE)
            assert_int_equal(m.file_bytes, m.layout.file_bytes);
        if (kind == SAME) /* all in one host cluster */
            assert_int_equal(m.file_bytes, m.layout.data_offset + 65536);
        made_close(&m);
    }
}

static void highest_level_of_large_clusters(void **state)
{
    struct made m = {.level = 19, .kind = KINDS, .seed = 3};

    (void)state;
    made_open(&m, full_plan(MIB(12), 2u << 20));
    assert_made(&m, 2);
    made_close(&m);
}

static void tools_understand_it(void **state)
{
    struct made m = {.level = 1, .kind = WORDS, .seed = 3};

    (void)state;
    made_open(&m, full_plan(MIB(20) + 512, 65536));
    assert_made(&m, 2);
    run_command("qemu-img info -U %s | grep -q 'compression type: zstd'", file);
    run_command("qemu-img map --output=json %s | grep -q '\"data\": true'", file);
    run_command("qemu-img convert -f qcow2 -O qcow2 %s %s.copy && "
                "qemu-img compare -q %s %s.copy && rm %s.copy",
                file, file, file, file, file);
    /* Writing takes clusters apart that share a host cluster: the refcounts must be right. */
    run_command("qemu-io -f qcow2 -c 'write -P 0x42 1000k 300k' -c 'write -z 3M 1M' "
                "-c 'discard 5M 2M' -c 'read -P 0x42 1000k 300k' %s >/dev/null",
                file);
    run_command("qemu-io -f raw -c 'write -P 0x42 1000k 300k' -c 'write -z 3M 1M' "
                "-c 'write -z 5M 2M' %s >/dev/null",
                raw_file);
    run_command("qemu-img check -q %s && qemu-img compare -q -f raw -F qcow2 %s %s", file, raw_file,
                file);
    run_command("qemu-img resize -q -f qcow2 %s 30M && qemu-img check -q %s", file, file);
    made_close(&m);
}

/* ---- the target alone: sizes that no test could compress ---- */

/* Places clusters of the length, and writes metadata only. Returns the places of the last call. */
static void place_all(struct made *m, uint32_t length, int fd, uint64_t *ret_offsets)
{
    uint64_t left = plan_count(m->plan, CLUSTER_DATA);
    uint32_t lengths[TARGET_PLACE_MAX];
    struct target_piece piece;

    for (size_t i = 0; i < TARGET_PLACE_MAX; i++)
        lengths[i] = length;
    for (;;) {
        size_t n = left < TARGET_PLACE_MAX ? (size_t)left : TARGET_PLACE_MAX;

        while (target_qcow2.settle(m->target, &piece))
            if (fd >= 0)
                assert_int_equal(pwrite(fd, piece.data, piece.length, (off_t)piece.offset),
                                 piece.length);
        if (n == 0)
            break;
        target_qcow2.place(m->target, lengths, n, ret_offsets);
        left -= n;
    }
    if (fd >= 0)
        assert_int_equal(ftruncate(fd, (off_t)target_qcow2.length(m->target)), 0);
}

/* 16 bits count at most 65,535 owners of a host cluster; 200,000 of 20 bytes would fit into two. */
static void owners_of_a_host_cluster_are_limited(void **state)
{
    struct made m = {0};
    uint64_t offsets[TARGET_PLACE_MAX];
    int fd = open(file, O_CREAT | O_TRUNC | O_RDWR, 0600);

    (void)state;
    made_open(&m, full_plan(200000 * MIB(2), 2u << 20));
    place_all(&m, 20, fd, offsets);
    close(fd);
    assert_int_equal(target_qcow2.length(m.target), m.layout.data_offset + 4 * MIB(2));
    run_command("qemu-img check -q %s", file);
    made_close(&m);
}

static void eight_tib(void **state)
{
    struct made m = {0};
    uint64_t offsets[TARGET_PLACE_MAX];

    (void)state;
    made_open(&m, full_plan(TIB(8), 65536));
    place_all(&m, 30001, -1, offsets);
    assert_int_equal(offsets[TARGET_PLACE_MAX - 1],
                     m.layout.data_offset + (TIB(8) / 65536 - 1) * 30001);
    made_close(&m);
}

/* Large clusters leave fewer bits for where a compressed one begins. */
static void places_beyond_an_entrys_bits_are_refused(void **state)
{
    const struct target_params params = {.compressed = true};
    struct plan *plan = full_plan(TIB(512), 2u << 20), *half = full_plan(TIB(256), 2u << 20);
    struct target *target = NULL;
    struct target_layout layout = {.file_bytes = 77};
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    assert_int_equal(target_qcow2.open(plan, &params, &target, &layout, &e), -EOPNOTSUPP);
    assert_null(target);
    assert_int_equal(layout.file_bytes, 77);
    assert_int_equal(target_raw.open(half, &params, &target, &layout, &e), -EOPNOTSUPP);
    assert_int_equal(target_qcow2.open(half, &params, &target, &layout, &e), 0);
    target_qcow2.close(target);
    plan_free(plan);
    plan_free(half);
}

/* ---- failures ---- */

static void a_failed_write_ends_it(void **state)
{
    struct made m = {.level = 1, .kind = NOISE, .seed = 1};
    int fd = open(file, O_CREAT | O_TRUNC | O_RDWR, 0600);
    int read_only = open(file, O_RDONLY);

    (void)state;
    made_open(&m, full_plan(MIB(64), 65536));
    assert_int_equal(make_file(&m, 2, read_only, -1), -EBADF);
    assert_non_null(strstr(m.error.message, "writing at "));
    close(fd);
    close(read_only);
    made_close(&m);
}

static int refuse(void *opaque, struct rp_error *e)
{
    unsigned *asked = opaque;

    return ++*asked == 3 ? rp_fail(e, RESULT_FAILED, "cancelled") : 0;
}

static void the_checksum_of_a_file(void **state)
{
    unsigned char sum[32], untouched[32];
    char hex[65];
    struct rp_error e = RP_ERROR_INIT;
    unsigned asked = 0;
    int fd;

    (void)state;
    run_command("head -c 20000007 /dev/urandom > %s", file);
    fd = open(file, O_RDWR);
    assert_int_equal(reread_hash(fd, 20000007, NULL, NULL, sum, &e), 0);
    assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    run_command("echo '%s  %s' | sha256sum -c --quiet", hex, file);

    memset(untouched, 7, sizeof untouched);
    memcpy(sum, untouched, sizeof sum);
    assert_int_equal(reread_hash(fd, 20000007, refuse, &asked, sum, &e), -EIO);
    assert_string_equal(e.message, "cancelled");
    assert_int_equal(reread_hash(fd, 30000000, NULL, NULL, sum, &e), -EIO);
    assert_non_null(strstr(e.message, "reading what was written at "));
    assert_memory_equal(sum, untouched, sizeof sum);
    close(fd);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/disk.qcow2", folder);
    snprintf(raw_file, sizeof raw_file, "%s/disk.raw", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(file);
    unlink(raw_file);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_disks_come_back),
        cmocka_unit_test(many_small_clusters),
        cmocka_unit_test(what_does_not_shrink_stays_whole),
        cmocka_unit_test(highest_level_of_large_clusters),
        cmocka_unit_test(tools_understand_it),
        cmocka_unit_test(owners_of_a_host_cluster_are_limited),
        cmocka_unit_test(eight_tib),
        cmocka_unit_test(places_beyond_an_entrys_bits_are_refused),
        cmocka_unit_test(a_failed_write_ends_it),
        cmocka_unit_test(the_checksum_of_a_file),
    };

    if (system("command -v qemu-img >/dev/null") != 0)
        return 77; /* what the build takes for "skipped" */
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The data path whole: source, plan, target, copy, against real NBD servers on a socket in a folder
 * of this run's own. Every file written is judged by qemu-img and, where a checksum was asked for,
 * by sha256sum. Servers die with this program, however it ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../backend/copy.h"
#include "../backend/ring.h"
#include "../backend/writer.h"

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define TIB(n) ((uint64_t)(n) << 40)

#define ANSWER_MS 30000u /* for servers that do answer, on a machine however slow */

static char folder[64];
static char shm_folder[64];
static char socket_path[80];
static pid_t server;

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static double seconds(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- commands and servers, all in the folder ---- */

static int try_command(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run_command(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void start_server(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int try_command(const char *format, ...)
{
    char command[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return system(command);
}

static void run_command(const char *format, ...)
{
    char command[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static bool has_program(const char *name)
{
    return try_command("command -v %s >/dev/null", name) == 0;
}

static bool server_answers(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answers;

    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    answers = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return answers;
}

/* Starts it in the foreground and returns when it accepts connections. */
static void start_server(const char *format, ...)
{
    char command[2048];
    int length = snprintf(command, sizeof command, "exec 2>%s/log; exec ", folder);
    va_list args;

    va_start(args, format);
    vsnprintf(command + length, sizeof command - (size_t)length, format, args);
    va_end(args);
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 3000 && !server_answers(); i++) {
        if (waitpid(server, NULL, WNOHANG) == server) {
            server = 0;
            fail_msg("ended at once: %s", command);
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    if (!server_answers())
        fail_msg("does not answer: %s", command);
}

static void stop_server(void)
{
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
    }
    server = 0;
    unlink(socket_path);
}

/* Read-only, and for many clients at once: what lets QEMU offer several connections. */
#define QSD_FILE                                                                                   \
    "qemu-storage-daemon --blockdev driver=file,filename=%s/%s,node-name=f,read-only=on "
#define QSD_EXPORT                                                                                 \
    "--nbd-server addr.type=unix,addr.path=%s --export type=nbd,id=e,node-name=%s,name=vda%s"

static void serve_raw(const char *name)
{
    start_server(QSD_FILE "--blockdev driver=raw,file=f,node-name=r,read-only=on " QSD_EXPORT,
                 folder, name, socket_path, "r", "");
}

static void serve_qcow2(const char *name, const char *bitmaps)
{
    start_server(QSD_FILE "--blockdev driver=qcow2,file=f,node-name=q,read-only=on " QSD_EXPORT,
                 folder, name, socket_path, "q", bitmaps);
}

/* ---- an export, with all that can be turned ---- */

struct job {
    const char *export_name, *bitmap, *backing_file; /* NULL: "vda", none, none */
    const char *folder, *file;                       /* NULL: `folder`, "out" */
    bool raw, checksum, compressed;
    uint32_t cluster_bytes; /* 0: 64 KiB */
    uint64_t bandwidth_bytes;
    unsigned connections, stall_ms, timeout_ms; /* 0: 2, ANSWER_MS, ANSWER_MS */
    int level;
    int (*check)(void *opaque, struct rp_error *e);
    /* Seen on the way. */
    uint64_t progress_bytes, data_bytes, layout_bytes;
    unsigned checks;
    struct copy_stats stats;
    struct rp_error error;
};

static void note_progress(void *opaque, uint64_t bytes_done)
{
    struct job *job = opaque;

    assert_true(bytes_done >= job->progress_bytes);
    job->progress_bytes = bytes_done;
}

static int check_job(void *opaque, struct rp_error *e)
{
    struct job *job = opaque;

    job->checks++;
    return job->check ? job->check(job, e) : 0;
}

static unsigned count_threads(void)
{
    struct stat st;

    return stat("/proc/self/task", &st) == 0 ? (unsigned)st.st_nlink - 2 : 0;
}

/* A thread that was joined is still listed until the kernel has buried it. */
static void assert_threads(unsigned expected)
{
    for (int i = 0; i < 1000 && count_threads() != expected; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_int_equal(count_threads(), expected);
}

static void *return_at_once(void *opaque)
{
    return opaque;
}

static int copy_with(struct job *job, struct source *source, const struct plan *plan,
                     struct target *target, const struct target_layout *layout)
{
    unsigned threads = count_threads();
    struct copy_params params = {
        .source = source,
        .plan = plan,
        .ops = job->raw ? &target_raw : &target_qcow2,
        .target = target,
        .layout = layout,
        .checksum = job->checksum,
        .compression_level = job->level,
        .bandwidth_bytes = job->bandwidth_bytes,
        .stall_ms = job->stall_ms ? job->stall_ms : ANSWER_MS,
        .progress = note_progress,
        .check = check_job,
        .opaque = job,
    };
    char path[256];
    int rc;

    snprintf(path, sizeof path, "%s/%s", job->folder ? job->folder : folder,
             job->file ? job->file : "out");
    params.fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    assert_true(params.fd >= 0);
    rc = copy_run(&params, &job->stats, &job->error);
    assert_int_equal(fcntl(params.fd, F_GETFL) & O_DIRECT, 0);
    close(params.fd);
    assert_int_equal(source_in_flight(source), 0);
    assert_threads(threads);
    return rc;
}

static int open_source(struct job *job, struct source **ret_source)
{
    const struct source_params params = {
        .socket_path = socket_path,
        .export_name = job->export_name ? job->export_name : "vda",
        .bitmap = job->bitmap,
        .connections = job->connections ? job->connections : 2,
        .timeout_ms = job->timeout_ms ? job->timeout_ms : ANSWER_MS,
    };

    return source_open(&params, ret_source, &job->error);
}

static int export_disk(struct job *job)
{
    const struct target_ops *ops = job->raw ? &target_raw : &target_qcow2;
    const struct target_params params = {
        .backing_file = job->backing_file,
        .backing_format = job->backing_file ? "qcow2" : NULL,
        .compressed = job->compressed,
    };
    struct source *source = NULL;
    struct plan *plan = NULL;
    struct target *target = NULL;
    struct target_layout layout;
    int rc = open_source(job, &source);

    if (rc == 0)
        rc = source_plan(source, job->cluster_bytes ? job->cluster_bytes : 65536, &plan,
                         &job->error);
    if (rc == 0)
        rc = ops->open(plan, &params, &target, &layout, &job->error);
    if (rc == 0) {
        job->data_bytes = plan_data_bytes(plan);
        job->layout_bytes = layout.file_bytes;
        rc = copy_with(job, source, plan, target, &layout);
    }
    ops->close(target);
    plan_free(plan);
    source_close(source);
    return rc;
}

/* The digest is that of the file as it lies on disk, holes, padding and all. */
static void assert_sha256(const struct job *job, const char *path)
{
    char hex[2 * COPY_SHA256_BYTES + 1];

    for (int i = 0; i < COPY_SHA256_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", job->stats.sha256[i]);
    run_command("echo '%s  %s' | sha256sum -c --quiet", hex, path);
}

static void assert_exported(struct job *job)
{
    const char *where = job->folder ? job->folder : folder;
    const char *name = job->file ? job->file : "out";
    char path[256];
    struct stat st;

    if (export_disk(job) < 0)
        fail_msg("%d: %s", job->error.result, job->error.message);
    snprintf(path, sizeof path, "%s/%s", where, name);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, job->stats.file_bytes);
    if (job->compressed)
        assert_true(job->stats.file_bytes <= job->layout_bytes);
    else
        assert_int_equal(job->stats.file_bytes, job->layout_bytes);
    assert_int_equal(job->progress_bytes, job->data_bytes);
    assert_int_equal(job->stats.bytes_read, job->data_bytes);
    if (job->checksum)
        assert_sha256(job, path);
    if (!job->raw)
        run_command("qemu-img check -q %s", path);
}

/* A file of `size` with islands of bytes, random and of few kinds, the same for a seed. */
static void make_random_file(const char *name, uint64_t size, uint64_t *seed, unsigned islands)
{
    unsigned char *bytes = malloc(MIB(4));
    char path[256];
    int fd;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    for (size_t i = 0; i < MIB(4); i += 8)
        memcpy(bytes + i,
               &(uint64_t){next_random(seed) & (i & KIB(128) ? 0x0103010f00030701 : UINT64_MAX)},
               8);
    for (unsigned i = 0; i < islands && size > 0; i++) {
        uint64_t offset = next_random(seed) % size;
        uint64_t length = 1 + next_random(seed) % (i % 3 ? KIB(200) : MIB(3));

        if (length > size - offset)
            length = size - offset;
        assert_int_equal(pwrite(fd, bytes + next_random(seed) % MIB(1), length, (off_t)offset),
                         length);
    }
    close(fd);
    free(bytes);
}

/* ---- what must come out right ---- */

static void random_disks_copy_exactly(void **state)
{
    static const uint32_t clusters[] = {65536, 4096, 2u << 20, 1u << 20, 32768};

    (void)state;
    for (uint64_t round = 1; round <= 24; round++) {
        uint64_t seed = round * 1000003;
        uint64_t size = 512 * (1 + next_random(&seed) % (MIB(round < 4 ? 1 : 90) / 512));
        struct job job = {.cluster_bytes = clusters[round % 5],
                          .checksum = round % 2,
                          .raw = round % 3 == 0,
                          .compressed = round % 3 == 1,
                          .connections = 1 + (unsigned)round % 4};

        make_random_file("source", size, &seed, (unsigned)round * 4);
        serve_raw("source");
        assert_exported(&job);
        stop_server();
        run_command("qemu-img compare -q -f raw -F %s %s/source %s/out", job.raw ? "raw" : "qcow2",
                    folder, folder);
        if (job.raw)
            run_command("cmp %s/source %s/out", folder, folder);
    }
}

static void raw_files_stay_sparse(void **state)
{
    struct job job = {.raw = true, .checksum = true};
    uint64_t seed = 5;
    char path[256];
    struct stat st;

    (void)state;
    make_random_file("source", MIB(200) + 513 * 3, &seed, 5);
    run_command("printf end | dd of=%s/source bs=1 seek=%llu conv=notrunc status=none", folder,
                (unsigned long long)MIB(199));
    start_server("nbdkit -f -U %s file %s/source", socket_path, folder);
    assert_exported(&job);
    run_command("cmp %s/source %s/out", folder, folder);
    snprintf(path, sizeof path, "%s/out", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 < MIB(20));
    assert_true(job.stats.bytes_written < MIB(20));
}

static void disks_of_any_size(void **state)
{
    static const uint64_t sizes[] = {0, 1, 511, 512, 4095, 65537, 1000003, 3 * 1048576 + 7};

    (void)state;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int raw = 0; raw < 3; raw++) {
            struct job job = {.raw = raw == 1, .compressed = raw == 2, .checksum = true};

            start_server("nbdkit -f -U %s pattern %llu", socket_path, (unsigned long long)sizes[i]);
            assert_exported(&job);
            assert_int_equal(job.data_bytes, sizes[i]);
            if (sizes[i] > 0)
                run_command("nbdcopy 'nbd+unix:///?socket=%s' %s/source", socket_path, folder);
            else
                run_command(": > %s/source", folder);
            stop_server();
            run_command("qemu-img convert -f %s -O raw %s/out %s/back", job.raw ? "raw" : "qcow2",
                        folder, folder);
            run_command("cmp -n %llu %s/source %s/back", (unsigned long long)sizes[i], folder,
                        folder);
        }
}

static void look_into_eight_tib(void)
{
    /* qemu-img compare would take minutes: the places that hold data, and one that does not. */
    run_command("cd %s && qemu-io -r -f qcow2 -c 'read -v 0 512' out | grep -q begin", folder);
    run_command("cd %s && qemu-io -r -f qcow2 -c 'read -v 0x3fffffffe00 1024' out | "
                "grep -q middlemiddle",
                folder);
    run_command("cd %s && qemu-io -r -f qcow2 -c 'read -v 0x7fffffffe00 512' out | grep -q end",
                folder);
    run_command("cd %s && ! qemu-io -r -f qcow2 -c 'read -P 0 1M 1G' out | grep -q failed", folder);
}

static void eight_tib_sparse(void **state)
{
    struct job job = {.checksum = true};

    (void)state;
    start_server("nbdkit -f -U %s data size=8T '@0 \"begin\" @0x3ffffff0000 \"middle\"*100000 "
                 "@0x7ffffffff00 \"end\"'",
                 socket_path);
    assert_exported(&job);
    assert_true(job.layout_bytes < MIB(64));
    look_into_eight_tib();
    job = (struct job){.checksum = true, .compressed = true};
    assert_exported(&job);
    look_into_eight_tib();
}

/* A disk with all that a delta must tell apart, before and after a bitmap was added. */
static void make_changed_disk(unsigned cluster, const char *size)
{
    run_command("cd %s && qemu-img create -q -f qcow2 -o cluster_size=%u disk %s", folder, cluster,
                size);
    run_command("cd %s && qemu-io -f qcow2 -c 'write -P 0x11 0 12M' -c 'write -P 0x22 20M 3M' "
                "-c 'write -P 0x33 30M 1000k' disk >/dev/null",
                folder);
    run_command("cd %s && qemu-img convert -f qcow2 -O qcow2 disk base", folder);
    run_command("cd %s && qemu-img bitmap --add disk mon", folder);
    run_command("cd %s && qemu-io -f qcow2 -c 'write -P 0x55 0 1M' -c 'write -P 0x66 2100k 3k' "
                "-c 'write -z 4M 1M' -c 'discard 6M 1M' -c 'write -z 8200k 5k' "
                "-c 'write -P 0x77 40M 70k' -c 'write -z 45M 1M' disk >/dev/null",
                folder);
}

static void deltas_stand_on_their_base(void **state)
{
    static const struct {
        unsigned disk_cluster, cluster;
        const char *size;
    } cases[] = {{65536, 65536, "64M"},
                 {65536, 4096, "50001K"},
                 {4096, 65536, "49999K"},
                 {1048576, 2097152, "64M"}};

    (void)state;
    for (unsigned n = 0; n < 2 * sizeof cases / sizeof cases[0]; n++) {
        unsigned i = n / 2;
        struct job job = {.bitmap = "mon",
                          .backing_file = "base",
                          .compressed = n % 2,
                          .cluster_bytes = cases[i].cluster,
                          .checksum = true,
                          .connections = 1 + i % 3};

        make_changed_disk(cases[i].disk_cluster, cases[i].size);
        serve_qcow2("disk", ",bitmaps.0=mon");
        assert_exported(&job);
        stop_server();
        assert_true(job.data_bytes < (cases[i].cluster > 65536 ? MIB(16) : MIB(3)));
        run_command("qemu-img compare -q -f qcow2 -F qcow2 %s/disk %s/out", folder, folder);
        /* What the guest zeroed hides the base, and costs no data. */
        run_command("cd %s && qemu-io -f qcow2 -c 'read -P 0 4M 1M' -c 'read -P 0 6M 1M' "
                    "-c 'read -P 0 45M 1M' out | grep -q . && ! qemu-io -f qcow2 "
                    "-c 'read -P 0 4M 1M' out | grep -q 'verification failed'",
                    folder);
        run_command("cd %s && qemu-img map -f qcow2 --output=json out >/dev/null", folder);
        run_command("cd %s && cp base base2 && cp out top2 && "
                    "qemu-img rebase -q -u -f qcow2 -b base2 -F qcow2 top2 && "
                    "qemu-img commit -q -f qcow2 top2 && "
                    "qemu-img compare -q -f qcow2 -F qcow2 disk base2",
                    folder);
        run_command("cd %s && qemu-img rebase -q -f qcow2 -b '' out && "
                    "qemu-img compare -q -f qcow2 -F qcow2 disk out && qemu-img check -q out",
                    folder);
    }
}

/*
 * The socket is there before anybody listens on it, and connecting to see would take the one place
 * of a server that has one: what the kernel says of it, where 00010000 is __SO_ACCEPTCON.
 */
static bool server_listens(void)
{
    return try_command("grep -q ' 00010000 .* %s$' /proc/net/unix", socket_path) == 0;
}

/* qemu-nbd without --shared takes one client: both contexts then share its one connection. */
static void a_delta_by_one_connection(void **state)
{
    struct job job = {.bitmap = "mon", .backing_file = "base", .export_name = ""};

    (void)state;
    if (!has_program("qemu-nbd"))
        skip();
    make_changed_disk(65536, "64M");
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (chdir(folder) == 0)
            execlp("qemu-nbd", "qemu-nbd", "-r", "-t", "-f", "qcow2", "-B", "mon", "-k",
                   socket_path, "disk", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 3000 && !server_listens(); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_exported(&job);
    stop_server();
    run_command("qemu-img compare -q -f qcow2 -F qcow2 %s/disk %s/out", folder, folder);
}

static void an_empty_delta(void **state)
{
    struct job job = {.bitmap = "none", .backing_file = "base"};

    (void)state;
    make_changed_disk(65536, "64M");
    run_command("qemu-img bitmap --add %s/disk none && cp %s/disk %s/base", folder, folder, folder);
    serve_qcow2("disk", ",bitmaps.0=none,bitmaps.1=mon");
    assert_exported(&job);
    assert_int_equal(job.data_bytes, 0);
    stop_server();
    run_command("qemu-img compare -q -f qcow2 -F qcow2 %s/disk %s/out", folder, folder);
}

/* Many small changes: one block of the file gathers many reads. */
static void a_scattered_delta(void **state)
{
    struct job job = {.bitmap = "mon", .backing_file = "base", .checksum = true};
    struct job pressed = {
        .bitmap = "mon", .backing_file = "base", .checksum = true, .compressed = true};
    char path[256];
    FILE *script;

    (void)state;
    make_changed_disk(65536, "300M");
    snprintf(path, sizeof path, "%s/script", folder);
    script = fopen(path, "w");
    for (unsigned i = 0; i < 500; i++)
        fprintf(script, "write -%s %uk 4k\n", i % 5 ? "P 0x99" : "z", 64 * (i * 9 + i % 7));
    fclose(script);
    run_command("qemu-io -f qcow2 %s/disk < %s >/dev/null", folder, path);
    serve_qcow2("disk", ",bitmaps.0=mon");
    assert_exported(&job);
    run_command("qemu-img compare -U -q -f qcow2 -F qcow2 %s/disk %s/out", folder, folder);
    assert_exported(&pressed);
    assert_true(pressed.stats.file_bytes < MIB(2));
    stop_server();
    run_command("qemu-img compare -q -f qcow2 -F qcow2 %s/disk %s/out", folder, folder);
}

static void servers_limits_are_kept(void **state)
{
    struct job job = {.checksum = true, .compressed = true};
    struct job small = {.cluster_bytes = 4096};

    (void)state;
    start_server("nbdkit -f -U %s --filter=blocksize-policy pattern 5M blocksize-minimum=8K "
                 "blocksize-preferred=8K blocksize-maximum=96K blocksize-error-policy=error",
                 socket_path);
    assert_exported(&job);
    run_command("qemu-img compare -q -f raw -F qcow2 'nbd+unix:///?socket=%s' %s/out", socket_path,
                folder);
    assert_int_equal(export_disk(&small), -EOPNOTSUPP);
}

/* Without block status everything is data; without structured replies, too. */
static void plain_servers_are_copied_whole(void **state)
{
    static const char *const options[] = {"--no-sr", "--filter=noextents"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct job job = {.checksum = true};

        start_server("nbdkit -f -U %s %s data size=3M '@1048576 1 2 3'", socket_path, options[i]);
        assert_exported(&job);
        assert_int_equal(job.data_bytes, MIB(3));
        run_command("qemu-img compare -q -f raw -F qcow2 'nbd+unix:///?socket=%s' %s/out",
                    socket_path, folder);
        stop_server();
    }
}

/*
 * A block at an odd place is what direct I/O refuses with the same errno as a file system that has
 * none; from there on the writer is buffered, and flushes behind itself.
 */
static void a_refused_direct_write_is_buffered(void **state)
{
    enum { BLOCKS = 60, FIRST = 7 };
    const struct ring_params ring = {MIB(1), 4, {[RING_WRITER] = 1}};
    struct writer writer = {.file_bytes = FIRST + BLOCKS * MIB(1)};
    struct ring_progress progress;
    struct rp_error e = RP_ERROR_INIT;
    unsigned char *expected = malloc(writer.file_bytes), *seen = malloc(writer.file_bytes);
    pthread_t thread;
    char path[256];

    (void)state;
    snprintf(path, sizeof path, "%s/out", folder);
    writer.fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    assert_int_equal(ring_new(&ring, &writer.ring, &e), 0);
    assert_int_equal(pthread_create(&thread, NULL, writer_run, &writer), 0);
    memset(expected, 0, FIRST);
    for (unsigned i = 0; i < BLOCKS;) {
        struct ring_block *block = ring_claim(writer.ring);

        if (!block) {
            poll(&(struct pollfd){.fd = ring_wake_fd(writer.ring), .events = POLLIN}, 1, 30000);
            ring_clear_wake(writer.ring);
            continue;
        }
        block->offset = FIRST + i * MIB(1);
        block->length = MIB(1);
        block->sealed = true;
        memset(block->data, (int)++i, MIB(1));
        memset(expected + block->offset, (int)i, MIB(1));
        ring_publish(writer.ring);
    }
    ring_end(writer.ring);
    pthread_join(thread, NULL);
    assert_false(writer.direct);
    ring_get_progress(writer.ring, &progress);
    assert_int_equal(ring_error(writer.ring, &e), 0);
    assert_int_equal(progress.running, 0);
    assert_int_equal(pread(writer.fd, seen, writer.file_bytes, 0), writer.file_bytes);
    assert_memory_equal(seen, expected, writer.file_bytes);
    assert_int_equal(writer.bytes_written, BLOCKS * MIB(1));
    close(writer.fd);
    ring_free(writer.ring);
    free(expected);
    free(seen);
}

static void memory_file_systems_are_written_too(void **state)
{
    struct job job = {.checksum = true, .folder = shm_folder};
    struct job raw = {.checksum = true, .folder = shm_folder, .raw = true};
    struct job pressed = {.checksum = true, .folder = shm_folder, .compressed = true};

    (void)state;
    snprintf(shm_folder, sizeof shm_folder, "/dev/shm/unit-copy-XXXXXX");
    if (!mkdtemp(shm_folder)) {
        shm_folder[0] = '\0';
        skip();
    }
    start_server("nbdkit -f -U %s pattern 70000001", socket_path);
    assert_exported(&job);
    run_command("qemu-img compare -q -f raw -F qcow2 'nbd+unix:///?socket=%s' %s/out", socket_path,
                shm_folder);
    assert_exported(&raw);
    assert_exported(&pressed);
    run_command("qemu-img compare -q -f raw -F qcow2 'nbd+unix:///?socket=%s' %s/out", socket_path,
                shm_folder);
}

static void assert_warm_ups(unsigned wanted, const char *size, uint64_t bandwidth_bytes)
{
    struct job job = {.bandwidth_bytes = bandwidth_bytes};

    start_server("nbdkit -f -U %s --filter=log pattern %s logfile=%s/requests", socket_path, size,
                 folder);
    assert_exported(&job);
    stop_server();
    run_command("cd %s && test $(grep -c 'Read .*count=0x400000' requests) = %u && rm requests",
                folder, wanted);
}

/* By one long read, where the copy is long enough to gain by it, and is not told to be slow. */
static void servers_are_warmed_up(void **state)
{
    (void)state;
    assert_warm_ups(1, "16M", 0);
    assert_warm_ups(0, "15M", 0);
    assert_warm_ups(0, "16M", MIB(1000));
}

/* ---- what must fail, and how ---- */

static void assert_fails(struct job *job, int result, const char *words)
{
    assert_true(export_disk(job) < 0);
    if (job->error.result != result || !strstr(job->error.message, words))
        fail_msg("%d: %s", job->error.result, job->error.message);
}

static void what_cannot_be_opened(void **state)
{
    struct job job = {.timeout_ms = 200};
    struct job bitmap = {.bitmap = "tue"}, other = {.export_name = "vdb"};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_fails(&job, RESULT_NOT_AVAILABLE, socket_path);

    /* A socket that nobody reads from, and then one that nobody listens on. */
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_fails(&job, RESULT_TIMEOUT, "handshake");
    close(fd);
    assert_fails(&job, RESULT_NOT_AVAILABLE, socket_path);
    unlink(socket_path);

    make_changed_disk(65536, "64M");
    serve_qcow2("disk", ",bitmaps.0=mon");
    assert_fails(&bitmap, RESULT_INVALID_STATE, "'tue'");
    assert_fails(&other, RESULT_INVALID_PARAMETER, "'vdb'");
}

static void a_read_error_names_its_offset(void **state)
{
    struct job job = {.checksum = true}, pressed = {.checksum = true, .compressed = true};

    (void)state;
    start_server(
        "nbdkit -f -U %s --filter=error pattern 50M error-pread=EIO error-pread-rate=100%%",
        socket_path);
    assert_fails(&pressed, RESULT_FAILED, "reading at ");
    assert_fails(&job, RESULT_FAILED, "reading at ");
    assert_non_null(strstr(job.error.message, ": Input/output error"));
}

/* A server without a fault and one with: the file is never taken for good. */
static void now_and_then_a_read_error(void **state)
{
    struct job job = {.raw = true};

    (void)state;
    start_server("nbdkit -f -U %s --filter=error pattern 200M error-pread=EIO error-pread-rate=5%%",
                 socket_path);
    assert_fails(&job, RESULT_FAILED, "reading at ");
}

static void a_silent_server_times_out(void **state)
{
    struct job by_copy = {.stall_ms = 300}, by_source = {.timeout_ms = 300};
    double start = seconds(CLOCK_MONOTONIC);

    (void)state;
    start_server("nbdkit -f -U %s --filter=delay pattern 50M delay-read=60", socket_path);
    assert_fails(&by_copy, RESULT_TIMEOUT, "nothing was read for 300 ms");
    stop_server(); /* nbdkit may not survive a client that left before its late reply */
    start_server("nbdkit -f -U %s --filter=delay pattern 50M delay-read=60", socket_path);
    assert_fails(&by_source, RESULT_TIMEOUT, "did not answer for 300 ms");
    assert_true(seconds(CLOCK_MONOTONIC) - start < 30);
}

static int kill_server(void *opaque, struct rp_error *e)
{
    struct job *job = opaque;

    (void)e;
    if (job->progress_bytes > 0 && server > 0)
        kill(server, SIGKILL);
    return 0;
}

static void a_killed_server_ends_the_copy(void **state)
{
    (void)state;
    for (int compressed = 0; compressed < 2; compressed++) {
        struct job job = {.check = kill_server,
                          .bandwidth_bytes = MIB(20),
                          .checksum = true,
                          .compressed = compressed};

        start_server("nbdkit -f -U %s pattern 400M", socket_path);
        /* It may show as a lost connection, or as the failure of a read. */
        assert_fails(&job, RESULT_FAILED, "reading at ");
        assert_true(job.progress_bytes > 0);
        assert_true(job.progress_bytes < MIB(400));
        stop_server();
    }
}

static int cancel_job(void *opaque, struct rp_error *e)
{
    struct job *job = opaque;

    return job->progress_bytes > 0 ? rp_fail(e, RESULT_FAILED, "cancelled") : 0;
}

static void a_cancel_ends_the_copy(void **state)
{
    struct job job = {.check = cancel_job, .bandwidth_bytes = MIB(20), .checksum = true};
    struct job unlimited = {.check = cancel_job, .raw = true};
    struct job pressed = {.check = cancel_job, .checksum = true, .compressed = true};
    struct job slowly = {.check = cancel_job, .compressed = true, .level = 19};

    (void)state;
    start_server("nbdkit -f -U %s pattern 8G", socket_path);
    assert_fails(&job, RESULT_FAILED, "cancelled");
    assert_fails(&unlimited, RESULT_FAILED, "cancelled");
    assert_fails(&pressed, RESULT_FAILED, "cancelled");
    assert_fails(&slowly, RESULT_FAILED, "cancelled");
}

/* All is written, and what remains is to read the file for its checksum. */
static int cancel_at_end(void *opaque, struct rp_error *e)
{
    struct job *job = opaque;

    return job->progress_bytes == MIB(64) ? rp_fail(e, RESULT_FAILED, "cancelled") : 0;
}

static void a_cancel_ends_the_checksum(void **state)
{
    struct job job = {.check = cancel_at_end, .checksum = true, .compressed = true};

    (void)state;
    start_server("nbdkit -f -U %s pattern 64M", socket_path);
    assert_fails(&job, RESULT_FAILED, "cancelled");
}

/* Hashing terabytes of hole is long work in another thread: it must hear of a cancel too. */
static int cancel_later(void *opaque, struct rp_error *e)
{
    struct job *job = opaque;

    return job->checks >= 8 ? rp_fail(e, RESULT_FAILED, "cancelled") : 0;
}

static void a_cancel_ends_the_hashing_of_holes(void **state)
{
    /* Half a second of it is no stall: hashing is headway. */
    struct job job = {.check = cancel_later, .raw = true, .checksum = true, .stall_ms = 200};
    double start = seconds(CLOCK_MONOTONIC);

    (void)state;
    start_server("nbdkit -f -U %s memory 8T", socket_path);
    assert_fails(&job, RESULT_FAILED, "cancelled");
    assert_true(seconds(CLOCK_MONOTONIC) - start < 60);
}

static void a_limit_on_the_files_size(void **state)
{
    struct job job = {.checksum = true}, raw = {.raw = true}, pressed = {.compressed = true};
    struct rlimit limit;
    int rc;

    (void)state;
    start_server("nbdkit -f -U %s random 64M", socket_path);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = MIB(8);
    setrlimit(RLIMIT_FSIZE, &limit);
    rc = export_disk(&job) < 0 && export_disk(&raw) < 0 && export_disk(&pressed) < 0;
    limit.rlim_cur = limit.rlim_max; /* before anything can leave this function */
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_true(rc);
    assert_string_equal(job.error.message, "writing at 8388608: File too large");
    assert_string_equal(raw.error.message, "writing at 8388608: File too large");
    assert_non_null(strstr(pressed.error.message, ": File too large"));
}

static void a_full_file_system(void **state)
{
    char mount_point[96];
    struct job job = {.folder = mount_point};
    struct job pressed = {.folder = mount_point, .compressed = true};

    (void)state;
    snprintf(mount_point, sizeof mount_point, "%s/small", folder);
    mkdir(mount_point, 0700);
    if (mount("none", mount_point, "tmpfs", 0, "size=4m") < 0)
        skip();
    start_server("nbdkit -f -U %s random 64M", socket_path);
    assert_true(export_disk(&job) < 0);
    assert_true(export_disk(&pressed) < 0);
    umount2(mount_point, MNT_DETACH);
    assert_non_null(strstr(pressed.error.message, "No space left on device"));
    assert_int_equal(job.error.result, RESULT_FAILED);
    assert_non_null(strstr(job.error.message, "writing at "));
    assert_non_null(strstr(job.error.message, "No space left on device"));
}

/* ---- the bandwidth limit ---- */

static struct {
    double at[4096];
    uint64_t bytes[4096];
    unsigned count;
} timeline;

static int note_time(void *opaque, struct rp_error *e)
{
    struct job *job = opaque;

    (void)e;
    if (timeline.count < 4096) {
        timeline.at[timeline.count] = seconds(CLOCK_MONOTONIC);
        timeline.bytes[timeline.count++] = job->progress_bytes;
    }
    return 0;
}

static void the_limit_holds(void **state)
{
    const double rate = 12.5e6;
    struct job job = {.bandwidth_bytes = (uint64_t)rate, .check = note_time, .raw = true};
    double start, elapsed, cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);

    (void)state;
    timeline.count = 0;
    start_server("nbdkit -f -U %s pattern 50000000", socket_path);
    start = seconds(CLOCK_MONOTONIC);
    assert_exported(&job);
    elapsed = seconds(CLOCK_MONOTONIC) - start;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;

    /* Never faster; slower only as far as a busy machine makes it. Blocks of 2 MiB are noted when
     * they are written, so a window may show one more than was read in it. */
    assert_true(elapsed > 50e6 / rate * 0.97);
    for (unsigned i = 0; i < timeline.count; i++)
        for (unsigned j = i + 1; j < timeline.count; j++) {
            double span = timeline.at[j] - timeline.at[i];

            if (span >= 2)
                assert_true((double)(timeline.bytes[j] - timeline.bytes[i]) <
                            span * rate * 1.03 + 2 * (double)MIB(2));
        }
    assert_true(cpu < elapsed / 2); /* waits, not spins */
    print_message("%.3f of the rate allowed, %.3f s CPU\n", 50e6 / rate / elapsed, cpu);
}

/* The second half of the disk may be read after two seconds: waiting for that is no stall. */
static void a_slow_limit_is_no_stall(void **state)
{
    struct job job = {.bandwidth_bytes = 2048, .stall_ms = 1000, .raw = true};

    (void)state;
    start_server("nbdkit -f -U %s pattern 8192", socket_path);
    assert_exported(&job);
}

/* ---- */

static int make_folder(void **state)
{
    const char *base = getenv("TMPDIR");
    pthread_t thread;

    (void)state;
    /* Sanitizers start a thread of their own beside the first: before threads are counted. */
    if (pthread_create(&thread, NULL, return_at_once, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return -1;
    snprintf(folder, sizeof folder, "%.40s/unit-copy-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    snprintf(socket_path, sizeof socket_path, "%s/nbd", folder);
    return 0;
}

static int end_test(void **state)
{
    (void)state;
    stop_server();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    stop_server();
    return try_command("rm -rf %s %s", folder, shm_folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(random_disks_copy_exactly, end_test),
        cmocka_unit_test_teardown(raw_files_stay_sparse, end_test),
        cmocka_unit_test_teardown(disks_of_any_size, end_test),
        cmocka_unit_test_teardown(eight_tib_sparse, end_test),
        cmocka_unit_test_teardown(deltas_stand_on_their_base, end_test),
        cmocka_unit_test_teardown(a_delta_by_one_connection, end_test),
        cmocka_unit_test_teardown(an_empty_delta, end_test),
        cmocka_unit_test_teardown(a_scattered_delta, end_test),
        cmocka_unit_test_teardown(servers_limits_are_kept, end_test),
        cmocka_unit_test_teardown(plain_servers_are_copied_whole, end_test),
        cmocka_unit_test_teardown(a_refused_direct_write_is_buffered, end_test),
        cmocka_unit_test_teardown(memory_file_systems_are_written_too, end_test),
        cmocka_unit_test_teardown(servers_are_warmed_up, end_test),
        cmocka_unit_test_teardown(what_cannot_be_opened, end_test),
        cmocka_unit_test_teardown(a_read_error_names_its_offset, end_test),
        cmocka_unit_test_teardown(now_and_then_a_read_error, end_test),
        cmocka_unit_test_teardown(a_silent_server_times_out, end_test),
        cmocka_unit_test_teardown(a_killed_server_ends_the_copy, end_test),
        cmocka_unit_test_teardown(a_cancel_ends_the_copy, end_test),
        cmocka_unit_test_teardown(a_cancel_ends_the_checksum, end_test),
        cmocka_unit_test_teardown(a_cancel_ends_the_hashing_of_holes, end_test),
        cmocka_unit_test_teardown(a_limit_on_the_files_size, end_test),
        cmocka_unit_test_teardown(a_full_file_system, end_test),
        cmocka_unit_test_teardown(the_limit_holds, end_test),
        cmocka_unit_test_teardown(a_slow_limit_is_no_stall, end_test),
    };

    if (!has_program("nbdkit") || !has_program("qemu-storage-daemon") || !has_program("qemu-io") ||
        !has_program("nbdcopy"))
        return 77; /* what the build takes for "skipped" */
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

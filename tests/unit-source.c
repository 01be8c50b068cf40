// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * backend/source.c against a server that lies: a thread here that speaks just enough of the NBD
 * protocol to answer block status and reads as no real server would.
 */
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "../backend/source.h"

#define DISK (UINT64_C(8) << 20)

/* How one kind of lie looks: up to four pairs, sent `times`; or a way to answer reads. */
struct lie {
    unsigned pairs, times;
    uint32_t pair[8];
    enum { WHOLE, SHORT, TWICE, BACKWARDS, REFUSED, HANG_UP } read;
};

static char folder[] = "/tmp/unit-source-XXXXXX";
static char path[64];
static int listener = -1;
static pthread_t thread;
static const struct lie *lie;

/* ---- the server ---- */

static bool get(int fd, void *to, size_t length)
{
    return recv(fd, to, length, MSG_WAITALL) == (ssize_t)length;
}

static void put(int fd, const void *from, size_t length)
{
    (void)!send(fd, from, length, MSG_NOSIGNAL);
}

static void put_int(int fd, uint64_t value, size_t bytes)
{
    uint64_t big = htobe64(value << (64 - 8 * bytes));

    put(fd, &big, bytes);
}

static void put_option_reply(int fd, uint32_t option, uint32_t type, uint32_t length)
{
    put_int(fd, 0x3e889045565a9, 8);
    put_int(fd, option, 4);
    put_int(fd, type, 4);
    put_int(fd, length, 4);
}

static void answer_option(int fd, uint32_t option)
{
    if (option == 7) { /* GO: size, read-only, "do not fragment" not offered */
        put_option_reply(fd, option, 3, 12);
        put_int(fd, 0, 2);
        put_int(fd, DISK, 8);
        put_int(fd, 3, 2);
    } else if (option == 10) { /* SET_META_CONTEXT */
        put_option_reply(fd, option, 4, 4 + 15);
        put_int(fd, 1, 4);
        put(fd, "base:allocation", 15);
    }
    put_option_reply(fd, option, 1, 0);
}

/* Until the client says GO. */
static bool shake_hands(int fd)
{
    unsigned char data[4096];
    uint32_t head[4];

    put(fd, "NBDMAGICIHAVEOPT", 16);
    put_int(fd, 3, 2);
    if (!get(fd, head, 4))
        return false;
    while (get(fd, head, sizeof head)) {
        uint32_t option = be32toh(head[2]), length = be32toh(head[3]);

        if (length > sizeof data || (length > 0 && !get(fd, data, length)))
            return false;
        answer_option(fd, option);
        if (option == 7)
            return true;
    }
    return false;
}

static void put_chunk(int fd, unsigned flags, unsigned type, uint64_t handle, uint32_t length)
{
    put_int(fd, 0x668e33ef, 4);
    put_int(fd, flags, 2);
    put_int(fd, type, 2);
    put(fd, &handle, 8);
    put_int(fd, length, 4);
}

static void put_data(int fd, unsigned flags, uint64_t handle, uint64_t offset, uint32_t length)
{
    unsigned char *bytes = malloc(length);

    memset(bytes, 'd', length);
    put_chunk(fd, flags, 1, handle, 8 + length);
    put_int(fd, offset, 8);
    put(fd, bytes, length);
    free(bytes);
}

static bool answer_read(int fd, uint64_t handle, uint64_t offset, uint32_t length)
{
    uint32_t half = length / 2;

    switch (lie->read) {
    case WHOLE:
        put_data(fd, 0, handle, offset, half);
        put_data(fd, 1, handle, offset + half, half);
        return true;
    case SHORT:
        put_data(fd, 1, handle, offset, half);
        return true;
    case TWICE:
        put_data(fd, 0, handle, offset, half);
        put_data(fd, 1, handle, offset, half);
        return true;
    case BACKWARDS:
        put_data(fd, 0, handle, offset + half, half);
        put_data(fd, 1, handle, offset, half);
        return true;
    case REFUSED:
        put_chunk(fd, 1, 0x8001, handle, 6);
        put_int(fd, 5, 4); /* EIO */
        put_int(fd, 0, 2);
        return true;
    case HANG_UP:
        break;
    }
    return false;
}

static void answer_status(int fd, uint64_t handle)
{
    for (unsigned t = 0; t < lie->times; t++) {
        put_chunk(fd, t + 1 == lie->times, 5, handle, 4 + 8 * lie->pairs);
        put_int(fd, 1, 4);
        for (unsigned i = 0; i < 2 * lie->pairs; i++)
            put_int(fd, lie->pair[i], 4);
    }
    if (lie->times == 0)
        put_chunk(fd, 1, 0, handle, 0); /* done, and nothing said */
}

static void serve(int fd)
{
    struct {
        uint32_t magic;
        uint16_t flags, type;
        uint64_t handle, offset;
        uint32_t length;
    } __attribute__((packed)) request;

    if (!shake_hands(fd))
        return;
    while (get(fd, &request, sizeof request)) {
        uint16_t type = be16toh(request.type);

        if (type == 7)
            answer_status(fd, request.handle);
        else if (type != 0 ||
                 !answer_read(fd, request.handle, be64toh(request.offset), be32toh(request.length)))
            return;
    }
}

static void *server_run(void *opaque)
{
    int fd = accept(listener, NULL, NULL);

    (void)opaque;
    if (fd >= 0) {
        serve(fd);
        close(fd);
    }
    return NULL;
}

static struct source *open_source(const struct lie *told)
{
    const struct source_params params = {
        .socket_path = path, .export_name = "vda", .connections = 2, .timeout_ms = 30000};
    struct rp_error e = RP_ERROR_INIT;
    struct source *source = NULL;

    lie = told;
    assert_int_equal(pthread_create(&thread, NULL, server_run, NULL), 0);
    if (source_open(&params, &source, &e) < 0)
        fail_msg("%s", e.message);
    assert_int_equal(source_size_bytes(source), DISK);
    assert_int_equal(source_connections(source), 1);
    return source;
}

static void close_source(struct source *source)
{
    source_close(source);
    pthread_join(thread, NULL);
}

/* ---- block status ---- */

static void assert_plan_refused(const struct lie *told, const char *words)
{
    struct source *source = open_source(told);
    struct plan *plan = NULL;
    struct rp_error e = RP_ERROR_INIT;

    assert_int_equal(source_plan(source, 65536, &plan, &e), -EIO);
    assert_int_equal(e.result, RESULT_FAILED);
    if (!strstr(e.message, words))
        fail_msg("%s", e.message);
    assert_null(plan);
    assert_int_equal(source_plan(source, 65536, &plan, &e), -EIO); /* dead, and says so */
    close_source(source);
}

static void extents_that_cannot_be(void **state)
{
    static const struct lie empty = {2, 1, {65536, 0, 0, 0}, WHOLE};
    static const struct lie beyond = {1, 1, {DISK + 1, 0}, WHOLE};
    static const struct lie after = {2, 1, {DISK, 3, 65536, 3}, WHOLE};
    static const struct lie nothing = {0, 0, {0}, WHOLE};
    static const struct lie twice = {1, 2, {65536, 3}, WHOLE};

    (void)state;
    assert_plan_refused(&empty, "no length");
    assert_plan_refused(&beyond, "beyond the end of the disk");
    assert_plan_refused(&after, "goes on after the end");
    assert_plan_refused(&nothing, "no headway");
    assert_plan_refused(&twice, "came twice");
}

/* Each reply tells of 64 KiB that is a hole but not zero, and of 64 KiB that is zero. */
static void short_replies_are_asked_on(void **state)
{
    static const struct lie told = {2, 1, {65536, 1, 65536, 2}, WHOLE};
    struct source *source = open_source(&told);
    struct plan *plan;
    struct plan_run run;
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    assert_int_equal(source_plan(source, 65536, &plan, &e), 0);
    assert_int_equal(plan_count(plan, CLUSTER_DATA), DISK / 65536 / 2);
    assert_true(plan_run_at(plan, 0, &run));
    assert_int_equal(run.state, CLUSTER_DATA);
    plan_free(plan);
    close_source(source);
}

/* ---- reads ---- */

static void note_err(void *opaque, int err)
{
    *(int *)opaque = err;
}

static int read_once(struct source *source, unsigned char *buffer, int *ret_err)
{
    struct rp_error e = RP_ERROR_INIT;
    int rc;

    *ret_err = -1;
    assert_int_equal(source_read(source, buffer, 8192, 4096, note_err, ret_err, &e), 0);
    assert_int_equal(source_in_flight(source), 1);
    do
        rc = source_wait(source, -1, 1000, &e);
    while (rc == 0 && source_in_flight(source) > 0);
    return rc;
}

static void assert_read(const struct lie *told, int err)
{
    unsigned char buffer[8192] = {0};
    struct source *source = open_source(told);
    int seen;

    assert_int_equal(read_once(source, buffer, &seen), 0);
    assert_int_equal(seen, err);
    if (err == 0)
        assert_true(buffer[0] == 'd' && buffer[8191] == 'd');
    close_source(source);
}

static void replies_that_cover_not_all(void **state)
{
    static const struct lie whole = {.read = WHOLE}, part = {.read = SHORT},
                            twice = {.read = TWICE}, backwards = {.read = BACKWARDS},
                            refused = {.read = REFUSED};

    (void)state;
    assert_read(&whole, 0);
    assert_read(&part, EIO);
    assert_read(&twice, EPROTO);
    assert_read(&backwards, EPROTO);
    assert_read(&refused, EIO);
}

static void a_lost_connection_kills_the_source(void **state)
{
    static const struct lie told = {.read = HANG_UP};
    unsigned char buffer[8192];
    struct source *source = open_source(&told);
    struct rp_error e = RP_ERROR_INIT;
    int seen;

    (void)state;
    assert_int_equal(read_once(source, buffer, &seen), -EIO);
    assert_int_equal(seen, -1); /* no callback */
    assert_int_equal(source_in_flight(source), 0);
    assert_int_equal(source_wait(source, -1, 0, &e), -EIO);
    assert_int_equal(source_read(source, buffer, 8192, 0, note_err, &seen, &e), -EIO);
    close_source(source);
}

static int listen_in_folder(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/nbd", folder);
    memcpy(address.sun_path, path, strlen(path) + 1);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4);
}

static int remove_folder(void **state)
{
    (void)state;
    close(listener);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents_that_cannot_be),
        cmocka_unit_test(short_replies_are_asked_on),
        cmocka_unit_test(replies_that_cover_not_all),
        cmocka_unit_test(a_lost_connection_kills_the_source),
    };

    return cmocka_run_group_tests(tests, listen_in_folder, remove_folder);
}

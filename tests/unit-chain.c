// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/qcow2-chain.c and qcow2-file.c, on images that qemu-img makes in a folder
 * of its own: where a chain ends, and what bitmaps in several of its images tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../backend/offline.h"
#include "../backend/qcow2-chain.h"

static char folder[64];

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Commands are run in the folder. */
static void run(const char *format, ...)
{
    char command[1024];
    int length = snprintf(command, sizeof command, "cd %s && ", folder);
    va_list args;

    va_start(args, format);
    vsnprintf(command + length, sizeof command - (size_t)length, format, args);
    va_end(args);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static const char *in_folder(const char *name)
{
    static char path[160];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static struct qcow2_chain read_chain(const char *name)
{
    struct qcow2_chain chain;
    struct rp_error e;

    if (qcow2_chain_read(in_folder(name), &chain, &e) < 0)
        fail_msg("%d: %s", e.result, e.message);
    return chain;
}

/* The chain of `name` has so many layers, and below them what cannot be looked at, or NULL. */
static void assert_chain(const char *name, size_t nlayers, const char *unseen)
{
    struct qcow2_chain chain = read_chain(name);

    assert_int_equal(chain.nlayers, nlayers);
    if (unseen)
        assert_string_equal(chain.unseen ? chain.unseen : "(nothing)", unseen);
    else
        assert_null(chain.unseen);
    qcow2_chain_clear(&chain);
}

/*
 * Reads the file's header, and returns where in it the extension begins: its type and length, as
 * given.
 */
static size_t find_extension(int fd, const char *begin, unsigned char *ret_header)
{
    assert_true(pread(fd, ret_header, 1024, 0) == 1024);
    for (size_t i = 104; i < 1024 - 32; i++)
        if (memcmp(ret_header + i, begin, 4) == 0)
            return i;
    fail_msg("no such extension");
    return 0;
}

/* As older versions of QEMU wrote it: without the format of its backing file. */
static void forget_format(const char *name)
{
    unsigned char header[1024];
    int fd = open(in_folder(name), O_RDWR);
    size_t at = find_extension(fd, "\xe2\x79\x2a\xca", header);

    assert_int_equal(pwrite(fd, "\1\2\3\4", 4, (off_t)at), 4);
    close(fd);
}

static void chains_end(void **state)
{
    (void)state;
    run("qemu-img create -q -f qcow2 alone 1M");
    assert_chain("alone", 1, NULL);
    run("qemu-img create -q -f qcow2 -b alone -F qcow2 above && mkdir -p sub && "
        "qemu-img create -q -f qcow2 -b ../above -F qcow2 sub/top");
    assert_chain("sub/top", 3, NULL);
    run("qemu-img create -q -f qcow2 -b file:%s/sub/top -F qcow2 absolute", folder);
    assert_chain("absolute", 4, NULL);
    run("qemu-img create -q -f raw template 1M && "
        "qemu-img create -q -f qcow2 -b template -F raw on-raw");
    assert_chain("on-raw", 1, NULL);
    /* Where no format is said, it is looked for. */
    forget_format("on-raw");
    assert_chain("on-raw", 1, NULL);
    forget_format("above");
    assert_chain("above", 2, NULL);
    /* An old image, whose header ends where the name begins. */
    run("qemu-img create -q -f qcow2 -o compat=0.10 -b above -F qcow2 old");
    assert_chain("old", 3, NULL);
}

static void what_cannot_be_seen(void **state)
{
    struct qcow2_chain chain;
    struct rp_error e;

    (void)state;
    run("qemu-img create -q -f qcow2 -u -b gone -F qcow2 top 1M");
    assert_chain("top", 1, "gone");
    run("qemu-img rebase -q -u -f qcow2 -b nbd://host/disk -F qcow2 top");
    assert_chain("top", 1, "nbd://host/disk");
    run("qemu-img rebase -q -u -f qcow2 -b 'json:{\"driver\":\"qcow2\"}' -F qcow2 top");
    assert_chain("top", 1, "json:{\"driver\":\"qcow2\"}");
    /* A colon behind a slash belongs to a path. */
    run("mkdir -p sub && qemu-img create -q -f qcow2 sub/a:b 1M && "
        "qemu-img rebase -q -u -f qcow2 -b ./sub/a:b -F qcow2 top");
    assert_chain("top", 2, NULL);
    run("qemu-img rebase -q -u -f qcow2 -b top -F qcow2 top");
    assert_chain("top", 200, "top");
    /* Said to be qcow2, and is not. */
    run("qemu-img create -q -f raw template 1M && "
        "qemu-img rebase -q -u -f qcow2 -b template -F qcow2 top");
    assert_chain("top", 1, "template");
    assert_int_equal(qcow2_chain_read(in_folder("template"), &chain, &e), -EINVAL);
    assert_int_equal(qcow2_chain_read(in_folder("gone"), &chain, &e), -ENOENT);
}

static void assert_span(const char *image, const char *name, size_t first, size_t count,
                        const char *why_not)
{
    struct qcow2_chain chain = read_chain(image);
    struct qcow2_span span = qcow2_chain_find_bitmap(&chain, name);

    assert_int_equal(span.count, count);
    if (count)
        assert_int_equal(span.first, first);
    assert_string_equal(span.why_not ? span.why_not : "", why_not);
    qcow2_chain_clear(&chain);
}

/* Its first bitmap is one that QEMU died with. The entry's flags are 12 bytes into it. */
static void break_bitmap(const char *name)
{
    unsigned char header[1024];
    int fd = open(in_folder(name), O_RDWR);
    size_t extension = find_extension(fd, "\x23\x85\x28\x75", header);
    uint64_t at = 0;

    for (size_t i = 0; i < 8; i++)
        at = at << 8 | header[extension + 24 + i];
    assert_int_equal(pwrite(fd, "\0\0\0\1", 4, (off_t)at + 12), 4);
    close(fd);
}

static void bitmaps_over_several_images(void **state)
{
    (void)state;
    run("qemu-img create -q -f qcow2 a 1M && qemu-img bitmap --add a all && "
        "qemu-img bitmap --add a lower && qemu-img bitmap --add a ends && "
        "qemu-img create -q -f qcow2 -b a -F qcow2 b && qemu-img bitmap --add b all && "
        "qemu-img bitmap --add b lower && "
        "qemu-img create -q -f qcow2 -b b -F qcow2 c && qemu-img bitmap --add c all && "
        "qemu-img bitmap --add c ends");
    assert_span("c", "all", 0, 3, "");
    assert_span("c", "none", 0, 0, "the bitmap is not in the image");
    assert_span("c", "lower", 1, 2, "the bitmap is not in the image");
    /* b has it not: what a has is of another one, of that name. */
    assert_span("c", "ends", 0, 1, "");
    break_bitmap("b");
    assert_span("c", "all", 0, 3, "the bitmap is broken");
    /* A program without bitmaps wrote to it: QEMU clears nothing, but such programs do. */
    run("printf '\\0' | dd of=c bs=1 seek=95 conv=notrunc 2>/dev/null");
    assert_span("c", "ends", 0, 1, "the bitmap is broken");
    run("printf '\\1' | dd of=c bs=1 seek=95 conv=notrunc 2>/dev/null");
    run("mv a away");
    assert_span("c", "ends", 0, 1, "");
    assert_span("b", "lower", 0, 1, "a backing file of the image cannot be looked at");
}

/* One image is grown, then the next: what was written is known of each byte. */
static void gathering(void **state)
{
    const char *const names[] = {"mon", "tue"};
    struct qcow2_chain chain;
    struct rp_error e;

    (void)state;
    run("qemu-img create -q -f qcow2 g1 1M && qemu-img bitmap --add g1 mon && "
        "qemu-io -c 'write -q 0 64k' g1 && "
        "qemu-img create -q -f qcow2 -b g1 -F qcow2 g2 2M && qemu-img bitmap --add g2 mon && "
        "qemu-img bitmap --add g2 tue && qemu-io -c 'write -q 1M 64k' g2 && "
        "qemu-img create -q -f qcow2 -b g2 -F qcow2 'g \"3\\,=' 3M && "
        "qemu-img bitmap --add 'g \"3\\,=' mon && qemu-img bitmap --add 'g \"3\\,=' tue && "
        "qemu-io -c 'write -q 2M 64k' 'g \"3\\,='");
    chain = read_chain("g \"3\\,=");
    if (offline_gather_bitmaps(&chain, names, 2, in_folder("gathered"), &e) < 0)
        fail_msg("%s", e.message);
    qcow2_chain_clear(&chain);
    run("qemu-nbd -r -t -f qcow2 --fork -k %s/nbd -B mon -B tue --pid-file=%s/pid gathered", folder,
        folder);
    run("nbdinfo --map=qemu:dirty-bitmap:mon 'nbd+unix:///?socket=%s/nbd' | awk '$3 {print $1, $2}'"
        " >mon; nbdinfo --map=qemu:dirty-bitmap:tue 'nbd+unix:///?socket=%s/nbd' |"
        " awk '$3 {print $1, $2}' >tue; kill $(cat pid)",
        folder, folder);
    run("printf '0 65536\\n1048576 65536\\n2097152 65536\\n' | cmp - mon");
    run("printf '1048576 65536\\n2097152 65536\\n' | cmp - tue");
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/unit-chain-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_end),
        cmocka_unit_test(what_cannot_be_seen),
        cmocka_unit_test(bitmaps_over_several_images),
        cmocka_unit_test(gathering),
    };

    if (system("command -v qemu-img qemu-io qemu-nbd nbdinfo >/dev/null") != 0)
        return 77; /* what the build takes for "skipped" */
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/outdir.c, in a folder of its own: what it accepts and refuses, that nothing
 * is replaced, that what is abandoned leaves nothing, and that the rights used are the caller's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../backend/outdir.h"

static char folder[64];

static struct caller self(void)
{
    return (struct caller){.uid = geteuid(), .gid = getegid()};
}

/* "nobody", without groups. */
static const struct caller stranger = {.uid = 65534, .gid = 65534};

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *at = path[next++ % 4];

    snprintf(at, sizeof path[0], "%s/%s", folder, name);
    return at;
}

static void put(const char *name, const char *text)
{
    FILE *out = fopen(in_folder(name), "w");

    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static unsigned count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return count;
}

static int setup(void **unused)
{
    (void)unused;
    strcpy(folder, "/tmp/rp-outdir.XXXXXX");
    return mkdtemp(folder) ? chmod(folder, 0755) : -1;
}

static int teardown(void **unused)
{
    char command[128];

    (void)unused;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void assert_refused(const char *path, const struct caller *caller, int result,
                           const char *words)
{
    struct rp_error e = RP_ERROR_INIT;

    assert_true(outdir_check(path, caller, &e) < 0);
    assert_int_equal(e.result, result);
    if (!strstr(e.message, words))
        fail_msg("'%s' does not speak of '%s'", e.message, words);
}

static void test_what_can_be_used(void **unused)
{
    struct caller me = self();
    struct rp_error e;

    (void)unused;
    assert_int_equal(mkdir(in_folder("old"), 0700), 0);
    put("old/somebody's file", "x");
    assert_int_equal(outdir_check(in_folder("old"), &me, &e), 0);
    assert_int_equal(outdir_check(in_folder("new"), &me, &e), 0);
    assert_int_equal(outdir_check(in_folder("new///"), &me, &e), 0);
    assert_int_not_equal(access(in_folder("new"), F_OK), 0); /* looking has no effect */
}

static void test_what_cannot(void **unused)
{
    struct caller me = self();

    (void)unused;
    put("file", "x");
    assert_int_equal(mkdir(in_folder("full"), 0700), 0);
    put("full/export.ini", "x");
    assert_int_equal(symlink("nowhere", in_folder("dangling")), 0);
    assert_refused(in_folder("no/parent"), &me, RESULT_INVALID_PARAMETER, "parent");
    assert_refused(in_folder("file"), &me, RESULT_INVALID_PARAMETER, "Not a directory");
    assert_refused(in_folder("full"), &me, RESULT_INVALID_PARAMETER, "already holds an export");
}

static void test_rights_are_the_callers(void **unused)
{
    struct outdir *outdir;
    struct rp_error e;
    struct stat st;
    int fd;

    (void)unused;
    if (geteuid() != 0)
        skip();
    assert_int_equal(mkdir(in_folder("mine"), 0700), 0);
    assert_refused(in_folder("mine"), &stranger, RESULT_ACCESS_DENIED, "mine");
    assert_refused(in_folder("mine/below"), &stranger, RESULT_ACCESS_DENIED, "below");
    assert_refused(in_folder("new"), &stranger, RESULT_ACCESS_DENIED, "new");

    assert_int_equal(mkdir(in_folder("theirs"), 0700), 0);
    assert_int_equal(chown(in_folder("theirs"), stranger.uid, stranger.gid), 0);
    assert_int_equal(
        outdir_open(in_folder("theirs/new"), &stranger, "0123456789abcdef", &outdir, &e), 0);
    assert_int_equal(outdir_create(outdir, "a", &fd, &e), 0);
    assert_int_equal(outdir_publish(outdir, &e), 0);
    outdir_close(outdir, true);
    assert_int_equal(stat(in_folder("theirs/new/a"), &st), 0);
    assert_int_equal(st.st_uid, stranger.uid);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(in_folder("theirs/new"), &st), 0);
    assert_int_equal(st.st_uid, stranger.uid);
    assert_int_equal(st.st_mode & 07777, 0700);
    /* And we are ourselves again. */
    put("mine/proof", "x");
}

static void test_names_come_with_publish(void **unused)
{
    struct caller me = self();
    struct outdir *outdir;
    struct rp_error e;
    char *text;
    size_t length;
    int fd;

    (void)unused;
    assert_int_equal(outdir_open(in_folder("new"), &me, "0123456789abcdef", &outdir, &e), 0);
    assert_int_equal(outdir_create(outdir, "vda.qcow2", &fd, &e), 0);
    assert_int_equal(write(fd, "abc", 3), 3);
    assert_int_not_equal(access(in_folder("new/vda.qcow2"), F_OK), 0);
    assert_int_equal(outdir_publish(outdir, &e), 0);
    assert_int_equal(access(in_folder("new/vda.qcow2"), F_OK), 0);
    assert_int_equal(outdir_write(outdir, OUTDIR_MANIFEST, "[export]\n", 9, &e), 0);
    assert_int_not_equal(access(in_folder("new/export.ini"), F_OK), 0);
    assert_int_equal(outdir_publish(outdir, &e), 0);
    outdir_close(outdir, true);

    assert_int_equal(count_entries(in_folder("new")), 2);
    assert_int_equal(outdir_read(in_folder("new"), "vda.qcow2", 100, &me, &text, &length, &e), 0);
    assert_string_equal(text, "abc");
    assert_int_equal(length, 3);
    free(text);
    assert_true(outdir_read(in_folder("new"), "vdb", 100, &me, &text, &length, &e) < 0);
}

static void test_what_is_there_stays(void **unused)
{
    struct caller me = self();
    struct outdir *outdir;
    struct rp_error e;
    char *text;
    size_t length;
    int fd;

    (void)unused;
    assert_int_equal(mkdir(in_folder("d"), 0700), 0);
    put("d/vda.qcow2", "precious");
    assert_int_equal(outdir_open(in_folder("d"), &me, "0123456789abcdef", &outdir, &e), 0);
    assert_int_equal(outdir_refuse_existing(outdir, "vda.qcow2", &e), -EEXIST);
    assert_int_equal(e.result, RESULT_INVALID_PARAMETER);
    assert_int_equal(outdir_refuse_existing(outdir, "vdb.qcow2", &e), 0);
    /* Nor is it replaced where it came to be after that check. */
    assert_int_equal(outdir_create(outdir, "vda.qcow2", &fd, &e), 0);
    assert_true(outdir_publish(outdir, &e) < 0);
    outdir_close(outdir, false);
    assert_int_equal(outdir_read(in_folder("d"), "vda.qcow2", 100, &me, &text, &length, &e), 0);
    assert_string_equal(text, "precious");
    free(text);
    assert_int_equal(count_entries(in_folder("d")), 1);
}

static void test_abandoned_leaves_nothing(void **unused)
{
    struct caller me = self();
    struct outdir *outdir;
    struct rp_error e;
    int fd;

    (void)unused;
    assert_int_equal(outdir_open(in_folder("new"), &me, "0123456789abcdef", &outdir, &e), 0);
    assert_int_equal(outdir_create(outdir, "vda.qcow2", &fd, &e), 0);
    assert_int_equal(outdir_publish(outdir, &e), 0);
    assert_int_equal(outdir_create(outdir, "vdb.qcow2", &fd, &e), 0);
    outdir_close(outdir, false);
    assert_int_not_equal(access(in_folder("new"), F_OK), 0);
}

/* Who moves the directory away during an export does not get us to write somewhere else. */
static void test_directory_is_held_by_descriptor(void **unused)
{
    struct caller me = self();
    struct outdir *outdir;
    struct rp_error e;
    int fd;

    (void)unused;
    assert_int_equal(mkdir(in_folder("elsewhere"), 0700), 0);
    assert_int_equal(outdir_open(in_folder("new"), &me, "0123456789abcdef", &outdir, &e), 0);
    assert_int_equal(rename(in_folder("new"), in_folder("moved")), 0);
    assert_int_equal(symlink("elsewhere", in_folder("new")), 0);
    assert_int_equal(outdir_create(outdir, "a", &fd, &e), 0);
    assert_int_equal(outdir_publish(outdir, &e), 0);
    outdir_close(outdir, true);
    assert_int_equal(access(in_folder("moved/a"), F_OK), 0);
    assert_int_equal(count_entries(in_folder("elsewhere")), 0);
}

static void test_relative_paths(void **unused)
{
    static const struct {
        const char *from, *to, *path;
    } cases[] = {
        {"/backup/tue", "/backup/mon/vda.qcow2", "../mon/vda.qcow2"},
        {"/backup/web1/tue", "/backup/web10/mon/a", "../../web10/mon/a"},
        {"/backup", "/backup/mon/a", "./mon/a"},
        {"/backup/tue/x", "/backup/tue/a", "../a"},
        {"/backup/tue", "/backup/tue/a", "./a"},
        {"/a/b", "/c/d", "../../c/d"},
        {"/", "/c/d", "./c/d"},
        {"/ab", "/a/d", "../a/d"},
        {"/a", "/ab/d", "../ab/d"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *path = outdir_relative(cases[i].from, cases[i].to);
        assert_string_equal(path, cases[i].path);
        free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_can_be_used, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rights_are_the_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_come_with_publish, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_there_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_abandoned_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory_is_held_by_descriptor, setup, teardown),
        cmocka_unit_test(test_relative_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

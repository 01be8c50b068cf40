// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The command line, as people and mount(8) give it. Linked with fs/options.c and backend/error.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../fs/options.h"

#define ARGS_MAX 16

/* Takes the words of a command line up to NULL. */
static int parse(struct options *options, struct rp_error *e, bool *is_usage, ...)
{
    char program[] = "refpointfs", *argv[ARGS_MAX + 1] = {program};
    int argc = 1;
    va_list args;

    va_start(args, is_usage);
    while ((argv[argc] = va_arg(args, char *)))
        assert_true(++argc < ARGS_MAX);
    va_end(args);
    *e = (struct rp_error)RP_ERROR_INIT;
    *is_usage = false;
    return options_parse(argc, argv, options, is_usage, e);
}

#define PARSE(...) parse(&o, &e, &is_usage, __VA_ARGS__, (char *)NULL)

#define ASSERT_REFUSED(sentence, ...)                                                              \
    do {                                                                                           \
        assert_true(PARSE(__VA_ARGS__) < 0);                                                       \
        assert_string_equal(e.message, sentence);                                                  \
        assert_false(is_usage);                                                                    \
    } while (0)

static struct options o;
static struct rp_error e;
static bool is_usage;

static void test_one_argument_is_the_mount_point(void **state)
{
    (void)state;
    assert_int_equal(PARSE("/mnt/rp"), 0);
    assert_null(o.uri);
    assert_string_equal(o.mountpoint, "/mnt/rp");
    assert_int_equal(o.hold_seconds, 600);
    assert_int_equal(o.jobs, 4);
    assert_int_equal(o.max_threads, 4);
    assert_int_equal(o.bandwidth_bytes, 0);
    assert_false(o.foreground);
    options_clear(&o);
}

static void test_mount_8_gives_uri_and_mount_point_first(void **state)
{
    (void)state;
    assert_int_equal(PARSE("qemu+ssh://a,b:22/system?x=1,2&y", "/mnt/rp", "-o",
                           "rw,_netdev,x-systemd.automount,allow_other,hold=30"),
                     0);
    assert_string_equal(o.uri, "qemu+ssh://a,b:22/system?x=1,2&y");
    assert_string_equal(o.mountpoint, "/mnt/rp");
    assert_int_equal(o.hold_seconds, 30);
    options_clear(&o);
}

static bool passed_on(const char *option)
{
    for (int i = 0; i < o.fuse_args.argc; i++)
        if (strstr(o.fuse_args.argv[i], option))
            return true;
    return false;
}

static void test_libfuse_gets_its_own_and_what_is_always_on(void **state)
{
    (void)state;
    assert_int_equal(PARSE("test:///a,b", "/mnt", "-o", "allow_other,jobs=2,noauto"), 0);
    assert_true(passed_on("allow_other"));
    assert_true(passed_on("default_permissions"));
    assert_true(passed_on("subtype=refpointfs"));
    assert_true(passed_on("fsname=test:///a\\,b"));
    assert_false(passed_on("jobs"));
    assert_false(passed_on("noauto"));
    options_clear(&o);
}

static void test_flags(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-f", "-s", "/mnt", "-o", "syslog"), 0);
    assert_true(o.foreground && o.single_thread && o.use_syslog && !o.debug);
    options_clear(&o);
    assert_int_equal(PARSE("-d", "/mnt"), 0);
    assert_true(o.foreground && o.debug && passed_on("debug"));
    options_clear(&o);
}

static void test_help_and_version_need_no_mount_point(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--help"), 0);
    assert_true(o.show_help);
    options_clear(&o);
    assert_int_equal(PARSE("-V"), 0);
    assert_true(o.show_version);
    options_clear(&o);
}

static void test_bytes_take_a_suffix(void **state)
{
    (void)state;
    assert_int_equal(PARSE("/mnt", "-o", "bandwidth=10M"), 0);
    assert_int_equal(o.bandwidth_bytes, 10 * 1024 * 1024);
    options_clear(&o);
    assert_int_equal(PARSE("/mnt", "-o", "bandwidth=3g"), 0);
    assert_int_equal(o.bandwidth_bytes, UINT64_C(3) << 30);
    options_clear(&o);
}

static void test_bad_bytes_are_refused_by_name(void **state)
{
    (void)state;
    ASSERT_REFUSED("option bandwidth=1X: the suffix is one of K, M, G", "/mnt", "-o",
                   "bandwidth=1X");
    ASSERT_REFUSED("option bandwidth=1MB: the suffix is one of K, M, G", "/mnt", "-o",
                   "bandwidth=1MB");
    ASSERT_REFUSED("option bandwidth=-1: a number of bytes is expected", "/mnt", "-o",
                   "bandwidth=-1");
    ASSERT_REFUSED("option bandwidth=99999999999G: the number is too large", "/mnt", "-o",
                   "bandwidth=99999999999G");
}

static void test_bad_numbers_are_refused_by_name(void **state)
{
    (void)state;
    ASSERT_REFUSED("option jobs=0: a number from 1 to 64 is expected", "/mnt", "-o", "jobs=0");
    ASSERT_REFUSED("option jobs=4x: a number from 1 to 64 is expected", "/mnt", "-o", "jobs=4x");
    ASSERT_REFUSED("option hold=: a number from 1 to 31536000 is expected", "/mnt", "-o", "hold=");
    ASSERT_REFUSED("option hold=99999999999999999999: a number from 1 to 31536000 is expected",
                   "/mnt", "-o", "hold=99999999999999999999");
    ASSERT_REFUSED("option hold needs a value", "/mnt", "-o", "hold");
}

static void test_an_unknown_group_is_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("option group=no-such-group: there is no such group", "/mnt", "-o",
                   "group=no-such-group");
    assert_int_equal(PARSE("/mnt", "-o", "group=4711"), 0);
    assert_true(o.has_group && o.group == 4711);
    options_clear(&o);
}

static void test_a_wrong_command_line_is_a_matter_of_usage(void **state)
{
    (void)state;
    assert_true(PARSE("a", "b", "c") < 0);
    assert_true(is_usage);
    assert_string_equal(e.message, "one argument too many: 'c'");
    assert_true(PARSE("-f") < 0);
    assert_true(is_usage);
    assert_string_equal(e.message, "the mount point is missing");
    assert_true(PARSE("--nonsense", "/mnt") < 0);
    assert_true(is_usage);
    assert_string_equal(e.message, "there is no option '--nonsense'");
}

static void test_relative_paths_become_absolute(void **state)
{
    char *here = getcwd(NULL, 0), expected[8192];

    (void)state;
    assert_int_equal(PARSE("mnt", "-o", "state=s,run=/r,scratch=a\\,b"), 0);
    snprintf(expected, sizeof expected, "%s/mnt", here);
    assert_string_equal(o.mountpoint, expected);
    snprintf(expected, sizeof expected, "%s/s", here);
    assert_string_equal(o.state_dir, expected);
    assert_string_equal(o.run_dir, "/r");
    snprintf(expected, sizeof expected, "%s/a,b", here);
    assert_string_equal(o.scratch_dir, expected);
    options_clear(&o);
    free(here);
}

static void test_the_embedded_driver_keeps_everything_below_its_root(void **state)
{
    (void)state;
    assert_int_equal(PARSE("qemu:///embed?x=1&root=/data/a%20b", "/mnt"), 0);
    assert_string_equal(o.state_dir, "/data/a b/refpointfs/state");
    assert_string_equal(o.run_dir, "/data/a b/refpointfs/run");
    options_clear(&o);
}

static void test_mounts_of_different_uris_do_not_meet(void **state)
{
    char *first, *default_dir;

    (void)state;
    assert_int_equal(PARSE("qemu:///system", "/mnt"), 0);
    first = strdup(o.state_dir);
    options_clear(&o);
    assert_int_equal(PARSE("qemu:--/system", "/mnt"), 0);
    assert_string_not_equal(o.state_dir, first);
    options_clear(&o);
    assert_int_equal(PARSE("/mnt"), 0);
    default_dir = strrchr(o.state_dir, '/');
    assert_string_equal(default_dir, "/default");
    options_clear(&o);
    free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_argument_is_the_mount_point),
        cmocka_unit_test(test_mount_8_gives_uri_and_mount_point_first),
        cmocka_unit_test(test_libfuse_gets_its_own_and_what_is_always_on),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_help_and_version_need_no_mount_point),
        cmocka_unit_test(test_bytes_take_a_suffix),
        cmocka_unit_test(test_bad_bytes_are_refused_by_name),
        cmocka_unit_test(test_bad_numbers_are_refused_by_name),
        cmocka_unit_test(test_an_unknown_group_is_refused),
        cmocka_unit_test(test_a_wrong_command_line_is_a_matter_of_usage),
        cmocka_unit_test(test_relative_paths_become_absolute),
        cmocka_unit_test(test_the_embedded_driver_keeps_everything_below_its_root),
        cmocka_unit_test(test_mounts_of_different_uris_do_not_meet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

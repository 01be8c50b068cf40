// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The spool: whose names are whose, what vanishes when, and where it ends. Its clock is ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../fs/spool.h"

static time_t seconds_passed;

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    int ret = __real_clock_gettime(clock, time);

    time->tv_sec += seconds_passed;
    return ret;
}

static int set_up(void **state)
{
    *state = spool_new();
    assert_non_null(*state);
    return 0;
}

static int tear_down(void **state)
{
    spool_free(*state);
    return 0;
}

static struct spool_key key(const char *name)
{
    return (struct spool_key){.dir = 7, .uid = 1000, .name = name};
}

static struct spool_file *make(struct spool *spool, struct spool_key k)
{
    struct spool_file *file;

    assert_int_equal(spool_create(spool, &k, 0644, 100, &file), 0);
    return file;
}

static void make_text(struct spool *spool, struct spool_key k, const char *text)
{
    struct spool_file *file = make(spool, k);

    assert_int_equal(spool_write(spool, file, text, strlen(text), 0), 0);
    spool_close(spool, file);
}

static enum spool_found look(struct spool *spool, struct spool_key k)
{
    struct stat st;

    return spool_lookup(spool, &k, &st);
}

static uint64_t inode_of(struct spool *spool, struct spool_key k)
{
    struct stat st;

    assert_int_equal(spool_lookup(spool, &k, &st), SPOOL_FILE);
    assert_true(spool_is_inode(st.st_ino));
    return st.st_ino;
}

static void assert_text(struct spool *spool, struct spool_key k, const char *expected)
{
    struct spool_file *file;
    char buffer[256];
    ssize_t n;

    assert_int_equal(spool_open(spool, inode_of(spool, k), &file), 0);
    n = spool_read(spool, file, buffer, sizeof buffer, 0);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(buffer, expected, (size_t)n);
    spool_close(spool, file);
}

static void test_what_was_written_is_read_anywhere_in_it(void **state)
{
    struct spool *spool = *state;
    struct spool_file *file = make(spool, key("a"));
    char buffer[16];
    struct stat st;

    assert_int_equal(spool_write(spool, file, "world", 5, 6), 0);
    assert_int_equal(spool_write(spool, file, "hello", 5, 0), 0);
    assert_int_equal(spool_read(spool, file, buffer, sizeof buffer, 0), 11);
    assert_memory_equal(buffer, "hello\0world", 11);
    assert_int_equal(spool_read(spool, file, buffer, 3, 7), 3);
    assert_memory_equal(buffer, "orl", 3);
    assert_int_equal(spool_read(spool, file, buffer, 3, 11), 0);
    assert_int_equal(spool_read(spool, file, buffer, 3, 1000), 0);
    assert_int_equal(spool_stat(spool, inode_of(spool, key("a")), &st), 0);
    assert_int_equal(st.st_size, 11);
    assert_int_equal(st.st_mode, S_IFREG | 0644);
    assert_int_equal(st.st_uid, 1000);
    spool_close(spool, file);
}

static void test_what_is_cut_and_grows_again_reads_as_zeros(void **state)
{
    struct spool *spool = *state;
    struct stat st;

    make_text(spool, key("a"), "secret");
    uint64_t inode = inode_of(spool, key("a"));
    assert_int_equal(spool_stat(spool, inode, &st), 0);
    st.st_size = 1;
    assert_int_equal(spool_set_stat(spool, inode, &st), 0);
    st.st_size = 4;
    assert_int_equal(spool_set_stat(spool, inode, &st), 0);
    struct spool_file *file;
    char buffer[8];
    assert_int_equal(spool_open(spool, inode, &file), 0);
    assert_int_equal(spool_read(spool, file, buffer, sizeof buffer, 0), 4);
    assert_memory_equal(buffer, "s\0\0\0", 4);
    spool_close(spool, file);
}

static void test_a_name_is_its_users_alone(void **state)
{
    struct spool *spool = *state;
    struct spool_key mine = key("a"), his = key("a"), elsewhere = key("a");

    his.uid = 2000;
    elsewhere.dir = 8;
    make_text(spool, mine, "mine");
    assert_int_equal(look(spool, his), SPOOL_NOTHING);
    assert_int_equal(look(spool, elsewhere), SPOOL_NOTHING);
    assert_int_equal(spool_unlink(spool, &his), -ENOENT);
    assert_int_equal(spool_rename(spool, &his, "b", false), -ENOENT);
    make_text(spool, his, "his");
    assert_text(spool, mine, "mine");
    assert_text(spool, his, "his");
    assert_int_equal(spool_hide(spool, &(struct spool_key){7, 2000, "export"}), 0);
    assert_int_equal(look(spool, key("export")), SPOOL_NOTHING);
    assert_int_equal(spool_unlink(spool, &his), 0);
    assert_text(spool, mine, "mine");
}

static void test_a_file_belongs_to_its_maker_whatever_owner_it_shows(void **state)
{
    struct spool *spool = *state;
    struct spool_key his = key("a");
    struct stat st;

    make_text(spool, key("a"), "mine");
    assert_int_equal(spool_stat(spool, inode_of(spool, key("a")), &st), 0);
    st.st_uid = 2000;
    assert_int_equal(spool_set_stat(spool, st.st_ino, &st), 0);
    his.uid = 2000;
    assert_int_equal(look(spool, his), SPOOL_NOTHING);
    assert_text(spool, key("a"), "mine");
}

static void test_rename_replaces_unless_told_to_keep(void **state)
{
    struct spool *spool = *state;
    struct spool_key a = key("a");

    make_text(spool, key("a"), "new");
    make_text(spool, key("b"), "old");
    assert_int_equal(spool_rename(spool, &a, "b", true), -EEXIST);
    assert_text(spool, key("b"), "old");
    assert_int_equal(spool_rename(spool, &a, "b", false), 0);
    assert_text(spool, key("b"), "new");
    assert_int_equal(look(spool, key("a")), SPOOL_NOTHING);
    struct spool_key b = key("b");
    assert_int_equal(spool_rename(spool, &b, "b", false), 0);
    assert_text(spool, key("b"), "new");
}

static void test_what_is_closed_vanishes_after_a_minute(void **state)
{
    struct spool *spool = *state;
    struct spool_file *open = make(spool, key("open"));

    make_text(spool, key("closed"), "x");
    uint64_t inode = inode_of(spool, key("closed"));
    seconds_passed += SPOOL_KEEP_MS / 1000 - 2;
    assert_int_equal(look(spool, key("closed")), SPOOL_FILE);
    seconds_passed += 3;
    assert_int_equal(look(spool, key("closed")), SPOOL_NOTHING);
    struct spool_file *file;
    assert_int_equal(spool_open(spool, inode, &file), -ESTALE);
    /* An editor's swap file stays as long as the editor. */
    assert_int_equal(look(spool, key("open")), SPOOL_FILE);
    spool_close(spool, open);
    assert_int_equal(look(spool, key("open")), SPOOL_FILE);
    seconds_passed += SPOOL_KEEP_MS / 1000 + 1;
    assert_int_equal(look(spool, key("open")), SPOOL_NOTHING);
}

static void test_a_hidden_name_comes_back(void **state)
{
    struct spool *spool = *state;
    struct spool_key k = key("export");

    assert_int_equal(spool_hide(spool, &k), 0);
    assert_int_equal(look(spool, k), SPOOL_HIDDEN);
    spool_show(spool, &k);
    assert_int_equal(look(spool, k), SPOOL_NOTHING);
    assert_int_equal(spool_hide(spool, &k), 0);
    seconds_passed += SPOOL_HIDDEN_MS / 1000 + 1;
    assert_int_equal(look(spool, k), SPOOL_NOTHING);
}

static void test_what_is_unlinked_lives_until_it_is_closed(void **state)
{
    struct spool *spool = *state;
    struct spool_key k = key("a");
    struct spool_file *file = make(spool, k);
    uint64_t inode = inode_of(spool, k);
    struct stat st;
    char byte;

    assert_int_equal(spool_write(spool, file, "x", 1, 0), 0);
    assert_int_equal(spool_unlink(spool, &k), 0);
    assert_int_equal(look(spool, k), SPOOL_NOTHING);
    assert_int_equal(spool_read(spool, file, &byte, 1, 0), 1);
    assert_int_equal(spool_stat(spool, inode, &st), 0);
    spool_close(spool, file);
    assert_int_equal(spool_stat(spool, inode, &st), -ESTALE);
}

static void test_a_taken_text_takes_no_more(void **state)
{
    struct spool *spool = *state;
    struct spool_key k = key("a");
    struct spool_file *file = make(spool, k), *taken;
    size_t length;
    char *text;

    assert_int_equal(spool_write(spool, file, "text", 4, 0), 0);
    assert_int_equal(spool_take(spool, &k, 3, &taken, &text, &length), -EFBIG);
    assert_int_equal(spool_take(spool, &k, 4, &taken, &text, &length), 0);
    assert_string_equal(text, "text");
    free(text);
    /* It was refused: all is as before. */
    spool_settle(spool, taken, false);
    assert_int_equal(spool_write(spool, file, "more", 4, 0), 0);
    assert_int_equal(spool_take(spool, &k, 4, &taken, &text, &length), 0);
    assert_string_equal(text, "more");
    free(text);
    spool_settle(spool, taken, true);
    assert_int_equal(look(spool, k), SPOOL_NOTHING);
    assert_int_equal(spool_write(spool, file, "lost", 4, 0), -ESTALE);
    spool_close(spool, file);
}

static void test_a_file_has_an_end(void **state)
{
    struct spool *spool = *state;
    struct spool_file *file = make(spool, key("a"));

    assert_int_equal(spool_write(spool, file, "x", 1, SPOOL_FILE_BYTES - 1), 0);
    assert_int_equal(spool_write(spool, file, "x", 1, SPOOL_FILE_BYTES), -EFBIG);
    assert_int_equal(spool_write(spool, file, "x", 1, INT64_MAX), -EFBIG);
    assert_int_equal(spool_write(spool, file, "x", 1, -1), -EINVAL);
    spool_close(spool, file);
}

/* How many names, or full files, the user can make; they are left closed. */
static size_t fill(struct spool *spool, uid_t uid, bool with_text, int *ret_why)
{
    struct spool_file *file;
    char name[32];
    size_t n = 0;
    int ret;

    for (;; n++) {
        snprintf(name, sizeof name, "%zu", n);
        struct spool_key k = {.dir = 7, .uid = uid, .name = name};
        ret = spool_create(spool, &k, 0600, 0, &file);
        if (ret < 0)
            break;
        if (with_text)
            ret = spool_write(spool, file, "x", 1, SPOOL_FILE_BYTES - 1);
        spool_close(spool, file);
        if (ret < 0)
            break;
    }
    *ret_why = ret;
    return n;
}

static void test_one_user_leaves_room_for_others(void **state)
{
    struct spool *spool = *state;
    int why;

    for (uid_t uid = 0; uid < SPOOL_USER_SHARE; uid++) {
        assert_int_equal(fill(spool, uid, false, &why), SPOOL_NAMES / SPOOL_USER_SHARE);
        assert_int_equal(why, uid + 1 < SPOOL_USER_SHARE ? -EDQUOT : -ENOSPC);
    }
    assert_int_equal(fill(spool, 4711, false, &why), 0);
    assert_int_equal(why, -ENOSPC);
    seconds_passed += SPOOL_KEEP_MS / 1000 + 1;
    assert_int_equal(fill(spool, 4711, true, &why),
                     SPOOL_BYTES / SPOOL_FILE_BYTES / SPOOL_USER_SHARE);
    assert_int_equal(why, -EDQUOT);
    for (uid_t uid = 1; uid < SPOOL_USER_SHARE; uid++)
        fill(spool, uid, true, &why);
    assert_int_equal(fill(spool, 4712, true, &why), 0);
    assert_int_equal(why, -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_written_is_read_anywhere_in_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_cut_and_grows_again_reads_as_zeros, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_name_is_its_users_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_belongs_to_its_maker_whatever_owner_it_shows,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rename_replaces_unless_told_to_keep, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_closed_vanishes_after_a_minute, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_hidden_name_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_unlinked_lives_until_it_is_closed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_taken_text_takes_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_has_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_user_leaves_room_for_others, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/* Unit tests of backend/error.c: the table of results, and that failing fails completely. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "../backend/error.h"

static void results_are_in_order_and_complete(void **state)
{
    size_t count;
    const struct rp_result_row *rows = rp_result_rows(&count);

    (void)state;
    assert_int_equal(count, 13);
    for (size_t i = 0; i < count; i++) {
        assert_true(i == 0 || rows[i].result > rows[i - 1].result);
        assert_ptr_equal(rp_result_row(rows[i].result), &rows[i]);
        assert_true(*rows[i].name && *rows[i].meaning);
        assert_int_equal(rows[i].err == 0, i < 2);
        assert_string_equal(rows[i].errno_name, rows[i].err ? strerrorname_np(rows[i].err) : "");
    }
}

static void unknown_result_is_failed(void **state)
{
    (void)state;
    assert_int_equal(rp_result_row(12345)->result, RESULT_FAILED);
}

static void failing_sets_all_three(void **state)
{
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    assert_int_equal(rp_fail(&e, RESULT_IN_USE, "VM '%s' is %s", "web1", "held"), -EBUSY);
    assert_int_equal(e.result, RESULT_IN_USE);
    assert_int_equal(e.err, EBUSY);
    assert_string_equal(e.message, "VM 'web1' is held");
}

static void failing_works_without_a_struct(void **state)
{
    (void)state;
    assert_int_equal(rp_fail(NULL, RESULT_TIMEOUT, "late"), -ETIMEDOUT);
    assert_int_equal(rp_fail_errno(NULL, ENOSPC, "full"), -ENOSPC);
    assert_int_equal(rp_fail_memory(NULL), -ENOMEM);
    rp_error_prefix(NULL, "line %d: ", 1);
}

static void errno_picks_the_result(void **state)
{
    static const struct {
        int err, result;
    } cases[] = {{EACCES, RESULT_ACCESS_DENIED}, {EPERM, RESULT_ACCESS_DENIED},
                 {ENOMEM, RESULT_OUT_OF_MEMORY}, {ETIMEDOUT, RESULT_TIMEOUT},
                 {ENOSPC, RESULT_FAILED},        {EIO, RESULT_FAILED}};
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(rp_fail_errno(&e, cases[i].err, "writing"), -cases[i].err);
        assert_int_equal(e.result, cases[i].result);
        assert_int_equal(e.err, cases[i].err);
    }
    rp_fail_errno(&e, ENOSPC, "writing '%s'", "/b");
    assert_string_equal(e.message, "writing '/b': No space left on device");
}

static void out_of_memory(void **state)
{
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    assert_int_equal(rp_fail_memory(&e), -ENOMEM);
    assert_int_equal(e.result, RESULT_OUT_OF_MEMORY);
    assert_string_equal(e.message, "out of memory");
}

static void prefix_keeps_number_and_errno(void **state)
{
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    rp_fail_errno(&e, ENOSPC, "full");
    rp_error_prefix(&e, "line %u: ", 7u);
    assert_string_equal(e.message, "line 7: full: No space left on device");
    assert_int_equal(e.err, ENOSPC);
    assert_int_equal(e.result, RESULT_FAILED);
}

static void message_is_one_line_of_utf8(void **state)
{
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    rp_fail(&e, RESULT_FAILED, "%s", "a\nb\tc\x1b[1m\x7f");
    assert_string_equal(e.message, "a?b?c?[1m?");
    rp_fail(&e, RESULT_FAILED, "%s", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_string_equal(e.message, "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
    /* a lone lead, an overlong '/', a surrogate, one past the last code point */
    rp_fail(&e, RESULT_FAILED, "%s", "\xc3|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80");
    assert_string_equal(e.message, "?|??|???|????");
}

/* Fills a message so that two-byte characters meet its end in both alignments. */
static void long_message_ends_in_dots(void **state)
{
    char text[2 * RP_MESSAGE_SIZE + 1];
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < RP_MESSAGE_SIZE; i++)
        memcpy(text + 2 * i, "\xc3\xa4", 2);
    text[sizeof text - 1] = '\0';
    for (size_t shift = 0; shift < 2; shift++) {
        rp_fail(&e, RESULT_FAILED, "%s%s", shift ? "y" : "", text);
        assert_true(strlen(e.message) >= RP_MESSAGE_SIZE - 3);
        assert_string_equal(strchr(e.message, '\0') - 3, "...");
        assert_null(strchr(e.message, '?'));
    }
    rp_error_prefix(&e, "line 1: ");
    assert_int_equal(strncmp(e.message, "line 1: ", 8), 0);
    assert_string_equal(strchr(e.message, '\0') - 3, "...");
}

static void message_that_just_fits_is_whole(void **state)
{
    char text[RP_MESSAGE_SIZE];
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    rp_fail(&e, RESULT_FAILED, "%s", text);
    assert_string_equal(e.message, text);
}

static void utf8_sequences_have_their_length(void **state)
{
    (void)state;
    assert_int_equal(rp_utf8_sequence("a", 1), 1);
    assert_int_equal(rp_utf8_sequence("\xc3\xa4", 2), 2);
    assert_int_equal(rp_utf8_sequence("\xe2\x82\xac", 3), 3);
    assert_int_equal(rp_utf8_sequence("\xf0\x9f\x98\x80", 4), 4);
    assert_int_equal(rp_utf8_sequence("\xf0\x9f\x98\x80", 3), 0);
    assert_int_equal(rp_utf8_sequence("", 0), 0);
    assert_int_equal(rp_utf8_sequence("\x80", 1), 0);
    assert_int_equal(rp_utf8_sequence("\xff\xff\xff\xff", 4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_in_order_and_complete),
        cmocka_unit_test(unknown_result_is_failed),
        cmocka_unit_test(failing_sets_all_three),
        cmocka_unit_test(failing_works_without_a_struct),
        cmocka_unit_test(errno_picks_the_result),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(prefix_keeps_number_and_errno),
        cmocka_unit_test(message_is_one_line_of_utf8),
        cmocka_unit_test(long_message_ends_in_dots),
        cmocka_unit_test(message_that_just_fits_is_whole),
        cmocka_unit_test(utf8_sequences_have_their_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

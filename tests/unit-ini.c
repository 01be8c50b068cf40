// SPDX-License-Identifier: LGPL-2.1-or-later
/* Unit tests of backend/ini.c: what is read from a text, and how each bad line is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../backend/ini.h"

/* What was read, a line each: "2 [section] name=<value>", or "1 [section]" for a section itself. */
struct seen {
    char text[4096];
    size_t value_bytes; /* of the last entry */
    unsigned stop_at;   /* the line whose entry is refused; 0 = none */
};

static int see_entry(void *opaque, const char *section, const char *name, const char *value,
                     unsigned line, struct rp_error *e)
{
    struct seen *seen = opaque;
    size_t used = strlen(seen->text);

    if (line == seen->stop_at)
        return rp_fail(e, RESULT_IN_USE, "stopped at %u", line);
    seen->value_bytes = strlen(value);
    snprintf(seen->text + used, sizeof seen->text - used, "%u [%s] %s=<%s>\n", line, section, name,
             value);
    return 0;
}

static int see_section(void *opaque, const char *section, unsigned line, struct rp_error *e)
{
    struct seen *seen = opaque;
    size_t used = strlen(seen->text);

    if (line == seen->stop_at)
        return rp_fail(e, RESULT_IN_USE, "stopped at %u", line);
    snprintf(seen->text + used, sizeof seen->text - used, "%u [%s]\n", line, section);
    return 0;
}

static void assert_reads(const char *text, const char *expected)
{
    struct seen seen = {.text = ""};
    struct rp_error e = RP_ERROR_INIT;

    assert_int_equal(ini_read_sections(text, strlen(text), true, see_entry, see_section, &seen, &e),
                     0);
    assert_string_equal(seen.text, expected);
    assert_string_equal(e.message, "");
}

static void assert_refuses_bytes(const char *text, size_t length, const char *sentence)
{
    struct seen seen = {.text = ""};
    struct rp_error e = RP_ERROR_INIT;

    assert_int_equal(ini_read(text, length, true, see_entry, &seen, &e), -EBADMSG);
    assert_string_equal(e.message, sentence);
    assert_int_equal(e.result, RESULT_INCORRECT_DATA_TYPE);
}

static void assert_refuses(const char *text, const char *sentence)
{
    assert_refuses_bytes(text, strlen(text), sentence);
}

static void reads_sections_and_settings(void **state)
{
    (void)state;
    assert_reads("a=1\n[one]\nb = 2\n[two]\nc=3\n",
                 "1 [] a=<1>\n2 [one]\n3 [one] b=<2>\n4 [two]\n5 [two] c=<3>\n");
}

static void passes_over_comments_and_blank_lines(void **state)
{
    (void)state;
    assert_reads("# a=1\n;b=2\n\n   \n  # c=3\nd=4\n", "6 [] d=<4>\n");
    assert_reads("", "");
    assert_reads("\n\n", "");
}

static void takes_values_literally(void **state)
{
    (void)state;
    assert_reads("a = x ; y # z\n", "1 [] a=<x ; y # z>\n");
    assert_reads("a = C:\\x=y:z\n", "1 [] a=<C:\\x=y:z>\n");
    assert_reads("a = \"q\" [s]\n", "1 [] a=<\"q\" [s]>\n");
    assert_reads("a = ;x\n", "1 [] a=<;x>\n");
    assert_reads("a =\nb=\t\n", "1 [] a=<>\n2 [] b=<>\n");
}

static void ignores_indentation(void **state)
{
    (void)state;
    assert_reads("a=1\n  b=2\n\tc=3\n  [s]\n", "1 [] a=<1>\n2 [] b=<2>\n3 [] c=<3>\n4 [s]\n");
    assert_reads("  a \t=\t b c \t\n", "1 [] a=<b c>\n");
}

static void tolerates_windows_files(void **state)
{
    (void)state;
    assert_reads("\xef\xbb\xbf[s]\r\na=1\r\n\r\nb=2", "1 [s]\n2 [s] a=<1>\n4 [s] b=<2>\n");
    assert_reads("\xef\xbb\xbf", "");
}

static void leaves_an_unfinished_line_alone(void **state)
{
    static const char text[] = "a=1\nb=2\nnonsense \xff";
    struct seen seen = {.text = ""};
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    assert_int_equal(ini_read(text, strlen(text), false, see_entry, &seen, &e), 0);
    assert_string_equal(seen.text, "1 [] a=<1>\n2 [] b=<2>\n");
    assert_int_equal(ini_read(NULL, 0, false, see_entry, &seen, &e), 0);
}

static void long_values_arrive_whole(void **state)
{
    static const size_t sizes[] = {150, 195, 199, 200, 201, 4095, 60000};
    char *text = malloc(2 * 65536);

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct seen seen = {.text = ""};
        int length =
            snprintf(text, 2 * 65536, "a=%0*d\nb=%0*d\n", (int)sizes[i], 0, (int)sizes[i], 0);
        assert_int_equal(ini_read(text, (size_t)length, true, see_entry, &seen, NULL), 0);
        assert_int_equal(seen.value_bytes, sizes[i]);
    }
    free(text);
}

static void long_comments_are_one_line(void **state)
{
    char text[2048];

    (void)state;
    snprintf(text, sizeof text, "#%0999d=\n;%0300d\nb=2\n", 0, 0);
    assert_reads(text, "3 [] b=<2>\n");
}

static void refuses_lines_that_say_nothing(void **state)
{
    (void)state;
    assert_refuses("a=1\nnonsense\n", "line 2: neither NAME=VALUE, [SECTION] nor a comment");
    assert_refuses("nonsense", "line 1: neither NAME=VALUE, [SECTION] nor a comment");
    assert_refuses("a=1\n\n =x\n", "line 3: there is no name before '='");
    assert_refuses("a ;b=1\n", "line 1: neither NAME=VALUE, [SECTION] nor a comment");
}

static void refuses_a_colon_for_a_separator(void **state)
{
    (void)state;
    assert_refuses("a: 1\n", "line 1: a setting is written NAME=VALUE, with '=' and not ':'");
    assert_refuses("a: x=1\n", "line 1: a setting is written NAME=VALUE, with '=' and not ':'");
}

static void refuses_bad_sections(void **state)
{
    static const char *const texts[] = {"[s\n", "[]\n", "[s] x\n", "[s]]\n", "[s] ; c\n", "["};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_refuses(texts[i], "line 1: a section is written [NAME], alone on its line");
    assert_refuses("[s ;]\na=1\n", "line 1: neither NAME=VALUE, [SECTION] nor a comment");
}

static void refuses_long_names(void **state)
{
    char text[512];

    (void)state;
    snprintf(text, sizeof text, "\n%0100d=x\n[%049d]\n", 0, 0);
    assert_int_equal(
        ini_read(text, strlen(text), true, see_entry, &(struct seen){.text = ""}, NULL), 0);
    snprintf(text, sizeof text, "\n%0101d=x\n", 0);
    assert_refuses(text, "line 2: the name before '=' is longer than 100 bytes");
    snprintf(text, sizeof text, "[%050d]\n", 0);
    assert_refuses(text, "line 1: the name of the section is longer than 49 bytes");
    snprintf(text, sizeof text, "%0300d=x\n", 0);
    assert_refuses(text, "line 1: the name before '=' is longer than 100 bytes");
}

static void names_the_byte_that_is_no_text(void **state)
{
    (void)state;
    assert_refuses("a=1\nb=\xe4\n", "line 2: byte 3 (0xe4) is not UTF-8");
    assert_refuses("# \xc3", "line 1: byte 3 (0xc3) is not UTF-8");
    assert_refuses_bytes("a=1\nb=\0\n", 8, "line 2: byte 3 is NUL");
    assert_refuses_bytes("\0", 1, "line 1: byte 1 is NUL");
    /* UTF-16, as some editors save */
    assert_refuses_bytes("\xff\xfe"
                         "a\0=\0",
                         6, "line 1: byte 1 (0xff) is not UTF-8");
}

/* inih goes on after a line it does not understand: later troubles must not hide the first. */
static void reports_the_first_line_at_fault(void **state)
{
    (void)state;
    assert_refuses("a ;b=1\nc=\xff\n", "line 1: neither NAME=VALUE, [SECTION] nor a comment");
    assert_refuses("c=\xff\na ;b=1\n", "line 1: byte 3 (0xff) is not UTF-8");
}

static void ends_where_the_caller_says(void **state)
{
    static const char text[] = "a=1\n[s]\nb=2\nc=3\n";

    (void)state;
    for (unsigned line = 1; line <= 4; line++) {
        struct seen seen = {.text = "", .stop_at = line};
        struct rp_error e = RP_ERROR_INIT;
        char sentence[32];

        snprintf(sentence, sizeof sentence, "stopped at %u", line);
        assert_int_equal(
            ini_read_sections(text, strlen(text), true, see_entry, see_section, &seen, &e), -EBUSY);
        assert_string_equal(e.message, sentence);
        assert_null(strstr(seen.text, "c="));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_sections_and_settings),
        cmocka_unit_test(passes_over_comments_and_blank_lines),
        cmocka_unit_test(takes_values_literally),
        cmocka_unit_test(ignores_indentation),
        cmocka_unit_test(tolerates_windows_files),
        cmocka_unit_test(leaves_an_unfinished_line_alone),
        cmocka_unit_test(long_values_arrive_whole),
        cmocka_unit_test(long_comments_are_one_line),
        cmocka_unit_test(refuses_lines_that_say_nothing),
        cmocka_unit_test(refuses_a_colon_for_a_separator),
        cmocka_unit_test(refuses_bad_sections),
        cmocka_unit_test(refuses_long_names),
        cmocka_unit_test(names_the_byte_that_is_no_text),
        cmocka_unit_test(reports_the_first_line_at_fault),
        cmocka_unit_test(ends_where_the_caller_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

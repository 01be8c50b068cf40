// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/manifest.c and backend/table.c: what is printed reads back the same, and
 * what does not read is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../backend/manifest.h"
#include "../backend/table.h"

static char text_empty[] = "";

static struct manifest_disk sample_disks[] = {
    {
        .target = (char[]){"vda"},
        .file = (char[]){"vda.qcow2"},
        .format = (char[]){"qcow2"},
        .size_bytes = 1ull << 43,
        .data_bytes = 65536,
        .incremental = true,
        .why = (char[]){"changes since mon"},
        .base = (char[]){"mon"},
        .backing = (char[]){"../mon/a = b ; c.qcow2"},
        .sha256 = (char[]){"00ff"},
    },
    {
        .target = (char[]){"vdb"},
        .file = (char[]){"vdb.qcow2"},
        .format = (char[]){"qcow2"},
        .why = text_empty,
        .base = text_empty,
        .backing = text_empty,
        .sha256 = text_empty,
    },
};

static const struct manifest sample = {
    .vm = (char[]){"web 1 [x] #y"},
    .uuid = (char[]){"70872f8f-e240-42e4-a645-c384ca37634b"},
    .refpoint = (char[]){"tue"},
    .base = (char[]){"mon"},
    .id = (char[]){"0123456789abcdef"},
    .base_id = (char[]){"fedcba9876543210"},
    .nvram = (char[]){"nvram.fd"},
    .nvram_why = text_empty,
    .left_out = (char[]){"vdx vdy"},
    .moment = 1790000000,
    .exact = true,
    .consistency_level = 2,
    .result = 0,
    .ndisks = 2,
    .disks = sample_disks,
};

static char *print(const struct manifest *manifest, size_t *ret_length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_length);

    assert_non_null(out);
    manifest_print(manifest, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_round_trip(void **unused)
{
    struct manifest read;
    struct rp_error e;
    size_t length, length_again;
    char *text = print(&sample, &length), *again;

    (void)unused;
    assert_int_equal(manifest_parse(text, length, &read, &e), 0);
    assert_string_equal(read.vm, sample.vm);
    assert_int_equal(read.moment, sample.moment);
    assert_true(read.exact);
    assert_string_equal(read.id, sample.id);
    assert_string_equal(read.base_id, sample.base_id);
    assert_string_equal(read.nvram, "nvram.fd");
    assert_string_equal(read.left_out, "vdx vdy");
    assert_int_equal(read.result, 0);
    assert_int_equal(read.ndisks, 2);
    assert_int_equal(read.disks[0].size_bytes, 1ull << 43);
    assert_string_equal(read.disks[0].backing, "../mon/a = b ; c.qcow2");
    assert_ptr_equal(manifest_find_disk(&read, "vdb"), &read.disks[1]);
    assert_null(manifest_find_disk(&read, "vdc"));
    again = print(&read, &length_again);
    assert_string_equal(again, text);
    manifest_clear(&read);
    free(text);
    free(again);
}

/* A newer service may write more; a manifest cut short must not pass for a complete export. */
static void test_unknown_and_missing(void **unused)
{
    static const char more[] = "[export]\nresult=0\nnews=1\n[disk vda]\ncolour=red\n[other]\na=b\n";
    struct manifest read;
    struct rp_error e;

    (void)unused;
    assert_int_equal(manifest_parse(more, strlen(more), &read, &e), 0);
    assert_int_equal(read.result, 0);
    assert_int_equal(read.ndisks, 1);
    assert_string_equal(read.disks[0].file, "");
    manifest_clear(&read);
    assert_int_equal(manifest_parse("", 0, &read, &e), 0);
    assert_int_not_equal(read.result, 0);
    manifest_clear(&read);
}

static void test_wrong_values(void **unused)
{
    static const char *const wrong[] = {"[export]\nmoment=yesterday\n", "[disk vda]\nsize=-1\n",
                                        "[disk vda]\nsize=99999999999999999999\n",
                                        "[export]\nresult=1x\n", "garbage\n"};
    struct manifest read;
    struct rp_error e;

    (void)unused;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_true(manifest_parse(wrong[i], strlen(wrong[i]), &read, &e) < 0);
        assert_int_equal(e.result, RESULT_INCORRECT_DATA_TYPE);
        assert_non_null(strstr(e.message, "line "));
    }
}

static void test_time(void **unused)
{
    char text[MANIFEST_TIME_SIZE];

    (void)unused;
    manifest_print_time(1790000000, text);
    assert_string_equal(text, "2026-09-21T14:13:20Z");
}

static void test_table(void **unused)
{
    uint64_t serials[100];
    struct table table = {0};

    (void)unused;
    for (size_t i = 0; i < 100; i++) {
        serials[i] = table_new_serial(KIND_VM);
        assert_int_equal(rp_serial_kind(serials[i]), KIND_VM);
        assert_true(serials[i] > (i ? serials[i - 1] : 3));
        assert_int_equal(table_append(&table, &serials[i]), 0);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_ptr_equal(table_find(&table, serials[i]), &serials[i]);
        assert_null(table_find(&table, serials[i] + 1));
        assert_int_equal(table_after(&table, serials[i]), i + 1);
    }
    for (size_t i = 0; i < 100; i += 2)
        table_remove(&table, serials[i]);
    table_remove(&table, serials[0]); /* once more: nothing to do */
    assert_int_equal(table.count, 50);
    for (size_t i = 0; i < 100; i++)
        assert_ptr_equal(table_find(&table, serials[i]), i % 2 ? &serials[i] : NULL);
    assert_int_equal(table_after(&table, 0), 0);
    table_clear(&table);
    assert_null(table_find(&table, serials[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_unknown_and_missing),
        cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_time),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/settings.c: what each key takes, each refusal with its exact sentence, and
 * the laws that printing, copying and writing in pieces keep. TEST_DATA is the folder tests/data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../backend/settings.h"

#define DIRECTORY "ExportDirectory=/b\n" /* what every whole text needs */

static struct export_settings parse_good(const char *text, bool of_vm)
{
    struct export_settings s = {0};
    struct rp_error e = RP_ERROR_INIT;
    int status = settings_parse(text, strlen(text), true, of_vm, &s, &e);

    assert_string_equal(e.message, "");
    assert_int_equal(status, 0);
    return s;
}

static char *print(const struct export_settings *s, bool of_vm)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    assert_non_null(out);
    settings_print(s, of_vm, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static char *print_template(enum settings_scope scope, const char *disks, const char *bases)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    assert_non_null(out);
    settings_print_template(out, scope, disks, bases);
    assert_int_equal(fclose(out), 0);
    return text;
}

static char *read_data(const char *name)
{
    char path[4096];
    char *text = calloc(1, 65536);
    FILE *in;

    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    in = fopen(path, "rb");
    assert_non_null(text);
    assert_non_null(in);
    assert_true(fread(text, 1, 65535, in) > 0);
    fclose(in);
    return text;
}

static void assert_equals_file(char *text, const char *name)
{
    char *expected = read_data(name);

    assert_string_equal(text, expected);
    free(expected);
    free(text);
}

/* ---- every key ---- */

static bool is_of_create(enum setting setting)
{
    return setting == SETTING_NAME || setting == SETTING_CONSISTENCY || setting == SETTING_HOLD;
}

static void reads_every_key(void **state)
{
    char *text = read_data("settings-every-key.ini");
    struct export_settings s = parse_good(text, true);

    (void)state;
    assert_string_equal(s.export_directory, "/backup/web1/tue ; not a comment");
    assert_string_equal(s.base_refpoint, "../mon");
    assert_int_equal(s.ndisks, 3);
    assert_string_equal(s.disks[0], "vda");
    assert_string_equal(s.disks[1], "vdb");
    assert_string_equal(s.disks[2], "sda");
    assert_int_equal(s.format, SETTINGS_FORMAT_QCOW2);
    assert_int_equal(s.compression, SETTINGS_COMPRESSION_ZSTD);
    assert_int_equal(s.compression_level, 7);
    assert_int_equal(s.checksum, SETTINGS_CHECKSUM_NONE);
    assert_string_equal(s.base_export_directory, "/backup/web1/mon");
    assert_int_equal(s.if_base_lost, SETTINGS_BASE_LOST_FULL);
    assert_true(s.require_exact && s.keep_hold && s.has_bandwidth);
    assert_int_equal(s.bandwidth_bytes, 50 * 1024 * 1024);
    assert_int_equal(s.timeout_seconds, 3600);
    assert_string_equal(s.refpoint, "now");
    assert_int_equal(s.count, 14);
    assert_int_equal(s.line[SETTING_EXPORT_DIRECTORY], 3);
    assert_int_equal(s.line[SETTING_DISKS], 5);
    for (size_t i = 0; i < SETTING_COUNT; i++)
        assert_true(is_of_create((enum setting)i) || s.line[i] > 0);
    settings_clear(&s);
    free(text);
}

static void reads_every_key_of_create(void **state)
{
    struct export_settings s = {0};
    struct rp_error e = RP_ERROR_INIT;
    const char *text = "name=tue\nBaseReferencePoint=mon\nDisksToExport=vdb\n"
                       "ConsistencyLevel=1\nHold=90\n";

    (void)state;
    assert_int_equal(settings_parse(text, strlen(text), true, SETTINGS_OF_CREATE, &s, &e), 0);
    assert_string_equal(s.name, "tue");
    assert_string_equal(s.base_refpoint, "mon");
    assert_int_equal(s.ndisks, 1);
    assert_int_equal(s.consistency, SETTINGS_CONSISTENCY_APPLICATION);
    assert_int_equal(s.hold_seconds, 90);
    settings_clear(&s);
}

/* Each file has its own keys, and says where the others belong. */
static void refuses_keys_of_other_files(void **state)
{
    static const struct {
        const char *text;
        enum settings_scope scope;
        const char *message;
    } cases[] = {
        {"Name=x\n", SETTINGS_OF_VM, "line 1: Name can be set only in the VM's create file"},
        {"Hold=1\n", SETTINGS_OF_REFPOINT, "line 1: Hold can be set only in the VM's create file"},
        {"Name=x\nTimeout=1\n", SETTINGS_OF_CREATE,
         "line 2: Timeout can be set only in an export file"},
        {"ReferencePoint=x\n", SETTINGS_OF_CREATE,
         "line 1: ReferencePoint can be set only in the VM's own export file"},
        {"Hold=1\n", SETTINGS_OF_CREATE, "Name is missing"},
        {"Name=x\nConsistencyLevel=3\n", SETTINGS_OF_CREATE,
         "line 2: ConsistencyLevel is '3', but can be auto or 1 or 2"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct export_settings s;
        struct rp_error e = RP_ERROR_INIT;

        assert_int_equal(
            settings_parse(cases[i].text, strlen(cases[i].text), true, cases[i].scope, &s, &e),
            -EINVAL);
        assert_string_equal(e.message, cases[i].message);
        assert_int_equal(e.result, RESULT_INVALID_PARAMETER);
    }
}

static void fills_in_defaults(void **state)
{
    struct export_settings s = parse_good(DIRECTORY, false);

    (void)state;
    assert_null(s.base_refpoint);
    assert_null(s.disks);
    assert_int_equal(s.format, SETTINGS_FORMAT_QCOW2);
    assert_int_equal(s.compression, SETTINGS_COMPRESSION_NONE);
    assert_int_equal(s.checksum, SETTINGS_CHECKSUM_SHA256);
    assert_int_equal(s.if_base_lost, SETTINGS_BASE_LOST_FAIL);
    assert_false(s.require_exact || s.has_bandwidth || s.keep_hold);
    assert_int_equal(s.timeout_seconds, 0);
    assert_int_equal(s.count, 1);
    settings_clear(&s);
}

static void keys_and_words_have_no_case(void **state)
{
    struct export_settings s = parse_good("[EXPORT]\nexportdirectory=/b\nFORMAT=Raw\n"
                                          "checksum=NONE\nkeephold=YES\n",
                                          false);

    (void)state;
    assert_int_equal(s.format, SETTINGS_FORMAT_RAW);
    assert_int_equal(s.checksum, SETTINGS_CHECKSUM_NONE);
    assert_true(s.keep_hold);
    settings_clear(&s);
}

static void yes_and_no_have_many_words(void **state)
{
    static const char *const words[][2] = {
        {"yes", "no"}, {"true", "FALSE"}, {"1", "0"}, {"On", "off"}};
    char text[64];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (int no = 0; no < 2; no++) {
            snprintf(text, sizeof text, DIRECTORY "RequireExact=%s\n", words[i][no]);
            struct export_settings s = parse_good(text, false);
            assert_int_equal(s.require_exact, !no);
            settings_clear(&s);
        }
}

static void bandwidth_takes_suffixes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"0", 0},
                 {"1", 1},
                 {"3k", 3 * 1024},
                 {"3K", 3 * 1024},
                 {"2M", 2 << 20},
                 {"5g", 5ULL << 30},
                 {"8589934591G", 8589934591ULL << 30},
                 {"9223372036854775807", INT64_MAX}};
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, DIRECTORY "Bandwidth=%s\n", cases[i].text);
        struct export_settings s = parse_good(text, false);
        assert_true(s.has_bandwidth);
        assert_true(s.bandwidth_bytes == cases[i].bytes);
        settings_clear(&s);
    }
}

static void paths_may_be_as_long_as_the_kernel_takes(void **state)
{
    char text[3 * 4096 + 256];
    struct export_settings s;

    (void)state;
    snprintf(
        text, sizeof text,
        "ExportDirectory=/%04094d\r\nBaseReferencePoint=%04095d\r\nBaseExportDirectory=/%04094d", 0,
        0, 0);
    s = parse_good(text, false);
    assert_int_equal(strlen(s.export_directory), 4095);
    assert_int_equal(strlen(s.base_refpoint), 4095);
    assert_int_equal(strlen(s.base_export_directory), 4095);
    settings_clear(&s);
}

static void comments_alone_are_no_settings(void **state)
{
    struct export_settings s = parse_good("# ExportDirectory=/b\n[export]\n\n", false);

    (void)state;
    assert_int_equal(s.count, 0);
    settings_clear(&s);
}

static void tolerates_windows_files(void **state)
{
    struct export_settings s =
        parse_good("\xef\xbb\xbf[export]\r\n" DIRECTORY "\r\nFormat=raw\r\n", false);

    (void)state;
    assert_string_equal(s.export_directory, "/b");
    assert_int_equal(s.format, SETTINGS_FORMAT_RAW);
    assert_int_equal(s.line[SETTING_FORMAT], 4);
    settings_clear(&s);
}

/* ---- every refusal ---- */

static const struct refusal {
    const char *text;
    int result;
    const char *sentence;
} refusals[] = {
    {DIRECTORY "Frobnicate=1\n", RESULT_INVALID_PARAMETER, "line 2: unknown key 'Frobnicate'"},
    {"\nExportDir=/b\n", RESULT_INVALID_PARAMETER,
     "line 2: unknown key 'ExportDir'; did you mean 'ExportDirectory'?"},
    {"ExportDirectroy=/b\n", RESULT_INVALID_PARAMETER,
     "line 1: unknown key 'ExportDirectroy'; did you mean 'ExportDirectory'?"},
    {"formatt=raw\n", RESULT_INVALID_PARAMETER,
     "line 1: unknown key 'formatt'; did you mean 'Format'?"},
    {"Referencepoin=x\n", RESULT_INVALID_PARAMETER,
     "line 1: unknown key 'Referencepoin'; did you mean 'BaseReferencePoint'?"},
    {"ReferencePoint=x\n", RESULT_INVALID_PARAMETER,
     "line 1: ReferencePoint can be set only in the VM's own export file"},
    {DIRECTORY "\nexportdirectory=/c\n", RESULT_INVALID_PARAMETER,
     "line 3: ExportDirectory is set already, on line 1"},
    {"Format=raw\n[export]\nFormat=raw\n", RESULT_INVALID_PARAMETER,
     "line 3: Format is set already, on line 1"},
    {"[import]\n" DIRECTORY, RESULT_INVALID_PARAMETER,
     "line 1: unknown section [import]; the only one is [export]"},
    {"[export]\n" DIRECTORY "[Export]\n", RESULT_INVALID_PARAMETER,
     "line 3: section [export] stands already on line 1"},
    {"ExportDirectory=\n", RESULT_INVALID_PARAMETER,
     "line 1: ExportDirectory has no value; leave the line out to get the default"},
    {DIRECTORY "Timeout= \r\n", RESULT_INVALID_PARAMETER,
     "line 2: Timeout has no value; leave the line out to get the default"},
    {"ExportDirectory=b/c\n", RESULT_INVALID_PARAMETER,
     "line 1: ExportDirectory is a full path: it begins with '/', without quotes"},
    {"ExportDirectory=\"/b\"\n", RESULT_INVALID_PARAMETER,
     "line 1: ExportDirectory is a full path: it begins with '/', without quotes"},
    {"BaseExportDirectory=../mon\n", RESULT_INVALID_PARAMETER,
     "line 1: BaseExportDirectory is a full path: it begins with '/', without quotes"},
    {"ExportDirectory=/b\x1b[1m\n", RESULT_INVALID_PARAMETER,
     "line 1: ExportDirectory has a control character (0x1b) at byte 3 of its value"},
    {"ExportDirectory=/b\rFormat=raw\r", RESULT_INVALID_PARAMETER,
     "line 1: ExportDirectory has a control character (0x0d) at byte 3 of its value"},
    {"DisksToExport=,\n", RESULT_INVALID_PARAMETER, "line 1: DisksToExport names no disk"},
    {"DisksToExport=vda, vdb,vda\n", RESULT_INVALID_PARAMETER,
     "line 1: DisksToExport names 'vda' twice"},
    {"DisksToExport=vda\nDisksToExport=vdb vda\n", RESULT_INVALID_PARAMETER,
     "line 2: DisksToExport names 'vda' twice"},
    {"DisksToExport=abcdefghijklmnopqrstuvwxyz1234567\n", RESULT_INVALID_PARAMETER,
     "line 1: DisksToExport names a disk with 33 bytes, but a target has at most 32"},
    {"Format=vmdk\n", RESULT_INVALID_PARAMETER,
     "line 1: Format is 'vmdk', but can be qcow2 or raw"},
    {"Checksum=md5\n", RESULT_INVALID_PARAMETER,
     "line 1: Checksum is 'md5', but can be sha256 or none"},
    {"IfBaseLost=yes\n", RESULT_INVALID_PARAMETER,
     "line 1: IfBaseLost is 'yes', but can be fail or full"},
    {"Compression=gzip\n", RESULT_INVALID_PARAMETER,
     "line 1: Compression is 'gzip', but can be none, zstd or zstd:LEVEL"},
    {"Compression=zstd:0\n", RESULT_INVALID_PARAMETER,
     "line 1: Compression is 'zstd:0', but the levels of zstd are 1 to 19"},
    {"Compression=zstd:20\n", RESULT_INVALID_PARAMETER,
     "line 1: Compression is 'zstd:20', but the levels of zstd are 1 to 19"},
    {"Compression=zstd:99999999999999999999\n", RESULT_INVALID_PARAMETER,
     "line 1: Compression is 'zstd:99999999999999999999', but the levels of zstd are 1 to 19"},
    {"Compression=zstd:\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: Compression is 'zstd:', but the level of zstd is a number"},
    {"Compression=zstd:3x\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: Compression is 'zstd:3x', but the level of zstd is a number"},
    {"RequireExact=maybe\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: RequireExact is 'maybe', but can be yes or no"},
    {"KeepHold=2\n", RESULT_INCORRECT_DATA_TYPE, "line 1: KeepHold is '2', but can be yes or no"},
    {"Bandwidth=fast\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: Bandwidth is 'fast', but is a whole number with K, M, G or nothing behind it"},
    {"Bandwidth=1.5M\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: Bandwidth is '1.5M', but is a whole number with K, M, G or nothing behind it"},
    {"Bandwidth=-1\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: Bandwidth is '-1', but is a whole number with K, M, G or nothing behind it"},
    {"Bandwidth=1MB\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: Bandwidth is '1MB', but is a whole number with K, M, G or nothing behind it"},
    {"Bandwidth=8589934592G\n", RESULT_INVALID_PARAMETER,
     "line 1: Bandwidth is '8589934592G', but can be at most 9223372036854775807"},
    {"Bandwidth=99999999999999999999\n", RESULT_INVALID_PARAMETER,
     "line 1: Bandwidth is '99999999999999999999', but can be at most 9223372036854775807"},
    {"Timeout=1h\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: Timeout is '1h', but is a whole number of seconds"},
    {"Timeout=31536001\n", RESULT_INVALID_PARAMETER,
     "line 1: Timeout is '31536001', but can be at most 31536000 seconds (a year)"},
    {"Timeout=18446744073709551616\n", RESULT_INVALID_PARAMETER,
     "line 1: Timeout is '18446744073709551616', but can be at most 31536000 seconds (a year)"},
    {"ExportDirectory: /b\n", RESULT_INCORRECT_DATA_TYPE,
     "line 1: a setting is written NAME=VALUE, with '=' and not ':'"},
    {DIRECTORY "rubbish\n", RESULT_INCORRECT_DATA_TYPE,
     "line 2: neither NAME=VALUE, [SECTION] nor a comment"},
    {"ExportDirectory=/b\xe4\n", RESULT_INCORRECT_DATA_TYPE, "line 1: byte 19 (0xe4) is not UTF-8"},
};

static void assert_refused(const struct refusal *r, bool whole)
{
    struct export_settings s, before;
    struct rp_error e = RP_ERROR_INIT;
    int status;

    memset(&s, 0x5a, sizeof s);
    memcpy(&before, &s, sizeof s);
    status = settings_parse(r->text, strlen(r->text), whole, false, &s, &e);
    assert_string_equal(e.message, r->sentence);
    assert_int_equal(e.result, r->result);
    assert_int_equal(status, -rp_result_row(r->result)->err);
    assert_memory_equal(&s, &before, sizeof s);
}

static void refuses_with_line_and_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        assert_refused(&refusals[i], true);
        /* bash's echo sees errors of complete lines only while it writes */
        if (strchr(refusals[i].text, '\0')[-1] == '\n')
            assert_refused(&refusals[i], false);
    }
}

static void refuses_what_does_not_fit_together(void **state)
{
    static const struct refusal cases[] = {
        {"Format=raw\n", RESULT_INVALID_PARAMETER, "ExportDirectory is missing"},
        {DIRECTORY "Format=raw\nBaseReferencePoint=mon\n", RESULT_NOT_SUPPORTED,
         "line 2: raw cannot hold a delta; leave out BaseReferencePoint, or use Format=qcow2"},
        {DIRECTORY "Compression=zstd\nFormat=raw\n", RESULT_NOT_SUPPORTED,
         "line 3: raw cannot be compressed; leave out Compression, or use Format=qcow2"},
        {DIRECTORY "BaseExportDirectory=/c\n", RESULT_INVALID_PARAMETER,
         "line 2: BaseExportDirectory needs BaseReferencePoint"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct export_settings s = {0};
        assert_refused(&cases[i], true);
        /* More lines may follow: not judged yet. */
        assert_int_equal(
            settings_parse(cases[i].text, strlen(cases[i].text), false, false, &s, NULL), 0);
        settings_clear(&s);
    }
}

static void refuses_long_values(void **state)
{
    static char text[5000];

    (void)state;
    snprintf(text, sizeof text, "ExportDirectory=/%04095d\n", 0);
    assert_refused(&(struct refusal){text, RESULT_INVALID_PARAMETER,
                                     "line 1: ExportDirectory has 4096 bytes, but can have at most "
                                     "4095"},
                   true);
}

static void refuses_nul(void **state)
{
    struct export_settings s = {0};
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    assert_int_equal(settings_parse(DIRECTORY "\0\n", strlen(DIRECTORY) + 2, true, false, &s, &e),
                     -EBADMSG);
    assert_string_equal(e.message, "line 2: byte 1 is NUL");
}

static void refuses_more_disks_than_any_vm_has(void **state)
{
    char *text = calloc(1025, 8);
    size_t used = (size_t)sprintf(text, "DisksToExport=");

    (void)state;
    assert_non_null(text);
    for (int i = 0; i < 1025; i++)
        used += (size_t)snprintf(text + used, 1025 * 8 - used, "v%d,", i);
    assert_refused(&(struct refusal){text, RESULT_INVALID_PARAMETER,
                                     "line 1: DisksToExport names more than 1024 disks"},
                   true);
    free(text);
}

static void refuses_text_without_end(void **state)
{
    char *text = malloc(SETTINGS_TEXT_MAX + 1);
    struct export_settings s = {0};
    struct rp_error e = RP_ERROR_INIT;

    (void)state;
    assert_non_null(text);
    memset(text, '\n', SETTINGS_TEXT_MAX + 1);
    assert_int_equal(settings_parse(text, SETTINGS_TEXT_MAX, true, false, &s, &e), 0);
    assert_int_equal(settings_parse(text, SETTINGS_TEXT_MAX + 1, false, false, &s, &e), -EFBIG);
    assert_int_equal(e.err, EFBIG);
    assert_string_equal(e.message, "the text has 65537 bytes, but can have at most 65536");
    assert_int_equal(settings_parse(text, SETTINGS_TEXT_MAX + 1, false, false, &s, NULL), -EFBIG);
    free(text);
}

/* ---- the laws ---- */

static void a_good_text_is_good_in_pieces(void **state)
{
    char *text = read_data("settings-every-key.ini");

    (void)state;
    for (size_t length = 0; length <= strlen(text); length++) {
        struct export_settings s = {0};
        assert_int_equal(settings_parse(text, length, false, true, &s, NULL), 0);
        settings_clear(&s);
    }
    free(text);
}

static void prints_what_it_understood(void **state)
{
    char *text = read_data("settings-every-key.ini");
    struct export_settings s = parse_good(text, true);

    (void)state;
    free(text);
    assert_equals_file(print(&s, true), "settings-every-key.printed");
    settings_clear(&s);
    s = parse_good(DIRECTORY, false);
    assert_equals_file(print(&s, false), "settings-defaults.printed");
    settings_clear(&s);
}

/* Printed, parsed and printed again: the same text, so nothing that is printed got lost. */
static void assert_round_trip(const char *text, bool of_vm)
{
    struct export_settings first = parse_good(text, of_vm), second, copy = {0};
    char *once = print(&first, of_vm), *twice, *copied;

    second = parse_good(once, of_vm);
    twice = print(&second, of_vm);
    assert_string_equal(once, twice);
    assert_int_equal(settings_copy(&first, &copy, NULL), 0);
    copied = print(&copy, of_vm);
    assert_string_equal(once, copied);
    assert_memory_equal(copy.line, first.line, sizeof copy.line);
    settings_clear(&first);
    settings_clear(&second);
    settings_clear(&copy);
    free(once);
    free(twice);
    free(copied);
}

/* Values to choose from for each key; the first ones are what random texts are made of. */
static const char *const choices[][5] = {
    {"BaseReferencePoint", "mon", "../mon", "a=b;c # d", "\xc3\xa4 \xe2\x82\xac"},
    {"DisksToExport", "vda", "vda vdb", "vda,,vdb , sda", "sda,vdb"},
    {"Compression", "none", "zstd", "zstd:1", "ZSTD:19"},
    {"Checksum", "none", "sha256", "SHA256", "None"},
    {"IfBaseLost", "fail", "full", "FULL", "Fail"},
    {"RequireExact", "yes", "no", "on", "0"},
    {"Bandwidth", "0", "1", "17K", "3G"},
    {"Timeout", "0", "1", "31536000", "007"},
    {"KeepHold", "true", "false", "1", "off"},
    {"ReferencePoint", "now", "a b", "x;y", "[z]"},
};

/* A generator of our own, so that a failure comes again with the same texts everywhere. */
static unsigned draw(uint32_t *random, unsigned below)
{
    *random = *random * 1664525 + 1013904223;
    return (*random >> 16) % below;
}

static void random_settings_survive_the_round_trip(void **state)
{
    uint32_t random = 1;
    char text[1024];

    (void)state;
    for (int round = 0; round < 2000; round++) {
        size_t used = (size_t)sprintf(text, "ExportDirectory = /b/%u ; x\n", draw(&random, 1000));
        for (size_t key = 0; key < sizeof choices / sizeof choices[0]; key++)
            if (draw(&random, 2))
                used += (size_t)snprintf(text + used, sizeof text - used, "%s=%s\r\n",
                                         choices[key][0], choices[key][1 + draw(&random, 4)]);
        assert_round_trip(text, true);
    }
}

static void longest_settings_survive_the_round_trip(void **state)
{
    char *text = calloc(1, SETTINGS_TEXT_MAX + 1);
    size_t used;

    (void)state;
    assert_non_null(text);
    used = (size_t)sprintf(text,
                           "ExportDirectory=/%04094d\nBaseReferencePoint=%04095d\n"
                           "BaseExportDirectory=/%04094d\nReferencePoint=%04095d\nDisksToExport=",
                           0, 0, 0, 0);
    for (int i = 0; i < 1024; i++)
        used += (size_t)sprintf(text + used, "%032d,", i);
    assert_round_trip(text, true);
    free(text);
}

static void struct_of_no_settings_can_be_cleared(void **state)
{
    struct export_settings s = {0};

    (void)state;
    settings_clear(&s);
    settings_clear(&s);
}

/* ---- the template ---- */

static void template_documents_every_key(void **state)
{
    (void)state;
    assert_equals_file(print_template(false, NULL, NULL), "settings-template.txt");
    assert_equals_file(print_template(true, "vda vdb", "mon tue"), "settings-template-vm.txt");
    assert_equals_file(print_template(SETTINGS_OF_CREATE, "vda", NULL),
                       "settings-template-create.txt");
}

static void template_sets_nothing(void **state)
{
    char *text = print_template(true, "vda\nFormat=raw", "mon\n[x]");
    struct export_settings s = parse_good(text, true);

    (void)state;
    assert_int_equal(s.count, 0);
    settings_clear(&s);
    free(text);
}

/* Removing the '#' before a key, as a user does in an editor, makes it a setting: the default. */
static void template_shows_what_can_be_written(void **state)
{
    char *text = print_template(true, NULL, NULL), *printed;
    struct export_settings s, defaults = parse_good(DIRECTORY, true);

    (void)state;
    for (char *line = text; (line = strstr(line, "\n#")); line++)
        if (line[2] >= 'A' && line[2] <= 'Z')
            line[1] = ' ';
    s = parse_good(text, true);
    for (enum setting i = 0; i < SETTING_COUNT; i++)
        assert_true(is_of_create((enum setting)i) || s.line[i] > 0);
    free(s.export_directory);
    free(s.base_refpoint);
    free(s.base_export_directory);
    free(s.refpoint);
    s.export_directory = strdup("/b");
    s.base_refpoint = s.base_export_directory = s.refpoint = NULL;
    for (; s.ndisks > 0; s.ndisks--)
        free(s.disks[s.ndisks - 1]);
    s.has_bandwidth = false;
    printed = print(&s, true);
    free(text);
    text = print(&defaults, true);
    assert_string_equal(printed, text);
    settings_clear(&s);
    settings_clear(&defaults);
    free(printed);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(reads_every_key_of_create),
        cmocka_unit_test(refuses_keys_of_other_files),
        cmocka_unit_test(fills_in_defaults),
        cmocka_unit_test(keys_and_words_have_no_case),
        cmocka_unit_test(yes_and_no_have_many_words),
        cmocka_unit_test(bandwidth_takes_suffixes),
        cmocka_unit_test(paths_may_be_as_long_as_the_kernel_takes),
        cmocka_unit_test(comments_alone_are_no_settings),
        cmocka_unit_test(tolerates_windows_files),
        cmocka_unit_test(refuses_with_line_and_sentence),
        cmocka_unit_test(refuses_what_does_not_fit_together),
        cmocka_unit_test(refuses_long_values),
        cmocka_unit_test(refuses_nul),
        cmocka_unit_test(refuses_more_disks_than_any_vm_has),
        cmocka_unit_test(refuses_text_without_end),
        cmocka_unit_test(a_good_text_is_good_in_pieces),
        cmocka_unit_test(prints_what_it_understood),
        cmocka_unit_test(random_settings_survive_the_round_trip),
        cmocka_unit_test(longest_settings_survive_the_round_trip),
        cmocka_unit_test(struct_of_no_settings_can_be_cleared),
        cmocka_unit_test(template_documents_every_key),
        cmocka_unit_test(template_sets_nothing),
        cmocka_unit_test(template_shows_what_can_be_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

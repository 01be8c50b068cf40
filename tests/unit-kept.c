// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/kept.c, and of what backend/journal.c and backend/statedir.c make of a
 * state folder: what is kept comes back as it was, what makes no sense is refused with a sentence,
 * and nothing that lies there is lost.
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../backend/journal.h"

#define UUID       "70872f8f-e240-42e4-a645-c384ca37634b"
#define OTHER_UUID "80872f8f-e240-42e4-a645-c384ca37634b"

/* Whatever bytes a path or a message may have. */
static char odd[] = " a\tb\\c\n\xff\xc3\xa4=;# [x]\x7f ";
static char lines[] = "one\n two \n\xff\\\n";
static char empty[] = "";

static const struct kept_job sample_job = {
    .id = 7,
    .vm = odd,
    .uuid = (char[]){UUID},
    .refpoint = (char[]){"tue"},
    .point_id = empty,
    .directory = odd,
    .settings = lines,
    .state = 10,
    .result = 32768,
    .error = odd,
    .bytes_done = 1,
    .bytes_total = UINT64_MAX,
    .moment = {1790000000, 0},
    .submitted = {1790000001, 1},
    .started = {1790000002, 999999999},
    .ended = {0, 0},
    .exact = 2,
    .uid = 4294967294,
    .gid = 64999,
    .groups = (char[]){"4 64998"},
    .unclean = true,
    .made_directory = true,
    .tag = (char[]){"a1b2c3d4"},
    .files = lines,
};

static struct kept_disk sample_disks[] = {
    {odd, odd, odd, odd, odd, odd},
    {empty, empty, empty, empty, empty, empty},
};

static const struct kept_hold sample_hold = {
    .refpoint = odd,
    .id = odd,
    .socket = odd,
    .nvram = odd,
    .nvram_why = empty,
    .frozen = true,
    .offline = true,
    .begun = true,
    .seconds = 600,
    .boot = odd,
    .used_ms = 12345,
    .in_use = true,
    .ndisks = 2,
    .disks = sample_disks,
};

/* ---- texts ---- */

static char *print_job(const struct kept_job *job, size_t *ret_length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_length);

    assert_non_null(out);
    kept_job_print(job, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static char *print_hold(const struct kept_hold *hold, size_t *ret_length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_length);

    assert_non_null(out);
    kept_hold_print(hold, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void a_job_comes_back_as_it_was(void **state)
{
    size_t length, again_length;
    char *text = print_job(&sample_job, &length), *again;
    struct kept_job job;
    struct rp_error e;

    (void)state;
    assert_int_equal(kept_job_parse(text, length, &job, &e), 0);
    assert_string_equal(job.vm, odd);
    assert_string_equal(job.settings, lines);
    assert_string_equal(job.files, lines);
    assert_string_equal(job.point_id, "");
    assert_true(job.id == 7 && job.bytes_total == UINT64_MAX && job.uid == 4294967294);
    assert_true(job.started.tv_sec == 1790000002 && job.started.tv_nsec == 999999999);
    assert_true(job.unclean && job.made_directory);
    again = print_job(&job, &again_length);
    assert_string_equal(text, again);
    free(again);
    free(text);
    kept_job_clear(&job);
}

static void a_hold_comes_back_as_it_was(void **state)
{
    size_t length, again_length;
    char *text = print_hold(&sample_hold, &length), *again;
    struct kept_hold hold;
    struct rp_error e;

    (void)state;
    assert_int_equal(kept_hold_parse(text, length, &hold, &e), 0);
    assert_int_equal(hold.ndisks, 2);
    assert_string_equal(hold.disks[0].scratch, odd);
    assert_string_equal(hold.disks[1].target, "");
    assert_true(hold.frozen && hold.offline && hold.begun && hold.in_use && hold.used_ms == 12345);
    again = print_hold(&hold, &again_length);
    assert_string_equal(text, again);
    free(again);
    free(text);
    kept_hold_clear(&hold);
}

#define HEAD "[job]\nversion=2\n"

static void what_makes_no_sense_is_refused(void **state)
{
    static const struct {
        const char *text;
        size_t length; /* 0: that of the string */
        const char *sentence;
    } rows[] = {
        {"", 0, "it is of version 0"},
        {"[job]\nid=1\n", 0, "it is of version 0"},
        {"[job]\nversion=1\n", 0, "it is of version 1"},
        {"[job]\nversion=3\n", 0, "it is of version 3"},
        {"[job]\nversion=two\n", 0, "line 2: 'two' cannot be version"},
        {"version=2\n", 0, "it is of version 0"},
        {"[hold]\nversion=2\n", 0, "it is of version 0"},
        {HEAD "id=x\n", 0, "line 3: 'x' cannot be id"},
        {HEAD "id=-1\n", 0, "line 3: '-1' cannot be id"},
        {HEAD "id=1 2\n", 0, "line 3: '1 2' cannot be id"},
        {HEAD "id=18446744073709551616\n", 0, "line 3: '18446744073709551616' cannot be id"},
        {HEAD "id=\n", 0, "line 3: '' cannot be id"},
        {HEAD "unclean=1\n", 0, "line 3: '1' cannot be unclean"},
        {HEAD "ended=1\n", 0, "line 3: '1' cannot be ended"},
        {HEAD "ended=1.1000000000\n", 0, "line 3: '1.1000000000' cannot be ended"},
        {HEAD "ended=9223372036854775808.0\n", 0,
         "line 3: '9223372036854775808.0' cannot be ended"},
        {HEAD "vm=a\\\n", 0, "line 3: 'a\\' cannot be vm"},
        {HEAD "vm=a\\0\n", 0, "line 3: 'a\\0' cannot be vm"},
        {HEAD "vm=a\\01\n", 0, "line 3: 'a\\01' cannot be vm"},
        {HEAD "vm=a\\000b\n", 0, "line 3: 'a\\000b' cannot be vm"},
        {HEAD "vm=a\\400\n", 0, "line 3: 'a\\400' cannot be vm"},
        {HEAD "files=\\8\n", 0, "line 3: '\\8' cannot be files"},
        /* Cut short where the disk was full, or filled up by a file system that lost the rest. */
        {HEAD "sta", 0, "line 3: neither NAME=VALUE, [SECTION] nor a comment"},
        {HEAD "vm=\0\0\0", sizeof HEAD + 5, "line 3: byte 4 is NUL"},
        {"\0\0\0\0", 4, "line 1: byte 1 is NUL"},
        {HEAD "vm=\xff\n", 0, "line 3: byte 4 (0xff) is not UTF-8"},
        {"\x7f"
         "ELF\x02\x01\x01",
         0, "line 1: neither NAME=VALUE, [SECTION] nor a comment"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rp_error e = RP_ERROR_INIT;
        struct kept_job job;
        size_t length = rows[i].length ? rows[i].length : strlen(rows[i].text);

        assert_int_equal(kept_job_parse(rows[i].text, length, &job, &e), -EINVAL);
        assert_string_equal(e.message, rows[i].sentence);
    }
}

/* A later service of the same version may know more; people may write beside it. */
static void what_is_not_known_is_passed_over(void **state)
{
    static const char text[] =
        "# mine\n[more]\nid=9\n[job]\nversion=2\nid=1\ncolour=red\nvm=a\nvm=b\n";
    struct kept_job job;
    struct rp_error e;

    (void)state;
    assert_int_equal(kept_job_parse(text, strlen(text), &job, &e), 0);
    assert_int_equal(job.id, 1);
    assert_string_equal(job.vm, "b");
    assert_string_equal(job.error, "");
    kept_job_clear(&job);
}

/* At every byte: nothing is read beyond the end, and what is left has no more disks. */
static void a_piece_is_refused_or_less(void **state)
{
    size_t length;
    char *text = print_hold(&sample_hold, &length);

    (void)state;
    for (size_t cut = 0; cut < length; cut++) {
        char *piece = malloc(cut + 1); /* with a sanitizer, one byte more is seen */
        struct kept_hold hold;
        struct rp_error e = RP_ERROR_INIT;

        assert_non_null(piece);
        memcpy(piece, text, cut);
        if (kept_hold_parse(piece, cut, &hold, &e) == 0) {
            assert_true(hold.ndisks <= 2);
            kept_hold_clear(&hold);
        } else {
            assert_true(*e.message);
        }
        free(piece);
    }
    free(text);
}

/* ---- a folder ---- */

struct folder {
    char path[32];
};

static void put(const struct folder *folder, const char *name, const char *text, size_t length)
{
    char path[128];
    FILE *out;

    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, length, out), length);
    assert_int_equal(fclose(out), 0);
}

static void put_job(const struct folder *folder, uint64_t id)
{
    struct kept_job job = sample_job;
    char name[64], *text;
    size_t length;

    job.id = id;
    text = print_job(&job, &length);
    snprintf(name, sizeof name, "jobs/%llu.ini", (unsigned long long)id);
    put(folder, name, text, length);
    free(text);
}

static void assert_has(const struct folder *folder, const char *name, const char *text,
                       size_t length)
{
    char path[128], found[256];
    FILE *in;

    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    in = fopen(path, "r");
    if (!in)
        fail_msg("there is no %s", name);
    assert_int_equal(fread(found, 1, sizeof found, in), length);
    fclose(in);
    assert_memory_equal(found, text, length);
}

static bool is_there(const struct folder *folder, const char *name)
{
    char path[200];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    return lstat(path, &st) == 0;
}

static struct journal *open_journal(const struct folder *folder)
{
    struct journal *journal = NULL;
    struct rp_error e = RP_ERROR_INIT;

    if (journal_open(folder->path, &journal, &e) < 0)
        fail_msg("%s", e.message);
    return journal;
}

/* How many jobs there are, and the number of the last. */
static size_t take_jobs(struct journal *journal, uint64_t *ret_last)
{
    struct kept_job *jobs;
    size_t count;

    journal_take_jobs(journal, &jobs, &count);
    *ret_last = count > 0 ? jobs[count - 1].id : 0;
    for (size_t i = 0; i < count; i++)
        kept_job_clear(&jobs[i]);
    free(jobs);
    return count;
}

static int make_folder(void **state)
{
    struct folder *folder = calloc(1, sizeof *folder);

    if (!folder)
        return -1;
    strcpy(folder->path, "/tmp/rp.kept.XXXXXX");
    *state = folder;
    if (!mkdtemp(folder->path))
        return -1;
    journal_close(open_journal(folder));
    return 0;
}

static int remove_folder(void **state)
{
    struct folder *folder = *state;
    char command[64];
    int status;

    snprintf(command, sizeof command, "rm -rf '%s'", folder->path);
    status = system(command);
    free(folder);
    return status;
}

static void the_unreadable_is_set_aside(void **state)
{
    struct folder *folder = *state;
    struct journal *journal;
    struct kept_hold hold;
    char uuid[64];
    uint64_t last;

    put_job(folder, 1);
    put(folder, "jobs/2.ini", "binary\0\xff", 8);
    put(folder, "jobs/3.ini", "[job]\nversion=9\n", 16);
    put(folder, "jobs/4.ini", "", 0);
    put(folder, "holds/" UUID ".ini", "[hold]\nversion=2\nfrozen=x\n", 26);
    put(folder, "holds/short.ini", "[hold]\nversion=2\n", 17);
    put(folder, "holds/" OTHER_UUID ".ini", "[hold]\nversion=2\n", 17);
    put(folder, "exports/" UUID ".ini", "[exports]\nversion=2\n[export 1]\ncreated=x\n", 41);

    for (int i = 0; i < 2; i++) {
        journal = open_journal(folder);
        assert_int_equal(take_jobs(journal, &last), 1);
        assert_int_equal(last, 1);
        assert_true(journal_take_any_hold(journal, uuid, &hold));
        assert_string_equal(uuid, OTHER_UUID);
        kept_hold_clear(&hold);
        assert_false(journal_take_any_hold(journal, uuid, &hold));
        assert_int_equal(journal_last_job(journal), 4);
        journal_close(journal);
    }
    assert_has(folder, "jobs/2.ini.unreadable", "binary\0\xff", 8);
    assert_has(folder, "jobs/3.ini.unreadable", "[job]\nversion=9\n", 16);
    assert_has(folder, "jobs/4.ini.unreadable", "", 0);
    assert_has(folder, "holds/" UUID ".ini.unreadable", "[hold]\nversion=2\nfrozen=x\n", 26);
    assert_has(folder, "holds/short.ini.unreadable", "[hold]\nversion=2\n", 17);
    assert_has(folder, "exports/" UUID ".ini.unreadable",
               "[exports]\nversion=2\n[export 1]\ncreated=x\n", 41);
    assert_false(is_there(folder, "jobs/2.ini"));
    assert_true(is_there(folder, "jobs/1.ini"));
}

/* Whatever the number of files that may be open: the start fails, or all is read. */
static void want_of_descriptors_is_not_a_text_s_fault(void **state)
{
    struct folder *folder = *state;
    struct rlimit before, limit;
    struct journal *journal;
    struct rp_error e;
    unsigned failures = 0;
    uint64_t last;
    int first = dup(0), rc;

    close(first);
    put_job(folder, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned more = 0; more < 16; more++) {
        limit = before;
        limit.rlim_cur = (rlim_t)first + more;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        rc = journal_open(folder->path, &journal, &e);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(is_there(folder, "jobs/1.ini"));
        if (rc < 0) {
            assert_non_null(strstr(e.message, "Too many open files"));
            failures++;
            continue;
        }
        assert_int_equal(take_jobs(journal, &last), 1);
        journal_close(journal);
    }
    assert_true(failures > 0 && failures < 16);
}

static void what_is_no_file_does_no_harm(void **state)
{
    struct folder *folder = *state;
    char path[128];
    struct journal *journal;
    uint64_t last;
    int fd;

    put_job(folder, 5);
    put(folder, "jobs/note", "mine", 4);
    put(folder, "jobs/.6.new", "half", 4);
    put(folder, "jobs/nine.ini", HEAD "id=9\n", sizeof HEAD + 4);
    put(folder, "jobs/10.ini", HEAD "id=11\n", sizeof HEAD + 5);
    snprintf(path, sizeof path, "%s/jobs/6.ini", folder->path);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/jobs/7.ini", folder->path);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(path, sizeof path, "%s/jobs/8.ini", folder->path);
    assert_int_equal(symlink("5.ini", path), 0);
    /* Larger than any text of ours, and not read. */
    snprintf(path, sizeof path, "%s/jobs/9.ini", folder->path);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && ftruncate(fd, INT64_C(1) << 40) == 0);
    close(fd);

    journal = open_journal(folder);
    assert_int_equal(take_jobs(journal, &last), 1);
    assert_int_equal(last, 5);
    assert_int_equal(journal_last_job(journal), 10);
    journal_close(journal);
    assert_has(folder, "jobs/note", "mine", 4);
    assert_false(is_there(folder, "jobs/.6.new"));
    for (int i = 6; i <= 10; i++) {
        snprintf(path, sizeof path, "jobs/%d.ini.unreadable", i);
        assert_true(is_there(folder, path));
    }
    assert_true(is_there(folder, "jobs/nine.ini.unreadable"));
}

/* No number is given twice; one so great that counting would begin anew is none. */
static void numbers_go_on(void **state)
{
    struct folder *folder = *state;
    struct journal *journal = open_journal(folder);
    uint64_t last;

    assert_int_equal(journal_last_job(journal), 0);
    journal_close(journal);
    put_job(folder, 3);
    put(folder, "jobs/41.ini.unreadable", "", 0);
    put_job(folder, UINT64_MAX);
    journal = open_journal(folder);
    assert_int_equal(take_jobs(journal, &last), 1);
    assert_int_equal(last, 3);
    assert_int_equal(journal_last_job(journal), 41);
    journal_close(journal);
    assert_true(is_there(folder, "jobs/18446744073709551615.ini.unreadable"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_comes_back_as_it_was),
        cmocka_unit_test(a_hold_comes_back_as_it_was),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(what_is_not_known_is_passed_over),
        cmocka_unit_test(a_piece_is_refused_or_less),
        cmocka_unit_test_setup_teardown(the_unreadable_is_set_aside, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(want_of_descriptors_is_not_a_text_s_fault, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(what_is_no_file_does_no_harm, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(numbers_go_on, make_folder, remove_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

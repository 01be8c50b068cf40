// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fuzzes the readers of the state folder. Laws: nothing crashes; a refusal says why; all strings
 * are there; what was read, printed and read again is the same; whatever lies in the folder, the
 * service starts, and a text that it did not take is still there, byte for byte, under another
 * name.
 *
 * The first byte of an input chooses between a job (0), a hold (1) and exports (2), the rest is the
 * text.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../backend/journal.h"
#include "fuzz.h"

#define UUID "70872f8f-e240-42e4-a645-c384ca37634b"

/* ---- the texts ---- */

/* Any of the three, by its kind. */
union kept {
    struct kept_job job;
    struct kept_hold hold;
    struct kept_exports exports;
};

static int parse_job(const char *text, size_t length, union kept *ret_kept, struct rp_error *e)
{
    return kept_job_parse(text, length, &ret_kept->job, e);
}

static int parse_hold(const char *text, size_t length, union kept *ret_kept, struct rp_error *e)
{
    return kept_hold_parse(text, length, &ret_kept->hold, e);
}

static int parse_exports(const char *text, size_t length, union kept *ret_kept, struct rp_error *e)
{
    return kept_exports_parse(text, length, &ret_kept->exports, e);
}

static void print_job(const union kept *kept, FILE *out)
{
    const struct kept_job *job = &kept->job;

    fuzz_require(job->vm && job->uuid && job->refpoint && job->point_id && job->directory &&
                     job->settings && job->error && job->groups && job->tag && job->files,
                 "strings of a job are there");
    kept_job_print(job, out);
}

static void print_hold(const union kept *kept, FILE *out)
{
    const struct kept_hold *hold = &kept->hold;

    fuzz_require(hold->refpoint && hold->id && hold->socket && hold->nvram && hold->nvram_why &&
                     hold->boot,
                 "strings of a hold are there");
    for (size_t i = 0; i < hold->ndisks; i++) {
        const struct kept_disk *disk = &hold->disks[i];

        fuzz_require(disk->target && disk->export_name && disk->base && disk->bitmap &&
                         disk->why_full && disk->scratch,
                     "strings of disks are there");
    }
    kept_hold_print(hold, out);
}

static void print_exports(const union kept *kept, FILE *out)
{
    const struct kept_exports *exports = &kept->exports;

    for (size_t i = 0; i < exports->count; i++)
        fuzz_require(exports->items[i].refpoint && exports->items[i].id &&
                         exports->items[i].directory,
                     "strings of exports are there");
    kept_exports_print(exports, out);
}

static void clear_job(union kept *kept)
{
    kept_job_clear(&kept->job);
}

static void clear_hold(union kept *kept)
{
    kept_hold_clear(&kept->hold);
}

static void clear_exports(union kept *kept)
{
    kept_exports_clear(&kept->exports);
}

static const struct kind {
    const char *folder;
    int (*parse)(const char *text, size_t length, union kept *ret_kept, struct rp_error *e);
    void (*print)(const union kept *kept, FILE *out);
    void (*clear)(union kept *kept);
} kinds[] = {
    {"jobs", parse_job, print_job, clear_job},
    {"holds", parse_hold, print_hold, clear_hold},
    {"exports", parse_exports, print_exports, clear_exports},
};

static char *print(const struct kind *kind, const union kept *kept, size_t *ret_length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_length);

    fuzz_require(out != NULL, "memory");
    kind->print(kept, out);
    fuzz_require(fclose(out) == 0, "memory");
    return text;
}

/* True: it can be read. */
static bool check_text(const struct kind *kind, const char *text, size_t length)
{
    struct rp_error e = RP_ERROR_INIT;
    union kept kept;
    char *printed, *again;
    size_t printed_length, again_length;
    int status = kind->parse(text, length, &kept, &e);

    if (status < 0) {
        fuzz_require(status == -EINVAL, "a text is refused as invalid");
        fuzz_require(*e.message, "there is a sentence");
        return false;
    }
    printed = print(kind, &kept, &printed_length);
    kind->clear(&kept);
    fuzz_require(kind->parse(printed, printed_length, &kept, &e) == 0, "what is printed is read");
    again = print(kind, &kept, &again_length);
    kind->clear(&kept);
    fuzz_require(printed_length == again_length && memcmp(printed, again, again_length) == 0,
                 "what is printed means the same");
    free(again);
    free(printed);
    return true;
}

/* ---- the folder ---- */

static char state_dir[] = "/tmp/rp.fuzz.XXXXXX";
static int state_fd;

static void remove_state(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        unlinkat(state_fd, kinds[i].folder, AT_REMOVEDIR);
    unlinkat(state_fd, "marks", AT_REMOVEDIR); /* the journal's own, and not fuzzed */
    rmdir(state_dir);
}

static void make_state(void)
{
    fuzz_require(mkdtemp(state_dir) != NULL, "a folder can be made");
    state_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fuzz_require(state_fd >= 0, "it can be opened");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        fuzz_require(mkdirat(state_fd, kinds[i].folder, 0700) == 0, "folders can be made");
    atexit(remove_state);
}

static bool is_there(const char *path, const char *text, size_t length)
{
    static char found[1 << 20];
    int fd = openat(state_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0)
        return false;
    got = read(fd, found, sizeof found);
    close(fd);
    fuzz_require(got >= 0 && (size_t)got == length && memcmp(found, text, length) == 0,
                 "nothing of it is lost");
    unlinkat(state_fd, path, 0);
    return true;
}

static bool is_taken(struct journal *journal, const struct kind *kind)
{
    struct kept_hold hold;
    struct kept_job *jobs;
    char uuid[64];
    size_t count;

    if (kind == &kinds[2])
        return true;
    if (kind == &kinds[1]) {
        if (!journal_take_any_hold(journal, uuid, &hold))
            return false;
        fuzz_require(strcmp(uuid, UUID) == 0, "it is of the VM that its name says");
        kept_hold_clear(&hold);
        return true;
    }
    journal_take_jobs(journal, &jobs, &count);
    for (size_t i = 0; i < count; i++)
        kept_job_clear(&jobs[i]);
    free(jobs);
    return count > 0;
}

static void check_folder(const struct kind *kind, const char *text, size_t length, bool is_good)
{
    const char *name = kind == &kinds[0] ? "7" : UUID;
    char path[128], aside[sizeof path + sizeof ".unreadable"];
    struct journal *journal;
    struct rp_error e;
    int fd;
    bool is_left;

    snprintf(path, sizeof path, "%s/%s.ini", kind->folder, name);
    snprintf(aside, sizeof aside, "%s.unreadable", path);
    fd = openat(state_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    fuzz_require(fd >= 0 && write(fd, text, length) == (ssize_t)length, "a file can be written");
    close(fd);

    fuzz_require(journal_open(state_dir, &journal, &e) == 0, "the service starts");
    is_left = is_there(path, text, length);
    fuzz_require(is_left != is_there(aside, text, length), "it stays or is set aside");
    /* A job may be another one than its name says. */
    fuzz_require(is_left == is_good || (kind == &kinds[0] && is_good), "what can be read stays");
    fuzz_require(is_taken(journal, kind) == is_left || kind == &kinds[2], "what stays is taken");
    journal_close(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kind *kind = &kinds[size > 0 ? data[0] % 3 : 0];
    const char *text = size > 0 ? (const char *)data + 1 : "";
    size_t length = size > 0 ? size - 1 : 0;

    if (state_fd == 0)
        make_state();
    check_folder(kind, text, length, check_text(kind, text, length));
    return 0;
}

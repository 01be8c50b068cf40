// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The journal's text, in memory and on disk. Any thread; those that change it wait for the disk.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ini.h"

#define JOURNAL_NAME    "journal.ini"
#define JOURNAL_VERSION 1

/* A hundred thousand points, each with the longest path, would not fill it. */
#define JOURNAL_MAX_BYTES (512u << 20)

struct entry {
    char *uuid, *refpoint, *id, *directory;
    time_t created;
};

struct journal {
    char *path, *temporary;
    pthread_mutex_t file; /* of the file on disk: one writer at a time; taken before `lock` */
    pthread_mutex_t lock; /* protects what follows; never held while the disk is written */
    uint64_t last_job, version;
    struct entry *entries;
    size_t count;
};

/* ---- entries ---- */

static void clear_entry(struct entry *entry)
{
    free(entry->uuid);
    free(entry->refpoint);
    free(entry->id);
    free(entry->directory);
}

static struct entry *find_locked(struct journal *journal, const char *uuid, const char *refpoint)
{
    for (size_t i = 0; i < journal->count; i++)
        if (strcmp(journal->entries[i].uuid, uuid) == 0 &&
            strcmp(journal->entries[i].refpoint, refpoint) == 0)
            return &journal->entries[i];
    return NULL;
}

static struct entry *add_locked(struct journal *journal)
{
    struct entry *entries =
        reallocarray(journal->entries, journal->count + 1, sizeof *journal->entries);

    if (!entries)
        return NULL;
    journal->entries = entries;
    entries[journal->count] = (struct entry){0};
    return &entries[journal->count++];
}

static void remove_locked(struct journal *journal, struct entry *entry)
{
    clear_entry(entry);
    *entry = journal->entries[--journal->count];
}

/* ---- reading ---- */

static int take_number(const char *value, uint64_t *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoull(value, &end, 10);
    return errno || *end || *value < '0' || *value > '9' ? -EINVAL : 0;
}

static int take_text(char **slot, const char *value)
{
    free(*slot);
    *slot = strdup(value);
    return *slot ? 0 : -ENOMEM;
}

static int take_export(struct journal *journal, const char *name, const char *value)
{
    struct entry *entry = journal->count ? &journal->entries[journal->count - 1] : NULL;
    uint64_t number;
    int rc;

    /* "vm" is the first of each. */
    if (strcmp(name, "vm") == 0) {
        entry = add_locked(journal);
        return entry ? take_text(&entry->uuid, value) : -ENOMEM;
    }
    if (!entry)
        return -EINVAL;
    if (strcmp(name, "reference_point") == 0)
        return take_text(&entry->refpoint, value);
    if (strcmp(name, "id") == 0)
        return take_text(&entry->id, value);
    if (strcmp(name, "directory") == 0)
        return take_text(&entry->directory, value);
    if (strcmp(name, "created") != 0)
        return 0;
    rc = take_number(value, &number);
    entry->created = (time_t)number;
    return rc;
}

static int on_entry(void *opaque, const char *section, const char *name, const char *value,
                    unsigned line, struct rp_error *e)
{
    struct journal *journal = opaque;
    int rc = 0;

    if (strncmp(section, "export ", 7) == 0)
        rc = take_export(journal, name, value);
    else if (strcmp(section, "service") == 0 && strcmp(name, "version") == 0)
        rc = take_number(value, &journal->version);
    else if (strcmp(section, "service") == 0 && strcmp(name, "last_job") == 0)
        rc = take_number(value, &journal->last_job);
    if (rc == -ENOMEM)
        return rp_fail_memory(e);
    if (rc < 0)
        return rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "line %u: '%s' cannot be %s", line, value,
                       name);
    return 0;
}

/* An entry that lacks something is of no use, and would be in the way. */
static void drop_halves(struct journal *journal)
{
    for (size_t i = journal->count; i > 0; i--) {
        struct entry *entry = &journal->entries[i - 1];
        if (!entry->uuid || !entry->refpoint || !entry->id || !entry->directory)
            remove_locked(journal, entry);
    }
}

static int read_file(const char *path, char **ret_text, size_t *ret_length, struct rp_error *e)
{
    FILE *in = fopen(path, "re");
    struct stat st = {0};
    char *text = NULL;

    if (!in)
        return errno == ENOENT ? -ENOENT : rp_fail_errno(e, errno, "cannot open '%s'", path);
    if (fstat(fileno(in), &st) == 0 && st.st_size >= 0 && st.st_size < JOURNAL_MAX_BYTES)
        text = malloc((size_t)st.st_size + 1);
    if (!text) {
        fclose(in);
        return rp_fail_memory(e);
    }
    *ret_length = fread(text, 1, (size_t)st.st_size, in);
    fclose(in);
    *ret_text = text;
    return 0;
}

static int parse(struct journal *journal, const char *text, size_t length, struct rp_error *e)
{
    int rc = ini_read(text, length, true, on_entry, journal, e);

    if (rc == 0 && journal->version > JOURNAL_VERSION)
        rc = rp_fail(e, RESULT_INCORRECT_DATA_TYPE, "it is of version %" PRIu64 ", newer than %d",
                     journal->version, JOURNAL_VERSION);
    return rc;
}

static void clear_entries(struct journal *journal)
{
    for (size_t i = 0; i < journal->count; i++)
        clear_entry(&journal->entries[i]);
    free(journal->entries);
    journal->entries = NULL;
    journal->count = 0;
}

static int load(struct journal *journal, struct rp_error *e)
{
    char *text = NULL, *aside;
    size_t length = 0;
    int rc = read_file(journal->path, &text, &length, e);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    rc = parse(journal, text, length, e);
    free(text);
    if (rc == -ENOMEM)
        return rc;
    if (rc < 0) {
        clear_entries(journal);
        if (asprintf(&aside, "%s.unreadable", journal->path) < 0)
            return rp_fail_memory(e);
        rp_error_prefix(e, "'%s' was set aside as '%s': ", journal->path, aside);
        rc = rename(journal->path, aside) == 0 ? 0 : -errno;
        free(aside);
        return rc;
    }
    drop_halves(journal);
    return 0;
}

int journal_open(const char *state_dir, struct journal **ret_journal, struct rp_error *e)
{
    struct journal *journal = calloc(1, sizeof *journal);
    int rc;

    if (!journal)
        return rp_fail_memory(e);
    pthread_mutex_init(&journal->file, NULL);
    pthread_mutex_init(&journal->lock, NULL);
    if (asprintf(&journal->path, "%s/" JOURNAL_NAME, state_dir) < 0)
        journal->path = NULL;
    if (asprintf(&journal->temporary, "%s/." JOURNAL_NAME ".new", state_dir) < 0)
        journal->temporary = NULL;
    rc = journal->path && journal->temporary ? load(journal, e) : rp_fail_memory(e);
    if (rc < 0) {
        journal_close(journal);
        return rc;
    }
    *ret_journal = journal;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    clear_entries(journal);
    pthread_mutex_destroy(&journal->file);
    pthread_mutex_destroy(&journal->lock);
    free(journal->path);
    free(journal->temporary);
    free(journal);
}

/* ---- writing ---- */

static void print_locked(const struct journal *journal, FILE *out)
{
    fprintf(out, "; Kept by refpointfs; it may be read at any time.\n[service]\nversion=%d\n",
            JOURNAL_VERSION);
    fprintf(out, "last_job=%" PRIu64 "\n", journal->last_job);
    for (size_t i = 0; i < journal->count; i++) {
        const struct entry *entry = &journal->entries[i];
        fprintf(out,
                "\n[export %zu]\nvm=%s\nreference_point=%s\ncreated=%lld\nid=%s\ndirectory=%s\n",
                i + 1, entry->uuid, entry->refpoint, (long long)entry->created, entry->id,
                entry->directory);
    }
}

static int write_file(const struct journal *journal, const char *text, size_t length,
                      struct rp_error *e)
{
    int fd = open(journal->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = 0;

    if (fd < 0)
        return rp_fail_errno(e, errno, "cannot write '%s'", journal->temporary);
    for (size_t done = 0; done < length && rc == 0;) {
        ssize_t n = write(fd, text + done, length - done);
        if (n < 0 && errno != EINTR)
            rc = rp_fail_errno(e, errno, "writing '%s'", journal->temporary);
        done += n > 0 ? (size_t)n : 0;
    }
    if (rc == 0 && fsync(fd) < 0)
        rc = rp_fail_errno(e, errno, "syncing '%s'", journal->temporary);
    close(fd);
    if (rc == 0 && rename(journal->temporary, journal->path) < 0)
        rc = rp_fail_errno(e, errno, "cannot rename '%s'", journal->temporary);
    return rc;
}

static int save(struct journal *journal, struct rp_error *e)
{
    char *text = NULL;
    size_t length;
    FILE *out;
    int rc = 0;

    pthread_mutex_lock(&journal->file);
    out = open_memstream(&text, &length);
    if (out) {
        pthread_mutex_lock(&journal->lock);
        print_locked(journal, out);
        pthread_mutex_unlock(&journal->lock);
    }
    if (!out || fclose(out) != 0)
        rc = rp_fail_memory(e);
    if (rc == 0)
        rc = write_file(journal, text, length, e);
    pthread_mutex_unlock(&journal->file);
    free(text);
    return rc;
}

/* ---- what it knows ---- */

char *journal_get_export(struct journal *journal, const char *uuid, const char *refpoint,
                         time_t created, const char *id)
{
    const struct entry *entry;
    char *directory = NULL;

    pthread_mutex_lock(&journal->lock);
    entry = find_locked(journal, uuid, refpoint);
    if (entry && entry->created == created && strcmp(entry->id, id) == 0)
        directory = strdup(entry->directory);
    pthread_mutex_unlock(&journal->lock);
    return directory;
}

static int set_locked(struct journal *journal, const char *uuid, const char *refpoint,
                      time_t created, const char *id, const char *directory)
{
    struct entry *entry = find_locked(journal, uuid, refpoint);

    if (!entry) {
        entry = add_locked(journal);
        if (!entry)
            return -ENOMEM;
        entry->uuid = strdup(uuid);
        entry->refpoint = strdup(refpoint);
    }
    free(entry->directory);
    free(entry->id);
    entry->directory = strdup(directory);
    entry->id = strdup(id);
    entry->created = created;
    if (entry->uuid && entry->refpoint && entry->id && entry->directory)
        return 0;
    remove_locked(journal, entry);
    return -ENOMEM;
}

int journal_set_export(struct journal *journal, const char *uuid, const char *refpoint,
                       time_t created, const char *id, const char *directory, struct rp_error *e)
{
    int rc;

    /* A line's end in a path would break the text; such a path is then just not remembered. */
    if (strchr(directory, '\n'))
        return 0;
    pthread_mutex_lock(&journal->lock);
    rc = set_locked(journal, uuid, refpoint, created, id, directory);
    pthread_mutex_unlock(&journal->lock);
    return rc < 0 ? rp_fail_memory(e) : save(journal, e);
}

void journal_forget(struct journal *journal, const char *uuid, const char *refpoint)
{
    struct rp_error ignored;
    struct entry *entry;

    pthread_mutex_lock(&journal->lock);
    entry = find_locked(journal, uuid, refpoint);
    if (entry)
        remove_locked(journal, entry);
    pthread_mutex_unlock(&journal->lock);
    if (entry)
        save(journal, &ignored);
}

uint64_t journal_last_job(struct journal *journal)
{
    uint64_t id;

    pthread_mutex_lock(&journal->lock);
    id = journal->last_job;
    pthread_mutex_unlock(&journal->lock);
    return id;
}

int journal_set_last_job(struct journal *journal, uint64_t id, struct rp_error *e)
{
    pthread_mutex_lock(&journal->lock);
    journal->last_job = id;
    pthread_mutex_unlock(&journal->lock);
    return save(journal, e);
}

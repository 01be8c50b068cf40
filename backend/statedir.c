// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Small texts, a file each: written beside, synced, renamed into place. Any thread.
 */
#include "statedir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX     ".ini"
#define UNREADABLE ".unreadable"

/* More than the settings of a job and the disks of a VM can come to; a longer file is not ours. */
#define TEXT_MAX_BYTES (16u << 20)

#define FILE_NAME_MAX 300

struct statedir {
    char *path;
    int fd;
    pthread_mutex_t lock; /* of the files: one writer at a time */
};

int statedir_open(const char *state_dir, const char *folder, struct statedir **ret_statedir,
                  struct rp_error *e)
{
    struct statedir *statedir = calloc(1, sizeof *statedir);
    int rc = 0;

    if (!statedir)
        return rp_fail_memory(e);
    pthread_mutex_init(&statedir->lock, NULL);
    statedir->fd = -1;
    if (asprintf(&statedir->path, "%s/%s", state_dir, folder) < 0) {
        statedir->path = NULL;
        rc = rp_fail_memory(e);
    } else if (mkdir(statedir->path, 0700) < 0 && errno != EEXIST) {
        rc = rp_fail_errno(e, errno, "cannot make the folder '%s'", statedir->path);
    } else {
        statedir->fd = open(statedir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (statedir->fd < 0)
            rc = rp_fail_errno(e, errno, "cannot use the folder '%s'", statedir->path);
    }
    if (rc < 0) {
        statedir_close(statedir);
        return rc;
    }
    *ret_statedir = statedir;
    return 0;
}

void statedir_close(struct statedir *statedir)
{
    if (!statedir)
        return;
    if (statedir->fd >= 0)
        close(statedir->fd);
    pthread_mutex_destroy(&statedir->lock);
    free(statedir->path);
    free(statedir);
}

/* ---- reading ---- */

static int read_file(struct statedir *statedir, const char *file, char **ret_text,
                     size_t *ret_length, struct rp_error *e)
{
    int fd = openat(statedir->fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    char *text = NULL;
    size_t length = 0;
    ssize_t got = 1;

    if (fd < 0)
        return rp_fail_errno(e, errno, "cannot open '%s/%s'", statedir->path, file);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size >= TEXT_MAX_BYTES) {
        close(fd);
        return rp_fail(e, RESULT_FAILED, "'%s/%s' is no file of ours", statedir->path, file);
    }
    text = malloc((size_t)st.st_size + 1);
    while (text && length < (size_t)st.st_size &&
           (got = read(fd, text + length, (size_t)st.st_size - length)) > 0)
        length += (size_t)got;
    close(fd);
    if (!text)
        return rp_fail_memory(e);
    if (got < 0) {
        free(text);
        return rp_fail(e, RESULT_FAILED, "cannot read '%s/%s'", statedir->path, file);
    }
    text[length] = '\0';
    *ret_text = text;
    *ret_length = length;
    return 0;
}

int statedir_read(struct statedir *statedir, const char *name, char **ret_text, size_t *ret_length,
                  struct rp_error *e)
{
    char file[FILE_NAME_MAX];

    snprintf(file, sizeof file, "%s" SUFFIX, name);
    return read_file(statedir, file, ret_text, ret_length, e);
}

/* The system's fault, and none of the file's. */
static bool is_of_the_moment(int rc)
{
    return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

static void set_aside(struct statedir *statedir, const char *file)
{
    char aside[FILE_NAME_MAX];

    snprintf(aside, sizeof aside, "%s" UNREADABLE, file);
    renameat(statedir->fd, file, statedir->fd, aside);
}

/* Cuts the suffix off; false when there is none, or nothing before it. */
static bool cut(char *name, const char *suffix)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);

    if (length <= suffix_length || strcmp(name + length - suffix_length, suffix) != 0)
        return false;
    name[length - suffix_length] = '\0';
    return true;
}

/* One file of the folder. What was left half-written by a process that died is removed. */
static int take_file(struct statedir *statedir, const char *file, statedir_text *take, void *opaque,
                     struct rp_error *e)
{
    char name[FILE_NAME_MAX], *text = NULL;
    size_t length = 0;
    int rc;

    if (file[0] == '.') {
        if (strcmp(file, ".") != 0 && strcmp(file, "..") != 0)
            unlinkat(statedir->fd, file, 0);
        return 0;
    }
    snprintf(name, sizeof name, "%s", file);
    if (cut(name, SUFFIX UNREADABLE))
        return take(opaque, name, NULL, 0, e);
    if (!cut(name, SUFFIX))
        return 0;
    rc = read_file(statedir, file, &text, &length, e);
    if (rc == 0)
        rc = take(opaque, name, text, length, e);
    else if (!is_of_the_moment(rc))
        rc = -EINVAL;
    free(text);
    if (rc != -EINVAL)
        return rc;
    set_aside(statedir, file);
    return take(opaque, name, NULL, 0, e);
}

int statedir_each(struct statedir *statedir, statedir_text *take, void *opaque, struct rp_error *e)
{
    int fd = openat(statedir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!dir) {
        rc = rp_fail_errno(e, errno, "cannot list the folder '%s'", statedir->path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while (rc == 0 && (errno = 0, entry = readdir(dir)))
        rc = take_file(statedir, entry->d_name, take, opaque, e);
    if (rc == 0 && errno)
        rc = rp_fail_errno(e, errno, "cannot list the folder '%s'", statedir->path);
    closedir(dir);
    return rc;
}

/* ---- writing ---- */

static int write_temporary(struct statedir *statedir, const char *temporary, const char *text,
                           size_t length, bool durable, struct rp_error *e)
{
    int fd = openat(statedir->fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                    0600);
    int rc = 0;

    if (fd < 0)
        return rp_fail_errno(e, errno, "cannot write '%s/%s'", statedir->path, temporary);
    for (size_t done = 0; done < length && rc == 0;) {
        ssize_t n = write(fd, text + done, length - done);
        if (n < 0 && errno != EINTR)
            rc = rp_fail_errno(e, errno, "writing '%s/%s'", statedir->path, temporary);
        done += n > 0 ? (size_t)n : 0;
    }
    if (rc == 0 && durable && fsync(fd) < 0)
        rc = rp_fail_errno(e, errno, "syncing '%s/%s'", statedir->path, temporary);
    close(fd);
    return rc;
}

int statedir_write(struct statedir *statedir, const char *name, const char *text, size_t length,
                   bool durable, struct rp_error *e)
{
    char file[FILE_NAME_MAX], temporary[FILE_NAME_MAX];
    int rc;

    snprintf(file, sizeof file, "%s" SUFFIX, name);
    snprintf(temporary, sizeof temporary, ".%s.new", name);
    pthread_mutex_lock(&statedir->lock);
    rc = write_temporary(statedir, temporary, text, length, durable, e);
    if (rc == 0 && renameat(statedir->fd, temporary, statedir->fd, file) < 0)
        rc = rp_fail_errno(e, errno, "cannot rename '%s/%s'", statedir->path, temporary);
    if (rc == 0 && durable && fsync(statedir->fd) < 0)
        rc = rp_fail_errno(e, errno, "syncing '%s'", statedir->path);
    if (rc < 0)
        unlinkat(statedir->fd, temporary, 0);
    pthread_mutex_unlock(&statedir->lock);
    return rc;
}

void statedir_remove(struct statedir *statedir, const char *name)
{
    char file[FILE_NAME_MAX];

    snprintf(file, sizeof file, "%s" SUFFIX, name);
    pthread_mutex_lock(&statedir->lock);
    unlinkat(statedir->fd, file, 0);
    pthread_mutex_unlock(&statedir->lock);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Files in the export directory, made, named and removed with the caller's rights. Knows nothing
 * of what is in them. Each outdir is used by one thread, the export's worker.
 */
#include "outdir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caller.h"

struct outfile {
    int fd;          /* -1 once it has its name */
    char *name;      /* what it is to be called */
    char *temporary; /* where the file system knows no unnamed files; NULL otherwise */
    bool named;
    struct outfile *next;
};

struct outdir {
    struct caller caller;
    char *tag;
    int fd;
    char *path;
    bool made;
    struct outfile *files;
};

/* ---- checks ---- */

/* Result and sentence for a path that cannot be used: the user named it, so most is a parameter. */
static int fail_path(struct rp_error *e, int err, const char *path, const char *what)
{
    if (err == EACCES || err == EPERM || err == EROFS)
        return rp_fail(e, RESULT_ACCESS_DENIED, "%s '%s': %s", what, path, strerror(err));
    return rp_fail(e, RESULT_INVALID_PARAMETER, "%s '%s': %s", what, path, strerror(err));
}

static char *parent_of(const char *path)
{
    char *parent = strdup(path), *slash;

    if (!parent)
        return NULL;
    for (size_t length = strlen(parent); length > 1 && parent[length - 1] == '/'; length--)
        parent[length - 1] = '\0';
    slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent ? 1 : 0] = '\0';
    return parent;
}

static int check_parent(const char *path, struct rp_error *e)
{
    char *parent = parent_of(path);
    int rc = 0;

    if (!parent)
        return rp_fail_memory(e);
    if (faccessat(AT_FDCWD, parent, F_OK, AT_EACCESS) < 0)
        rc = fail_path(e, errno, parent, "cannot make the directory: its parent");
    else if (faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) < 0)
        rc = fail_path(e, errno, path, "cannot make the directory");
    free(parent);
    return rc;
}

static int check_existing(int fd, const char *path, struct rp_error *e)
{
    struct stat st;

    if (fstatat(fd, OUTDIR_MANIFEST, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return rp_fail(e, RESULT_INVALID_PARAMETER,
                       "the directory '%s' already holds an export (" OUTDIR_MANIFEST ")", path);
    if (errno != ENOENT)
        return fail_path(e, errno, path, "cannot look into the directory");
    if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
        return fail_path(e, errno, path, "cannot write to the directory");
    return 0;
}

static int check_as_caller(const char *path, struct rp_error *e)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return errno == ENOENT ? check_parent(path, e)
                               : fail_path(e, errno, path, "cannot use the directory");
    rc = check_existing(fd, path, e);
    close(fd);
    return rc;
}

int outdir_check(const char *path, const struct caller *caller, struct rp_error *e)
{
    int rc = caller_enter(caller, e);

    if (rc < 0)
        return rc;
    rc = check_as_caller(path, e);
    caller_leave();
    return rc;
}

int outdir_check_base(const char *path, const struct caller *caller, struct rp_error *e)
{
    int rc = caller_enter(caller, e), fd;

    if (rc < 0)
        return rc;
    fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        rc = fail_path(e, errno, path, "cannot use the base's directory");
    else if (faccessat(fd, OUTDIR_MANIFEST, R_OK, AT_EACCESS) < 0)
        rc = errno == ENOENT
                 ? rp_fail(e, RESULT_INVALID_PARAMETER, "the directory '%s' holds no export", path)
                 : fail_path(e, errno, path, "cannot read the export in");
    if (fd >= 0)
        close(fd);
    caller_leave();
    return rc;
}

/* ---- open ---- */

/*
 * Where the directory that is open is now, without symbolic links: not where its path leads by now,
 * which somebody may have changed. Allocated; NULL with errno.
 */
static char *path_of(int fd)
{
    char link[64], *path = malloc(PATH_MAX);
    ssize_t length;

    if (!path)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) {
        free(path);
        return NULL;
    }
    path[length] = '\0';
    return path;
}

static int open_made(struct outdir *outdir, const char *path, struct rp_error *e)
{
    outdir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (outdir->fd < 0)
        return fail_path(e, errno, path, "cannot open the directory");
    outdir->path = path_of(outdir->fd);
    if (!outdir->path)
        return fail_path(e, errno, path, "cannot resolve the directory");
    return check_existing(outdir->fd, path, e);
}

static int open_as_caller(struct outdir *outdir, const char *path, struct rp_error *e)
{
    int rc;

    if (mkdir(path, 0700) == 0)
        outdir->made = true;
    else if (errno != EEXIST)
        return fail_path(e, errno, path, "cannot make the directory");
    rc = open_made(outdir, path, e);
    if (rc < 0 && outdir->made)
        rmdir(path);
    return rc;
}

bool outdir_is_missing(const char *path, const struct caller *caller)
{
    struct rp_error ignored;
    struct stat st;
    bool missing;

    if (caller_enter(caller, &ignored) < 0)
        return false;
    missing = stat(path, &st) < 0 && errno == ENOENT;
    caller_leave();
    return missing;
}

int outdir_open(const char *path, const struct caller *caller, const char *tag,
                struct outdir **ret_outdir, struct rp_error *e)
{
    struct outdir *outdir = calloc(1, sizeof *outdir);
    int rc;

    if (!outdir)
        return rp_fail_memory(e);
    outdir->caller = *caller;
    outdir->fd = -1;
    outdir->tag = strdup(tag);
    rc = outdir->tag ? caller_enter(caller, e) : rp_fail_memory(e);
    if (rc == 0) {
        rc = open_as_caller(outdir, path, e);
        caller_leave();
    }
    if (rc < 0) {
        outdir_close(outdir, false);
        return rc;
    }
    *ret_outdir = outdir;
    return 0;
}

const char *outdir_path(const struct outdir *outdir)
{
    return outdir->path;
}

int outdir_refuse_existing(struct outdir *outdir, const char *name, struct rp_error *e)
{
    struct stat st;

    if (fstatat(outdir->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
        return 0;
    rp_fail(e, RESULT_INVALID_PARAMETER, "the directory '%s' already holds a file '%s'",
            outdir->path, name);
    e->err = EEXIST;
    return -EEXIST;
}

/* ---- files ---- */

/* An unnamed file where the file system can; it says EOPNOTSUPP, EISDIR or so where it cannot. */
static int open_file(struct outdir *outdir, struct outfile *file)
{
    int fd = openat(outdir->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || errno == EACCES || errno == ENOSPC || errno == EDQUOT || errno == EROFS)
        return fd;
    if (asprintf(&file->temporary, ".%s.%s" OUTDIR_TEMPORARY_END, file->name, outdir->tag) < 0) {
        file->temporary = NULL;
        errno = ENOMEM;
        return -1;
    }
    return openat(outdir->fd, file->temporary, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC,
                  0600);
}

int outdir_create(struct outdir *outdir, const char *name, int *ret_fd, struct rp_error *e)
{
    struct outfile *file = calloc(1, sizeof *file), **last = &outdir->files;
    int rc;

    if (!file || !(file->name = strdup(name))) {
        free(file);
        return rp_fail_memory(e);
    }
    file->fd = -1;
    while (*last)
        last = &(*last)->next;
    *last = file;
    rc = caller_enter(&outdir->caller, e);
    if (rc < 0)
        return rc;
    file->fd = open_file(outdir, file);
    if (file->fd < 0)
        rc = rp_fail_errno(e, errno, "cannot make '%s' in '%s'", name, outdir->path);
    caller_leave();
    if (rc == 0)
        *ret_fd = file->fd;
    return rc;
}

int outdir_write(struct outdir *outdir, const char *name, const void *data, size_t length,
                 struct rp_error *e)
{
    const char *at = data;
    int fd, rc = outdir_create(outdir, name, &fd, e);

    while (rc == 0 && length > 0) {
        ssize_t written = write(fd, at, length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return rp_fail_errno(e, errno, "writing '%s' in '%s'", name, outdir->path);
        at += written;
        length -= (size_t)written;
    }
    if (rc == 0 && fsync(fd) < 0)
        rc = rp_fail_errno(e, errno, "syncing '%s' in '%s'", name, outdir->path);
    return rc;
}

int outdir_print_files(const struct outdir *outdir, FILE *out, struct rp_error *e)
{
    for (const struct outfile *file = outdir->files; file; file = file->next) {
        struct stat st;

        if (file->named || file->fd < 0)
            continue;
        if (fstat(file->fd, &st) < 0)
            return rp_fail_errno(e, errno, "cannot look at '%s' in '%s'", file->name, outdir->path);
        fprintf(out, "%llu %llu %lld.%ld %s\n", (unsigned long long)st.st_ino,
                (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                file->name);
    }
    return 0;
}

static int give_name(struct outdir *outdir, struct outfile *file)
{
    char link[64];

    if (file->temporary)
        return renameat2(outdir->fd, file->temporary, outdir->fd, file->name, RENAME_NOREPLACE);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file->fd);
    return linkat(AT_FDCWD, link, outdir->fd, file->name, AT_SYMLINK_FOLLOW);
}

/* Not all file systems know RENAME_NOREPLACE; a link refuses to replace on all that have links. */
static int name_file(struct outdir *outdir, struct outfile *file)
{
    if (give_name(outdir, file) == 0)
        return 0;
    if (errno != EINVAL || !file->temporary)
        return -1;
    if (linkat(outdir->fd, file->temporary, outdir->fd, file->name, 0) == 0) {
        unlinkat(outdir->fd, file->temporary, 0);
        return 0;
    }
    return errno == EEXIST ? -1 : renameat(outdir->fd, file->temporary, outdir->fd, file->name);
}

static int publish_as_caller(struct outdir *outdir, struct rp_error *e)
{
    for (struct outfile *file = outdir->files; file; file = file->next) {
        if (file->named)
            continue;
        if (name_file(outdir, file) < 0)
            return rp_fail_errno(e, errno, "cannot name '%s' in '%s'", file->name, outdir->path);
        file->named = true;
        close(file->fd);
        file->fd = -1;
    }
    return 0;
}

static int sync_directory(const struct outdir *outdir, struct rp_error *e)
{
    int rc = 0, parent;

    if (fsync(outdir->fd) < 0 && errno != EINVAL)
        return rp_fail_errno(e, errno, "syncing the directory '%s'", outdir->path);
    if (outdir->made) {
        parent = openat(outdir->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent >= 0) {
            if (fsync(parent) < 0 && errno != EINVAL)
                rc = rp_fail_errno(e, errno, "syncing the parent of '%s'", outdir->path);
            close(parent);
        }
    }
    return rc;
}

int outdir_publish(struct outdir *outdir, struct rp_error *e)
{
    int rc = caller_enter(&outdir->caller, e);

    if (rc < 0)
        return rc;
    rc = publish_as_caller(outdir, e);
    caller_leave();
    return rc < 0 ? rc : sync_directory(outdir, e);
}

/* If it is empty; wherever it or those above it were moved to meanwhile. */
static void remove_directory(const struct outdir *outdir)
{
    int parent = openat(outdir->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *path = path_of(outdir->fd), *name = path ? strrchr(path, '/') : NULL;

    if (parent >= 0 && name)
        unlinkat(parent, name + 1, AT_REMOVEDIR);
    if (parent >= 0)
        close(parent);
    free(path);
}

/*
 * Closed first: NFS, and what is built on libfuse, keep an open file under another name, and the
 * directory would not be empty.
 */
static void remove_temporary(const struct outdir *outdir, struct outfile *file)
{
    close(file->fd);
    file->fd = -1;
    unlinkat(outdir->fd, file->temporary, 0);
}

/* The manifest goes first: without it there is no export. */
static void remove_all(struct outdir *outdir)
{
    struct rp_error ignored;

    if (caller_enter(&outdir->caller, &ignored) < 0)
        return;
    for (struct outfile *file = outdir->files; file; file = file->next)
        if (file->named && strcmp(file->name, OUTDIR_MANIFEST) == 0)
            unlinkat(outdir->fd, file->name, 0);
    for (struct outfile *file = outdir->files; file; file = file->next) {
        if (file->named)
            unlinkat(outdir->fd, file->name, 0);
        else if (file->temporary && file->fd >= 0)
            remove_temporary(outdir, file);
    }
    if (outdir->made)
        remove_directory(outdir);
    caller_leave();
}

void outdir_close(struct outdir *outdir, bool keep)
{
    if (!outdir)
        return;
    if (!keep)
        remove_all(outdir);
    for (struct outfile *file = outdir->files, *next; file; file = next) {
        next = file->next;
        if (file->fd >= 0)
            close(file->fd);
        free(file->name);
        free(file->temporary);
        free(file);
    }
    if (outdir->fd >= 0)
        close(outdir->fd);
    free(outdir->path);
    free(outdir->tag);
    free(outdir);
}

/* ---- reading, and paths ---- */

static int read_as_caller(const char *file, size_t max, char **ret_text, size_t *ret_length,
                          struct rp_error *e)
{
    /* O_NONBLOCK: a FIFO of that name must not make us wait for its writer. */
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = fd >= 0 ? malloc(max + 1) : NULL;
    size_t length = 0;
    ssize_t got = 1;

    if (fd < 0)
        return rp_fail_errno(e, errno, "cannot open '%s'", file);
    while (text && length < max && (got = read(fd, text + length, max - length)) > 0)
        length += (size_t)got;
    close(fd);
    if (!text)
        return rp_fail_memory(e);
    if (got < 0) {
        free(text);
        return rp_fail_errno(e, errno, "reading '%s'", file);
    }
    text[length] = '\0';
    *ret_text = text;
    *ret_length = length;
    return 0;
}

int outdir_read(const char *path, const char *name, size_t max, const struct caller *caller,
                char **ret_text, size_t *ret_length, struct rp_error *e)
{
    char *file;
    int rc;

    if (asprintf(&file, "%s/%s", path, name) < 0)
        return rp_fail_memory(e);
    rc = caller_enter(caller, e);
    if (rc == 0) {
        rc = read_as_caller(file, max, ret_text, ret_length, e);
        caller_leave();
    }
    free(file);
    return rc;
}

int outdir_resolve(const char *path, const struct caller *caller, char **ret_path,
                   struct rp_error *e)
{
    int rc = caller_enter(caller, e);
    char *resolved;

    if (rc < 0)
        return rc;
    resolved = realpath(path, NULL);
    if (!resolved)
        rc = fail_path(e, errno, path, "cannot resolve");
    caller_leave();
    if (rc == 0)
        *ret_path = resolved;
    return rc;
}

/* Length of what both paths begin with, up to a '/' or to the end of one that the other is in. */
static size_t common_length(const char *a, const char *b)
{
    size_t common = 0;

    for (size_t i = 0;; i++) {
        if ((a[i] == '\0' || a[i] == '/') && (b[i] == '\0' || b[i] == '/'))
            common = i;
        if (a[i] != b[i] || a[i] == '\0')
            return common;
    }
}

char *outdir_relative(const char *from, const char *to)
{
    size_t common = common_length(from, to), length;
    char *relative = NULL;
    FILE *out = open_memstream(&relative, &length);
    bool is_below = true;

    if (!out)
        return NULL;
    for (const char *c = from + common; *c; c++)
        if (*c == '/' && c[1] != '\0') {
            fputs("../", out);
            is_below = false;
        }
    for (to += common; *to == '/';)
        to++;
    fprintf(out, "%s%s", is_below ? "./" : "", to);
    if (fclose(out) == 0)
        return relative;
    free(relative);
    return NULL;
}

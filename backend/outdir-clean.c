// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Removes what an export left in its directory when the service ended in the middle of it, with the
 * caller's rights, and nothing else: files are told by what was written down of them before they
 * got their names. May wait for as long as the file system does.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caller.h"
#include "outdir.h"

/* One line of outdir_print_files(). */
struct known {
    uint64_t inode, size_bytes;
    long long seconds;
    long nanoseconds;
    const char *name; /* up to the end of the line */
    int name_length;
};

/* Returns where the next line begins; NULL where there is none. */
static const char *read_line(const char *line, struct known *ret_known)
{
    int used = 0;

    if (sscanf(line, "%" SCNu64 " %" SCNu64 " %lld.%ld %n", &ret_known->inode,
               &ret_known->size_bytes, &ret_known->seconds, &ret_known->nanoseconds, &used) < 4 ||
        !used)
        return NULL;
    ret_known->name = line + used;
    ret_known->name_length = (int)strcspn(line + used, "\n");
    line = ret_known->name + ret_known->name_length;
    return *line ? line + 1 : line;
}

/* Is the file of that name still the one that was written down? */
static bool is_known(int dir, const char *name, const struct known *known)
{
    struct stat st;

    return !strchr(name, '/') && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) && st.st_ino == known->inode &&
           (uint64_t)st.st_size == known->size_bytes && st.st_mtim.tv_sec == known->seconds &&
           st.st_mtim.tv_nsec == known->nanoseconds;
}

/* Counts the lines, and those whose file is there; removes the files if that is wanted. */
static int walk_lines(int dir, const char *lines, bool remove, size_t *ret_lines, size_t *ret_there)
{
    struct known known;
    const char *next;
    int rc = 0;

    *ret_lines = *ret_there = 0;
    while (*lines && (next = read_line(lines, &known))) {
        char *name = strndup(known.name, (size_t)known.name_length);

        if (!name)
            return -ENOMEM;
        ++*ret_lines;
        if (is_known(dir, name, &known)) {
            ++*ret_there;
            if (remove && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
                rc = -errno;
        }
        free(name);
        lines = next;
    }
    return rc;
}

/* Temporary names have the job's tag in them, see outdir.c. */
static bool is_temporary(const char *name, const char *tag)
{
    size_t length = strlen(name), tag_length = strlen(tag), end = strlen(OUTDIR_TEMPORARY_END);

    return tag_length && name[0] == '.' && length > end + tag_length + 2 &&
           strcmp(name + length - end, OUTDIR_TEMPORARY_END) == 0 &&
           strncmp(name + length - end - tag_length, tag, tag_length) == 0;
}

static int remove_temporaries(int dir, const char *tag)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!list) {
        rc = -errno;
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while ((entry = readdir(list)))
        if (is_temporary(entry->d_name, tag) && unlinkat(dir, entry->d_name, 0) < 0 &&
            errno != ENOENT)
            rc = -errno;
    closedir(list);
    return rc;
}

static bool has_manifest(int dir)
{
    struct stat st;

    return fstatat(dir, OUTDIR_MANIFEST, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int clean(int dir, const struct outdir_left *left, bool *ret_complete)
{
    size_t lines, there;
    int rc = walk_lines(dir, left->files, false, &lines, &there), temporaries;

    *ret_complete = rc == 0 && lines > 0 && there == lines && has_manifest(dir);
    if (rc == 0 && !*ret_complete)
        rc = walk_lines(dir, left->files, true, &lines, &there);
    temporaries = remove_temporaries(dir, left->tag);
    return rc < 0 ? rc : temporaries;
}

static int clean_as_caller(const struct outdir_left *left, bool *ret_complete, struct rp_error *e)
{
    int dir = open(left->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

    if (dir < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        *ret_complete = false;
        return 0;
    }
    if (dir < 0)
        return rp_fail_errno(e, errno, "cannot open '%s'", left->path);
    rc = clean(dir, left, ret_complete);
    close(dir);
    /* Only where it is empty; somebody else's files keep it. */
    if (rc == 0 && left->made_directory && !*ret_complete)
        rmdir(left->path);
    return rc < 0 ? rp_fail_errno(e, -rc, "cannot clean '%s'", left->path) : 0;
}

int outdir_clean(const struct outdir_left *left, const struct caller *caller, bool *ret_complete,
                 struct rp_error *e)
{
    int rc = caller_enter(caller, e);

    if (rc < 0)
        return rc;
    rc = clean_as_caller(left, ret_complete, e);
    caller_leave();
    return rc;
}

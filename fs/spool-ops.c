// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Requests on spool files (spool-ops.h): decodes and replies; spool.c does it all. Unlike the files
 * of the tree they go through the page cache, as on a disk; their names and attributes are asked
 * for each time, for a name that was cached would outlive what it stood for, and the next text
 * would go there instead of to the file that it was meant for.
 */
#include "spool-ops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include "mount.h"

static struct spool *spool_of(fuse_req_t req)
{
    return mount_of(req)->spool;
}

static struct spool_file *file_of(const struct fuse_file_info *fi)
{
    return (struct spool_file *)(uintptr_t)fi->fh;
}

struct spool_key spool_ops_key(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    return (struct spool_key){.dir = parent, .uid = fuse_req_ctx(req)->uid, .name = name};
}

static struct fuse_entry_param entry_of(const struct stat *st)
{
    return (struct fuse_entry_param){.ino = st->st_ino, .generation = 1, .attr = *st};
}

bool spool_ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct spool_key key = spool_ops_key(req, parent, name);
    struct fuse_entry_param entry;
    struct stat st;

    switch (spool_lookup(spool_of(req), &key, &st)) {
    case SPOOL_NOTHING:
        return false;
    case SPOOL_HIDDEN:
        fuse_reply_err(req, ENOENT);
        break;
    case SPOOL_FILE:
        entry = entry_of(&st);
        fuse_reply_entry(req, &entry);
        break;
    }
    return true;
}

bool spool_ops_hides(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct spool_key key = spool_ops_key(req, parent, name);
    struct stat st;

    return spool_lookup(spool_of(req), &key, &st) == SPOOL_HIDDEN;
}

int spool_ops_create(fuse_req_t req, const struct spool_key *key, mode_t mode,
                     struct fuse_file_info *fi, struct fuse_entry_param *ret_entry)
{
    struct spool_file *file;
    struct stat st;
    int ret = spool_create(spool_of(req), key, mode, fuse_req_ctx(req)->gid, &file);

    if (ret < 0)
        return ret;
    if (spool_lookup(spool_of(req), key, &st) != SPOOL_FILE) {
        spool_close(spool_of(req), file);
        return -ESTALE;
    }
    *ret_entry = entry_of(&st);
    fi->fh = (uintptr_t)file;
    return 0;
}

int spool_ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct spool *spool = spool_of(req);
    struct spool_file *file;
    struct stat st;
    int ret = spool_open(spool, ino, &file);

    if (ret < 0)
        return ret;
    if (fi->flags & O_TRUNC) {
        ret = spool_stat(spool, ino, &st);
        st.st_size = 0;
        if (ret == 0)
            ret = spool_set_stat(spool, ino, &st);
    }
    if (ret < 0)
        spool_close(spool, file);
    else
        fi->fh = (uintptr_t)file;
    return ret;
}

static void reply_stat(fuse_req_t req, int ret, const struct stat *st)
{
    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_attr(req, st, 0);
}

void spool_ops_getattr(fuse_req_t req, fuse_ino_t ino)
{
    struct stat st;
    int ret = spool_stat(spool_of(req), ino, &st);

    reply_stat(req, ret, &st);
}

static void set_times(struct stat *st, const struct stat *attr, int to_set)
{
    if (to_set & FUSE_SET_ATTR_ATIME)
        st->st_atim = attr->st_atim;
    if (to_set & FUSE_SET_ATTR_MTIME)
        st->st_mtim = attr->st_mtim;
    if (to_set & FUSE_SET_ATTR_ATIME_NOW)
        clock_gettime(CLOCK_REALTIME, &st->st_atim);
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        clock_gettime(CLOCK_REALTIME, &st->st_mtim);
}

/* The kernel has judged who may, and lets one such request at a time at a file. */
void spool_ops_setattr(fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set)
{
    struct stat st;
    int ret = spool_stat(spool_of(req), ino, &st);

    if (ret == 0) {
        if (to_set & FUSE_SET_ATTR_MODE)
            st.st_mode = attr->st_mode;
        if (to_set & FUSE_SET_ATTR_UID)
            st.st_uid = attr->st_uid;
        if (to_set & FUSE_SET_ATTR_GID)
            st.st_gid = attr->st_gid;
        if (to_set & FUSE_SET_ATTR_SIZE)
            st.st_size = attr->st_size;
        set_times(&st, attr, to_set);
        ret = spool_set_stat(spool_of(req), ino, &st);
    }
    reply_stat(req, ret, &st);
}

void spool_ops_read(fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi)
{
    char *buffer = malloc(size);
    ssize_t n = buffer ? spool_read(spool_of(req), file_of(fi), buffer, size, offset) : -ENOMEM;

    if (n < 0)
        fuse_reply_err(req, (int)-n);
    else
        fuse_reply_buf(req, buffer, (size_t)n);
    free(buffer);
}

void spool_ops_write(fuse_req_t req, const char *data, size_t size, off_t offset,
                     const struct fuse_file_info *fi)
{
    int ret = spool_write(spool_of(req), file_of(fi), data, size, offset);

    if (ret < 0)
        fuse_reply_err(req, -ret);
    else
        fuse_reply_write(req, size);
}

void spool_ops_release(fuse_req_t req, const struct fuse_file_info *fi)
{
    spool_close(spool_of(req), file_of(fi));
    fuse_reply_err(req, 0);
}

/* Always ready. Unanswered, the kernel would ask no more for any file of the mount. */
void spool_ops_poll(fuse_req_t req, struct fuse_pollhandle *poll)
{
    if (poll)
        fuse_pollhandle_destroy(poll);
    fuse_reply_poll(req, POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
}

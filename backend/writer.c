// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writing blocks to a file. Owns the way they get there (direct or buffered, sizes, sync); knows
 * nothing of what is in them. Its own thread, which ends at the ring's end or first error.
 *
 * A write to a file system that hangs (a dead NFS server) cannot be interrupted from here: the
 * thread then stays in it, and who joins the thread stays with it.
 */
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Buffered, the page cache is emptied while it is filled, in windows of this size: left alone, the
 * kernel stalls the writer for seconds, and the sync at the end for longer than anybody waits.
 */
#define FLUSH_WINDOW_BYTES (UINT64_C(16) << 20)

/* Whether the file system has direct I/O is found out by trying. */
static void set_direct(struct writer *w, bool direct)
{
    int flags = fcntl(w->fd, F_GETFL);

    w->direct = false;
    if (flags >= 0 && fcntl(w->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0)
        w->direct = direct;
}

void writer_begin(struct writer *w)
{
    w->flags = fcntl(w->fd, F_GETFL);
    set_direct(w, true);
}

void writer_end(struct writer *w)
{
    if (w->flags >= 0)
        (void)fcntl(w->fd, F_SETFL, w->flags);
}

static int write_all(struct writer *w, const unsigned char *data, size_t length, uint64_t offset,
                     struct rp_error *e)
{
    while (length > 0) {
        ssize_t n = pwrite(w->fd, data, length, (off_t)offset);

        if (n < 0 && errno == EINVAL && w->direct) {
            set_direct(w, false); /* some accept the flag and refuse the write, or its rest */
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return rp_fail_errno(e, n < 0 ? errno : EIO, "writing at %llu",
                                 (unsigned long long)offset);
        data += n;
        length -= (size_t)n;
        offset += (size_t)n;
    }
    return 0;
}

/* Starts writing back what came last, and waits for the window before: the disk never idles, and
 * errors show up here, not after the last byte. */
static int flush_behind(struct writer *w, uint64_t end, struct rp_error *e)
{
    const unsigned wait =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    uint64_t from = w->flush_end, before = w->unflushed_from;
    int rc;

    if (end < from + FLUSH_WINDOW_BYTES)
        return 0;
    rc = sync_file_range(w->fd, (off_t)from, (off_t)(end - from), SYNC_FILE_RANGE_WRITE);
    if (rc == 0 && from > before)
        rc = sync_file_range(w->fd, (off_t)before, (off_t)(from - before), wait);
    if (rc < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT))
        return rp_fail_errno(e, errno, "writing back before %llu", (unsigned long long)end);
    if (from > before)
        (void)posix_fadvise(w->fd, (off_t)before, (off_t)(from - before), POSIX_FADV_DONTNEED);
    w->unflushed_from = from;
    w->flush_end = end;
    return 0;
}

int writer_put(struct writer *w, const void *data, size_t length, uint64_t offset,
               struct rp_error *e)
{
    int rc = write_all(w, data, length, offset, e);

    if (rc < 0)
        return rc;
    w->bytes_written += length;
    return w->direct ? 0 : flush_behind(w, offset + length, e);
}

/*
 * The end of a raw file need not be a multiple of what direct I/O writes: it is written longer,
 * and cut by writer_finish().
 */
static int write_block(struct writer *w, const struct ring_block *block, struct rp_error *e)
{
    size_t padding = -block->length % RING_ALIGN_BYTES;
    int rc;

    if (!w->direct)
        padding = 0;
    memset(block->data + block->length, 0, padding);
    rc = writer_put(w, block->data, block->length + padding, block->offset, e);
    if (rc == 0)
        w->bytes_written -= padding;
    return rc;
}

int writer_finish(struct writer *w, struct rp_error *e)
{
    struct stat st;

    if (fstat(w->fd, &st) < 0)
        return rp_fail_errno(e, errno, "looking at the file written");
    if ((uint64_t)st.st_size != w->file_bytes && ftruncate(w->fd, (off_t)w->file_bytes) < 0)
        return rp_fail_errno(e, errno, "giving the file its size of %llu",
                             (unsigned long long)w->file_bytes);
    if (fsync(w->fd) < 0)
        return rp_fail_errno(e, errno, "syncing the file");
    return 0;
}

static int write_blocks(struct writer *w, struct rp_error *e)
{
    struct ring_block *block;
    int rc;

    while ((block = ring_next(w->ring, RING_WRITER))) {
        rc = write_block(w, block, e);
        if (rc < 0)
            return rc;
        ring_release(w->ring, RING_WRITER, block);
    }
    return ring_touch(w->ring) ? writer_finish(w, e) : 0;
}

void *writer_run(void *opaque)
{
    struct writer *w = opaque;
    struct rp_error e = RP_ERROR_INIT;

    writer_begin(w);
    if (write_blocks(w, &e) < 0)
        ring_fail(w->ring, &e);
    writer_end(w);
    ring_leave(w->ring);
    return NULL;
}

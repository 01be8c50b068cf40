// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Copies files of firmware variables. Knows paths, not VMs. Any thread.
 */
#include "nvram.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The largest flash that QEMU's machines have is 64 MiB; what is longer is not one. */
#define NVRAM_MAX_BYTES (128 << 20)

#define CHUNK_BYTES 65536

static bool is_zero(const char *data, size_t length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* Most of a large flash is empty: zeros stay holes. */
static int copy_chunk(int from, int to, off_t offset, size_t length, struct rp_error *e)
{
    char data[CHUNK_BYTES];
    ssize_t got = pread(from, data, length, offset);

    if (got < 0)
        return rp_fail_errno(e, errno, "reading the NVRAM at %lld", (long long)offset);
    if ((size_t)got != length)
        return rp_fail(e, RESULT_FAILED, "the NVRAM got shorter while it was read");
    if (is_zero(data, length))
        return 0;
    got = pwrite(to, data, length, offset);
    if (got != (ssize_t)length)
        return rp_fail_errno(e, got < 0 ? errno : ENOSPC, "writing the copy of the NVRAM");
    return 0;
}

static int copy_file(int from, const char *name, int to, struct rp_error *e)
{
    struct stat st;
    int rc = 0;

    if (fstat(from, &st) < 0)
        return rp_fail_errno(e, errno, "cannot look at the NVRAM '%s'", name);
    if (!S_ISREG(st.st_mode) || st.st_size > NVRAM_MAX_BYTES)
        return rp_fail(e, RESULT_FAILED, "the NVRAM '%s' is no file of variables", name);
    if (ftruncate(to, st.st_size) < 0)
        return rp_fail_errno(e, errno, "making the copy of the NVRAM");
    for (off_t at = 0; at < st.st_size && rc == 0; at += CHUNK_BYTES) {
        off_t left = st.st_size - at;

        rc = copy_chunk(from, to, at, left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES, e);
    }
    if (rc == 0 && fsync(to) < 0)
        rc = rp_fail_errno(e, errno, "syncing the copy of the NVRAM");
    return rc;
}

int nvram_copy(const char *from, int to, struct rp_error *e)
{
    /* O_NONBLOCK: should it be a FIFO, nobody waits for its writer. */
    int fd = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

    if (fd < 0)
        return rp_fail_errno(e, errno, "cannot open the NVRAM '%s'", from);
    rc = copy_file(fd, from, to, e);
    close(fd);
    return rc;
}

int nvram_save(const char *from, const char *to, struct rp_error *e)
{
    int fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), rc;

    if (fd < 0)
        return rp_fail_errno(e, errno, "cannot make '%s'", to);
    rc = nvram_copy(from, fd, e);
    close(fd);
    if (rc < 0)
        unlink(to);
    return rc;
}

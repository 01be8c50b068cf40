// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Ends the process it is preloaded into, as kill -9 would, at a chosen one of the calls that leave
 * traces on disk or in libvirt: before the call, or after it. The environment's KILL_SHIM names a
 * file whose first eight bytes count down those moments; 0 in it, and nothing happens. KILL_SHIM_AT
 * names the calls that count, separated by spaces; without it, all.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_int_least64_t *countdown;
static const char *calls;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("KILL_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0)
        close(fd);
    if (map != MAP_FAILED)
        countdown = map;
    calls = getenv("KILL_SHIM_AT");
    /* Programs that it starts live on. */
    unsetenv("LD_PRELOAD");
}

static void moment(const char *call)
{
    if (calls && !strstr(calls, call))
        return;
    if (countdown && *countdown > 0 && atomic_fetch_sub(countdown, 1) == 1)
        kill(getpid(), SIGKILL);
}

#define SHIM(type, name, parameters, arguments)                                                    \
    type name parameters;                                                                          \
    type name parameters                                                                           \
    {                                                                                              \
        type(*real) parameters;                                                                    \
        type result;                                                                               \
        *(void **)&real = dlsym(RTLD_NEXT, #name);                                                 \
        moment(#name);                                                                             \
        result = real arguments;                                                                   \
        moment(#name);                                                                             \
        return result;                                                                             \
    }

SHIM(int, mkdir, (const char *path, mode_t mode), (path, mode))
SHIM(int, rmdir, (const char *path), (path))
SHIM(int, unlink, (const char *path), (path))
SHIM(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
SHIM(int, renameat, (int from, const char *old, int to, const char *new), (from, old, to, new))
SHIM(int, renameat2, (int from, const char *old, int to, const char *new, unsigned flags),
     (from, old, to, new, flags))
SHIM(int, linkat, (int from, const char *old, int to, const char *new, int flags),
     (from, old, to, new, flags))
SHIM(int, fsync, (int fd), (fd))
SHIM(int, fdatasync, (int fd), (fd))
SHIM(ssize_t, pwrite64, (int fd, const void *data, size_t length, int64_t at),
     (fd, data, length, at))
SHIM(int, virDomainBackupBegin,
     (void *domain, const char *backup, const char *checkpoint, unsigned flags),
     (domain, backup, checkpoint, flags))
SHIM(int, virDomainAbortJob, (void *domain), (domain))
SHIM(int, virDomainCheckpointDelete, (void *checkpoint, unsigned flags), (checkpoint, flags))
SHIM(void *, virDomainCheckpointCreateXML, (void *domain, const char *xml, unsigned flags),
     (domain, xml, flags))
SHIM(int, posix_spawnp,
     (pid_t * pid, const char *file, const void *actions, const void *attributes, char *const *argv,
      char *const *environment),
     (pid, file, actions, attributes, argv, environment))

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sets the clock of the process that it is preloaded into, as far as the program itself, and none
 * of its libraries, asks libc for it: the environment's CLOCK_SHIM names a file whose first eight
 * bytes are the seconds that the clock of the day is ahead. What the kernel counts by itself is not
 * changed, so that a deadline made from the clock of the day comes years too late, or at once.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_int_least64_t *ahead;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0)
        close(fd);
    if (map != MAP_FAILED)
        ahead = map;
    /* Programs that it starts have the right time. */
    unsetenv("LD_PRELOAD");
}

static bool is_program(const void *from)
{
    Dl_info info;

    return dladdr(from, &info) && strstr(info.dli_fname, "/refpointfs");
}

static int get_time(clockid_t clock, const void *from, struct timespec *ret_now)
{
    int (*real)(clockid_t, struct timespec *);
    int rc;

    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    rc = real(clock, ret_now);
    if (rc == 0 && ahead && clock == CLOCK_REALTIME && is_program(from))
        ret_now->tv_sec += *ahead;
    return rc;
}

int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    return get_time(clock, __builtin_return_address(0), ret_now);
}

time_t time(time_t *ret_now)
{
    struct timespec now;

    get_time(CLOCK_REALTIME, __builtin_return_address(0), &now);
    if (ret_now)
        *ret_now = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict ret_now, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    get_time(CLOCK_REALTIME, __builtin_return_address(0), &now);
    *ret_now = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

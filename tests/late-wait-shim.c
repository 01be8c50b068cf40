// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Preloaded into the service: each sem_wait(3) begins a second late, and nothing that happens
 * meanwhile makes it come back. For what was looked at just before it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <semaphore.h>
#include <time.h>

int sem_wait(sem_t *semaphore)
{
    int (*real)(sem_t *) = (int (*)(sem_t *))dlsym(RTLD_NEXT, "sem_wait");
    struct timespec left = {.tv_sec = 1};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
    return real(semaphore);
}

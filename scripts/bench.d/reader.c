// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * reader WHAT READERS SECONDS FILE...
 *
 * For `bench tree`: READERS processes do one thing to a file over and over for SECONDS, and how
 * often a second all of them together did it is printed. WHAT: `open` (open, read, close), `stat`,
 * or `pread` (of a file that stays open). The files are dealt out to the readers.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static char buffer[65536];

static int do_open(const char *path, int fd)
{
    ssize_t n;

    (void)fd;
    fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    n = read(fd, buffer, sizeof buffer);
    close(fd);
    return n > 0 ? 0 : -1;
}

static int do_stat(const char *path, int fd)
{
    struct stat st;

    (void)fd;
    return stat(path, &st);
}

static int do_pread(const char *path, int fd)
{
    (void)path;
    return pread(fd, buffer, sizeof buffer, 0) > 0 ? 0 : -1;
}

typedef int act_function(const char *path, int fd);

static int work(act_function *act, const char *path, double seconds, uint64_t *count)
{
    int fd = open(path, O_RDONLY);
    double end = now() + seconds;

    do {
        for (int i = 0; i < 16; i++, (*count)++)
            if (act(path, fd) < 0) {
                perror(path);
                return 1;
            }
    } while (now() < end);
    return 0;
}

int main(int argc, char **argv)
{
    act_function *act = do_open;
    int status, failed = 0;
    uint64_t sum = 0;

    if (argc < 5)
        return 2;
    if (strcmp(argv[1], "stat") == 0)
        act = do_stat;
    else if (strcmp(argv[1], "pread") == 0)
        act = do_pread;
    int readers = atoi(argv[2]), files = argc - 4;
    double seconds = atof(argv[3]);
    uint64_t *counts = mmap(NULL, sizeof *counts * (size_t)readers, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        return 1;
    double began = now();
    for (int i = 0; i < readers; i++) {
        pid_t child = fork();

        if (child == 0)
            _exit(work(act, argv[4 + i % files], seconds, &counts[i]));
        failed |= child < 0;
    }
    while (wait(&status) > 0)
        failed |= status;
    for (int i = 0; i < readers; i++)
        sum += counts[i];
    /* By what it really took: the last of a thousand are long in ending. */
    printf("%.0f\n", (double)sum / (now() - began));
    return failed != 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The mount's read_ahead_kb in /sys. FUSE's own handshake can only lower the kernel's default.
 */
#include "readahead.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* FUSE's longest read is 256 pages. */
#define READ_AHEAD_KB "1024"

/* In mountinfo a space, tab, newline or backslash is a backslash and three octal digits. */
static bool is_path(const char *escaped, const char *path)
{
    for (; *escaped && *path; path++) {
        if (*escaped == '\\' && strlen(escaped) >= 4) {
            char digits[4] = {escaped[1], escaped[2], escaped[3], '\0'};

            if ((char)strtol(digits, NULL, 8) != *path)
                return false;
            escaped += 4;
        } else if (*escaped++ != *path) {
            return false;
        }
    }
    return !*escaped && !*path;
}

/* Not by stat(2), which would be a request to ourselves. The last line that fits is on top. */
static bool find_device(const char *mountpoint, char *ret_device, size_t size)
{
    FILE *in = fopen("/proc/self/mountinfo", "re");
    char *line = NULL, *rest, *fields[5];
    bool found = false;
    size_t room = 0;

    while (in && getline(&line, &room, in) > 0) {
        size_t n = 0;

        rest = line;
        while (n < 5 && (fields[n] = strsep(&rest, " ")))
            n++;
        if (n == 5 && is_path(fields[4], mountpoint)) {
            snprintf(ret_device, size, "%s", fields[2]);
            found = true;
        }
    }
    free(line);
    if (in)
        fclose(in);
    return found;
}

void readahead_raise(const char *mountpoint)
{
    char device[32], path[96];
    int fd;

    if (!find_device(mountpoint, device, sizeof device))
        return;
    snprintf(path, sizeof path, "/sys/class/bdi/%s/read_ahead_kb", device);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, READ_AHEAD_KB, strlen(READ_AHEAD_KB));
    close(fd);
}

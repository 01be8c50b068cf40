// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The log. Its variables are set in main() before threads are started, and then only read.
 */
#include "log.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

enum log_target { LOG_TO_STDERR, LOG_TO_JOURNAL, LOG_TO_SYSLOG };

static enum log_target target;
static bool is_debugging;
static const char *program_name = "refpointfs";
static char *caught;
static size_t caught_size;

/* systemd names the device and inode of the stream that it reads: stderr may be another one. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(2, &st) == 0 &&
           st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

static void log_va(int priority, const char *format, va_list args)
{
    char message[1024];
    size_t length;

    if (priority == LOG_DEBUG && !is_debugging)
        return;
    vsnprintf(message, sizeof message, format, args);
    length = strlen(message);
    while (length > 0 && message[length - 1] == '\n')
        message[--length] = '\0';
    if (target == LOG_TO_SYSLOG)
        syslog(priority, "%s", message);
    else if (target == LOG_TO_JOURNAL)
        fprintf(stderr, "<%d>%s\n", priority, message);
    else
        fprintf(stderr, "%s: %s\n", program_name, message);
}

void log_message(int priority, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_va(priority, format, args);
    va_end(args);
}

/* libfuse prints some of its messages in pieces; they end with the newline. */
static void log_from_fuse(enum fuse_log_level level, const char *format, va_list args)
{
    static _Thread_local char line[1024];
    size_t length = strlen(line);

    vsnprintf(line + length, sizeof line - length, format, args);
    length = strlen(line);
    if (length < sizeof line - 1 && (length == 0 || line[length - 1] != '\n'))
        return;
    line[strcspn(line, "\n")] = '\0';
    if (caught)
        snprintf(caught, caught_size, "%s", line + (strncmp(line, "fuse: ", 6) == 0 ? 6 : 0));
    else
        /* The levels are syslog's numbers. */
        log_message((int)level, "%s", line);
    line[0] = '\0';
}

void log_catch_fuse(char *text, size_t size)
{
    caught = text;
    caught_size = size;
}

void log_open(const char *program, bool debug)
{
    program_name = program;
    is_debugging = debug;
    target = stderr_is_journal() ? LOG_TO_JOURNAL : LOG_TO_STDERR;
    fuse_set_log_func(log_from_fuse);
}

void log_use_syslog(void)
{
    openlog(program_name, LOG_PID, LOG_DAEMON);
    target = LOG_TO_SYSLOG;
}

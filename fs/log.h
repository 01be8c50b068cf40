/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where messages go: stderr while somebody is there to read it, syslog afterwards. Any thread.
 */
#ifndef REFPOINTFS_LOG_H
#define REFPOINTFS_LOG_H

#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <syslog.h>

/* Also sends libfuse's messages here. Call once, before any thread is started. */
void log_open(const char *program, bool debug);

/*
 * From now on the last message of libfuse goes into `text` and nowhere else, for a sentence of the
 * caller's, without libfuse's name in front; with NULL they go to the log again. Before there are
 * threads.
 */
void log_catch_fuse(char *text, size_t size);

/* From now on to syslog. Call before the first request is served. */
void log_use_syslog(void);

/* `priority` is one of syslog's; LOG_DEBUG goes nowhere unless debugging. */
void log_message(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

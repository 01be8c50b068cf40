// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The table of results and the functions that fill a struct rp_error. Knows nothing of libvirt,
 * NBD or FUSE; never logs; any thread.
 */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct rp_result_row rows[] = {
    {RESULT_COMPLETED, "completed", 0, "", "the export is complete, on disk, checked"},
    {RESULT_JOB_STARTED, "job-started", 0, "",
     "parameters were accepted; the job is queued or running"},
    {RESULT_FAILED, "failed", EIO, "EIO",
     "I/O error, no space, cancelled, or the VM went away half-way"},
    {RESULT_ACCESS_DENIED, "access-denied", EACCES, "EACCES",
     "the caller may not write there, or libvirt refuses"},
    {RESULT_NOT_SUPPORTED, "not-supported", EOPNOTSUPP, "EOPNOTSUPP",
     "driver without backup, disk without change tracking, raw delta"},
    {RESULT_STATUS_UNKNOWN, "status-unknown", EREMOTEIO, "EREMOTEIO",
     "contact was lost, and what became of the job cannot be known"},
    {RESULT_TIMEOUT, "timeout", ETIMEDOUT, "ETIMEDOUT", "Timeout reached, or no progress"},
    {RESULT_INVALID_PARAMETER, "invalid-parameter", EINVAL, "EINVAL",
     "unknown key, missing or unusable directory, unknown base or disk"},
    {RESULT_IN_USE, "in-use", EBUSY, "EBUSY",
     "a job of this service or a foreign one holds the VM"},
    {RESULT_INVALID_STATE, "invalid-state", ENOTRECOVERABLE, "ENOTRECOVERABLE",
     "base broken or not an ancestor, hold too short, RequireExact not met"},
    {RESULT_INCORRECT_DATA_TYPE, "incorrect-data-type", EBADMSG, "EBADMSG",
     "not an INI text, not UTF-8, or a value of the wrong type"},
    {RESULT_NOT_AVAILABLE, "not-available", EHOSTDOWN, "EHOSTDOWN",
     "hypervisor or VM cannot be reached"},
    {RESULT_OUT_OF_MEMORY, "out-of-memory", ENOMEM, "ENOMEM", "out of memory"},
};

const struct rp_result_row *rp_result_rows(size_t *ret_count)
{
    *ret_count = sizeof rows / sizeof rows[0];
    return rows;
}

const struct rp_result_row *rp_result_row(int result)
{
    const struct rp_result_row *failed = NULL;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].result == result)
            return &rows[i];
        if (rows[i].result == RESULT_FAILED)
            failed = &rows[i];
    }
    return failed;
}

/*
 * Stricter than it looks necessary: overlong forms and surrogates are refused, because job/status
 * promises UTF-8 to programs that decode it strictly (Python).
 */
size_t rp_utf8_sequence(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t len;

    if (length == 0 || s[0] > 0xf4 || (s[0] >= 0x80 && s[0] < 0xc2))
        return 0;
    len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (len > length)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

/* Makes `message` one line of valid UTF-8; a sequence that the buffer's end cut is dropped. */
static void sanitize(char *message)
{
    char *end = strchr(message, '\0');

    for (char *s = message; s < end;) {
        size_t len = rp_utf8_sequence(s, (size_t)(end - s));
        if (len == 0 || (unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
        s += len ? len : 1;
    }
}

/* Ends a message that did not fit in "...", at a character's boundary. */
static void mark_cut(char *message)
{
    size_t end = RP_MESSAGE_SIZE - sizeof "...";

    while (end > 0 && ((unsigned char)message[end] & 0xc0) == 0x80)
        end--;
    memcpy(message + end, "...", sizeof "...");
}

static void set(struct rp_error *e, int result, int err, const char *format, va_list args,
                const char *suffix)
{
    int len;

    e->result = result;
    e->err = err;
    len = vsnprintf(e->message, sizeof e->message, format, args);
    if (len < 0)
        len = 0;
    if (suffix && (size_t)len < sizeof e->message)
        len += snprintf(e->message + len, sizeof e->message - (size_t)len, ": %s", suffix);
    if ((size_t)len >= sizeof e->message)
        mark_cut(e->message);
    sanitize(e->message);
}

int rp_fail(struct rp_error *e, int result, const char *format, ...)
{
    int err = rp_result_row(result)->err;
    va_list args;

    if (e) {
        va_start(args, format);
        set(e, result, err, format, args, NULL);
        va_end(args);
    }
    return -err;
}

static int result_of_errno(int err)
{
    switch (err) {
    case EACCES:
    case EPERM:
        return RESULT_ACCESS_DENIED;
    case ENOMEM:
        return RESULT_OUT_OF_MEMORY;
    case ETIMEDOUT:
        return RESULT_TIMEOUT;
    default:
        return RESULT_FAILED;
    }
}

int rp_fail_errno(struct rp_error *e, int err, const char *format, ...)
{
    char buffer[128];
    va_list args;

    if (e) {
        va_start(args, format);
        set(e, result_of_errno(err), err, format, args, strerror_r(err, buffer, sizeof buffer));
        va_end(args);
    }
    return -err;
}

int rp_fail_memory(struct rp_error *e)
{
    return rp_fail(e, RESULT_OUT_OF_MEMORY, "out of memory");
}

void rp_error_prefix(struct rp_error *e, const char *format, ...)
{
    char message[RP_MESSAGE_SIZE];
    va_list args;

    if (!e)
        return;
    memcpy(message, e->message, sizeof message);
    va_start(args, format);
    set(e, e->result, e->err, format, args, NULL);
    va_end(args);

    size_t len = strlen(e->message);
    if ((size_t)snprintf(e->message + len, sizeof e->message - len, "%s", message) >=
        sizeof e->message - len)
        mark_cut(e->message);
}

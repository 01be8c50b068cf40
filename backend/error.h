/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The documented results and the one way to fail.
 *
 * A failure is a number (for programs that know Hyper-V's service), an errno (for programs that
 * only know files) and a sentence (for the person). They are set together, by rp_fail() and its
 * kin, in the thread that failed and before any other call, so that they can never part ways.
 */
#ifndef REFPOINTFS_ERROR_H
#define REFPOINTFS_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The numbers are those of Msvm_VirtualSystemReferencePointService.ExportReferencePoint
 * (Microsoft's Hyper-V WMI provider reference).
 */
enum rp_result {
    RESULT_COMPLETED = 0,
    RESULT_JOB_STARTED = 4096,
    RESULT_FAILED = 32768,
    RESULT_ACCESS_DENIED = 32769,
    RESULT_NOT_SUPPORTED = 32770,
    RESULT_STATUS_UNKNOWN = 32771,
    RESULT_TIMEOUT = 32772,
    RESULT_INVALID_PARAMETER = 32773,
    RESULT_IN_USE = 32774,
    RESULT_INVALID_STATE = 32775,
    RESULT_INCORRECT_DATA_TYPE = 32776,
    RESULT_NOT_AVAILABLE = 32777,
    RESULT_OUT_OF_MEMORY = 32778,
};

/* One row of the table of results, as service/results shows it. */
struct rp_result_row {
    int result;
    const char *name;       /* "in-use": lower case, words joined by '-' */
    int err;                /* errno a file operation answers; 0 for the two that are no failure */
    const char *errno_name; /* "EBUSY"; "" where err is 0 */
    const char *meaning;
};

/* The table, in the order of the numbers; *ret_count rows. Static, never freed. */
const struct rp_result_row *rp_result_rows(size_t *ret_count);

/* The row of `result`; that of RESULT_FAILED for a number that is not in the table. */
const struct rp_result_row *rp_result_row(int result);

#define RP_MESSAGE_SIZE 512

/*
 * Fixed size, so that reporting a failure cannot itself fail. `message` is always one line of
 * valid UTF-8: control characters are replaced by '?', and a text that does not fit ends in "...".
 * A struct that was never failed is all zeroes (RP_ERROR_INIT).
 */
struct rp_error {
    int result;
    int err;
    char message[RP_MESSAGE_SIZE];
};

#define RP_ERROR_INIT                                                                              \
    {                                                                                              \
        0, 0, ""                                                                                   \
    }

/*
 * Each sets all three members of *e (which may be NULL when the caller wants only the errno) and
 * returns the negative errno, so that one line fails completely:
 *
 *     return rp_fail(e, RESULT_INVALID_PARAMETER, "VM '%s' has no disk '%s'", vm, disk);
 */
int rp_fail(struct rp_error *e, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * For a system call that failed with `err` (a positive errno): appends ": " and the text of the
 * errno, and picks the result that fits it (EACCES and EPERM access-denied, ENOMEM out-of-memory,
 * ETIMEDOUT timeout, all others failed). The errno of *e is `err` itself.
 */
int rp_fail_errno(struct rp_error *e, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Out of memory. */
int rp_fail_memory(struct rp_error *e);

/* Puts `format` in front of a message already there ("line 2: "); number and errno stay. */
void rp_error_prefix(struct rp_error *e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Length (1-4) of the valid UTF-8 sequence that `text` begins with, or 0 if it is not UTF-8. */
size_t rp_utf8_sequence(const char *text, size_t length);

#endif

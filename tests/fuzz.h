/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the fuzz targets share. Each is a fuzz-NAME.c that defines LLVMFuzzerTestOneInput() and ends
 * the process when one of its laws is broken; seeds lie in data/fuzz-NAME. Linked with
 * fuzz-replay.c a target is a plain test, built with -Dfuzz=true it is a fuzzer: scripts/fuzz.
 */
#ifndef REFPOINTFS_FUZZ_H
#define REFPOINTFS_FUZZ_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../backend/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_require(bool law, const char *sentence)
{
    if (!law) {
        fprintf(stderr, "broken law: %s\n", sentence);
        abort();
    }
}

/* A refusal has a number, an errno that fits, and a sentence in UTF-8. */
static inline void fuzz_check_refusal(int status, const struct rp_error *e)
{
    size_t length = strlen(e->message);

    fuzz_require(status == -e->err && e->err > 0, "status is -errno");
    fuzz_require(rp_result_row(e->result)->err == e->err || e->err == EFBIG,
                 "errno fits the result");
    fuzz_require(length > 0, "there is a sentence");
    for (size_t i = 0, step; i < length; i += step) {
        step = rp_utf8_sequence(e->message + i, length - i);
        fuzz_require(step > 0, "the sentence is UTF-8");
    }
}

/* The input as a text with a NUL behind it, freed by the caller. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    fuzz_require(text != NULL, "memory");
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * export.ini: what an export is, written last, and read again when it is the base of another.
 */
#ifndef REFPOINTFS_MANIFEST_H
#define REFPOINTFS_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "error.h"

#define MANIFEST_MAX_BYTES (1024 * 1024)

/* Strings are owned by the manifest and never NULL; "" where there is nothing to say. */
struct manifest_disk {
    char *target;
    char *file;          /* name in the export directory */
    char *format;        /* "qcow2", "raw" */
    uint64_t size_bytes; /* virtual */
    uint64_t data_bytes; /* copied */
    bool incremental;
    char *why;     /* why full or incremental, one sentence */
    char *base;    /* reference point the increment starts from */
    char *backing; /* as it stands in the file */
    char *sha256;  /* 64 hex digits */
};

struct manifest {
    char *vm, *uuid;
    char *refpoint; /* "" for the VM as it was */
    char *id;       /* of the reference point: another of its name has another; or "" */
    char *base;
    char *base_id;   /* likewise of the base */
    char *nvram;     /* name of the file with the firmware's variables, or "" */
    char *nvram_why; /* why there is none though the VM has them, or "" */
    char *left_out;  /* hard disks of the VM that are not in it, separated by spaces; or "" */
    time_t moment;
    bool exact;
    int consistency_level;
    int result;
    size_t ndisks;
    struct manifest_disk *disks;
};

void manifest_print(const struct manifest *manifest, FILE *out);

/* Reads what manifest_print() wrote; keys and sections it does not know are passed over. */
int manifest_parse(const char *text, size_t length, struct manifest *ret_manifest,
                   struct rp_error *e);
void manifest_clear(struct manifest *manifest);

/* The disk of that target, or NULL. */
const struct manifest_disk *manifest_find_disk(const struct manifest *manifest, const char *target);

/* "2026-11-22T17:00:00Z" into a buffer of MANIFEST_TIME_SIZE bytes. */
#define MANIFEST_TIME_SIZE 32
void manifest_print_time(time_t time, char *ret_text);

/* A SHA-256 as hexadecimal digits into a buffer of MANIFEST_SHA256_SIZE bytes. */
#define MANIFEST_SHA256_SIZE 65
void manifest_print_sha256(const unsigned char *sha256, char *ret_text);

#endif

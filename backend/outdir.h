/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The export directory, acted in with the rights of the caller.
 *
 * Files are made without a name (O_TMPFILE) where the file system can, so that a service that dies
 * leaves nothing, and under a temporary name elsewhere; they get their names when they are whole
 * and on disk, and never replace a file that is there. The directory is opened once and used
 * through its descriptor: who renames or replaces it meanwhile does not lead us elsewhere.
 */
#ifndef REFPOINTFS_OUTDIR_H
#define REFPOINTFS_OUTDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "backend.h"
#include "error.h"

#define OUTDIR_MANIFEST "export.ini"

/* How the names of temporary files end. */
#define OUTDIR_TEMPORARY_END ".part"

struct outdir;

/*
 * Could an export be written to `path`? It must be an existing directory that the caller may write
 * and that holds no export, or not exist in a parent that the caller may write. No side effects.
 * RESULT_INVALID_PARAMETER or RESULT_ACCESS_DENIED.
 */
int outdir_check(const char *path, const struct caller *caller, struct rp_error *e);

/* The same for a directory that holds an export which is to be read. */
int outdir_check_base(const char *path, const struct caller *caller, struct rp_error *e);

/* Would outdir_open() make it? With the caller's rights. */
bool outdir_is_missing(const char *path, const struct caller *caller);

/*
 * Opens the directory, making it if only its parent exists. *caller is copied, and so is `tag`,
 * which becomes part of the names of temporary files.
 */
int outdir_open(const char *path, const struct caller *caller, const char *tag,
                struct outdir **ret_outdir, struct rp_error *e);

/* The directory's path without symbolic links, as long as the outdir lives. */
const char *outdir_path(const struct outdir *outdir);

/* Refuses when `name` exists already: -EEXIST with RESULT_INVALID_PARAMETER. */
int outdir_refuse_existing(struct outdir *outdir, const char *name, struct rp_error *e);

/* A new empty file that is to become `name`, open for reading and writing, mode 0600. */
int outdir_create(struct outdir *outdir, const char *name, int *ret_fd, struct rp_error *e);

/* A whole small file in one go, synced. */
int outdir_write(struct outdir *outdir, const char *name, const void *data, size_t length,
                 struct rp_error *e);

/*
 * A line for each file that the next outdir_publish() gives a name: what tells it from any other
 * file of that name, for outdir_clean(). They must be whole by now. -errno, *e filled.
 */
int outdir_print_files(const struct outdir *outdir, FILE *out, struct rp_error *e);

/* Gives all files made since the last call their names, and syncs the directory. */
int outdir_publish(struct outdir *outdir, struct rp_error *e);

/*
 * Closes. With `keep` false everything that was made, named or not, is removed again, and the
 * directory too if outdir_open() made it and it is empty. NULL is allowed.
 */
void outdir_close(struct outdir *outdir, bool keep);

/* What is known of an export that a service did not live to finish. Borrowed. */
struct outdir_left {
    const char *path, *tag;
    const char *files;   /* as outdir_print_files() printed them, or "" */
    bool made_directory; /* it did not exist before */
};

/*
 * Removes what is left of it, unless it is complete all the same: all its files and a manifest are
 * there. There being nothing left is no failure. Slow, without bound where a file server is dead.
 */
int outdir_clean(const struct outdir_left *left, const struct caller *caller, bool *ret_complete,
                 struct rp_error *e);

/*
 * Reads a small file (at most `max` bytes) of an export directory with the caller's rights. The
 * text is NUL-terminated and freed by the caller.
 */
int outdir_read(const char *path, const char *name, size_t max, const struct caller *caller,
                char **ret_text, size_t *ret_length, struct rp_error *e);

/*
 * The path of `to` relative to the directory `from`; both absolute and without symbolic links, as
 * outdir_path() and realpath(3) give them. Always begins with "./" or "../", so that QEMU takes no
 * part of it for a protocol. Allocated.
 */
char *outdir_relative(const char *from, const char *to);

/* realpath(3) with the caller's rights. Allocated. */
int outdir_resolve(const char *path, const struct caller *caller, char **ret_path,
                   struct rp_error *e);

#endif

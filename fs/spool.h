/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The spool: small files in memory, beside the files that can be written, for programs that save
 * by way of a file of another name: temporary files, swap files, locks, backups. Also the names
 * that were removed and are to come back.
 *
 * A name belongs to a directory and to the user who made it: two users never see, meet or replace
 * each other's files, whatever they call them. Nothing here is for keeping: a file that nobody has
 * open vanishes after a minute, and all of it with the mount.
 *
 * Bounds: a file 1 MiB, all files 16 MiB and 1024 names; one user a quarter of that. At most one
 * file of the size that its reader takes is copied for each rename that is under way.
 *
 * Memory only, any thread; one lock, which is a leaf. Functions that can fail return 0 or a
 * negative errno; outputs are untouched on failure.
 */
#ifndef REFPOINTFS_SPOOL_H
#define REFPOINTFS_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define SPOOL_FILE_BYTES ((size_t)1 << 20) /* a swap file for the longest text fits */
#define SPOOL_BYTES      ((size_t)16 << 20)
#define SPOOL_NAMES      1024
#define SPOOL_USER_SHARE 4 /* of both: one part of so many */
#define SPOOL_KEEP_MS    60000
#define SPOOL_HIDDEN_MS                                                                            \
    1000 /* a removed name comes back: long enough for `mv` to make it again                       \
          */

struct spool;
struct spool_file;

/* NULL when there is no memory. */
struct spool *spool_new(void);

/* Nothing may be open any more but what the kernel will not close. NULL is allowed. */
void spool_free(struct spool *spool);

/* Whose name, and where; `dir` is the directory's inode number. */
struct spool_key {
    uint64_t dir;
    uid_t uid;
    const char *name;
};

/* Numbers of spool files are apart from all others. */
static inline bool spool_is_inode(uint64_t inode)
{
    return inode >> 63;
}

/* ---- names ---- */

enum spool_found { SPOOL_NOTHING, SPOOL_FILE, SPOOL_HIDDEN };

/* *ret_stat is filled in for SPOOL_FILE. */
enum spool_found spool_lookup(struct spool *spool, const struct spool_key *key,
                              struct stat *ret_stat);

/* A new, empty file, open; -EEXIST, -ENOSPC, or -EDQUOT when the user has had his share. */
int spool_create(struct spool *spool, const struct spool_key *key, mode_t mode, gid_t gid,
                 struct spool_file **ret_file);

int spool_unlink(struct spool *spool, const struct spool_key *key);

/* Within the directory; what has the new name goes, unless `keep`: then -EEXIST. */
int spool_rename(struct spool *spool, const struct spool_key *key, const char *new_name, bool keep);

/* The name, which is not one of the spool, is to be found no more by this user, for a second. */
int spool_hide(struct spool *spool, const struct spool_key *key);
void spool_show(struct spool *spool, const struct spool_key *key);

/* ---- files; by number, or open ---- */

/* -ESTALE: it has gone. */
int spool_open(struct spool *spool, uint64_t inode, struct spool_file **ret_file);
void spool_close(struct spool *spool, struct spool_file *file);

int spool_stat(struct spool *spool, uint64_t inode, struct stat *ret_stat);

/* Sets mode, owner, size and times; makes *st what spool_stat() would give. */
int spool_set_stat(struct spool *spool, uint64_t inode, struct stat *st);

ssize_t spool_read(struct spool *spool, struct spool_file *file, char *buffer, size_t size,
                   off_t offset);

/* All of it, or an error; -ESTALE for a file whose text was taken already. */
int spool_write(struct spool *spool, struct spool_file *file, const char *data, size_t size,
                off_t offset);

/*
 * To take a file's text away: *ret_text is a copy, freed by the caller, and the file is open until
 * spool_settle() says what became of it. Taken, it has no name any more, and writing into it
 * fails: it would be lost. -EFBIG when there is more than `max`.
 */
int spool_take(struct spool *spool, const struct spool_key *key, size_t max,
               struct spool_file **ret_file, char **ret_text, size_t *ret_length);
void spool_settle(struct spool *spool, struct spool_file *file, bool taken);

#endif

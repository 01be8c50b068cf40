/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests on spool files, told by their inode numbers (spool_is_inode()): ops.c hands over what
 * concerns them. All are answered at once, from memory.
 */
#ifndef REFPOINTFS_SPOOL_OPS_H
#define REFPOINTFS_SPOOL_OPS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "spool.h"

/* The name as the caller of the request means it; `name` is borrowed. */
struct spool_key spool_ops_key(fuse_req_t req, fuse_ino_t parent, const char *name);

/* Replies, and returns true, when the spool has the name, or hides it. */
bool spool_ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);

/* Is the name hidden from who asks? */
bool spool_ops_hides(fuse_req_t req, fuse_ino_t parent, const char *name);

/* Fills in *fi and *ret_entry, and does not reply. */
int spool_ops_create(fuse_req_t req, const struct spool_key *key, mode_t mode,
                     struct fuse_file_info *fi, struct fuse_entry_param *ret_entry);
int spool_ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void spool_ops_getattr(fuse_req_t req, fuse_ino_t ino);
void spool_ops_setattr(fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set);
void spool_ops_read(fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi);
void spool_ops_write(fuse_req_t req, const char *data, size_t size, off_t offset,
                     const struct fuse_file_info *fi);
void spool_ops_release(fuse_req_t req, const struct fuse_file_info *fi);
void spool_ops_poll(fuse_req_t req, struct fuse_pollhandle *poll);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Open files of held disks: those whose row has a blob. Each function that takes a request replies
 * to it exactly once, now or from another thread; none of them waits.
 *
 * An open file keeps nothing: when the hold ends, reads answer ENODEV from then on.
 */
#ifndef REFPOINTFS_DISK_H
#define REFPOINTFS_DISK_H

#include "lane.h"
#include "tree.h"

struct disks;
struct disk_file;

/* The open files of a mount. All are borrowed. NULL when there is no memory. */
struct disks *disks_new(const struct tree *tree, struct lane *lane, struct answers *answers);

/* Closes what the kernel did not release (a connection that was cut). The lane is idle. NULL is
 * allowed. */
void disks_free(struct disks *disks);

/* Replies the open file in fi->fh, or an error. */
void disk_open(struct disks *disks, fuse_req_t req, const struct node *node,
               const struct fuse_file_info *fi);

void disk_read(struct disk_file *file, fuse_req_t req, size_t size, off_t offset);

/* SEEK_DATA and SEEK_HOLE; there are no others that the kernel does not know itself. */
void disk_seek(struct disk_file *file, fuse_req_t req, off_t offset, int whence);

/* Size and blocks, while it is held: else -ENODEV. */
int disk_stat(struct disk_file *file, struct stat *ret_stat);

/* RELEASE; the file must not be used afterwards. */
void disk_close(struct disk_file *file, fuse_req_t req);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests on names in directories, as struct fuse_lowlevel_ops has them. Each replies exactly
 * once, now or from the lane.
 */
#ifndef REFPOINTFS_NAMES_H
#define REFPOINTFS_NAMES_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

void names_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void names_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                   struct fuse_file_info *fi);

/* The mode asked for is ignored: what stands in a directory decides who may do what with it. */
void names_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void names_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);

/* What there is none of: refused as not permitted, never as not implemented. */
void names_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void names_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void names_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);

#endif

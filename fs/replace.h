/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Replacing a file that can be written, as programs do that save under another name or unlink
 * first: requests that create, remove and rename names in a directory that holds such a file
 * (tree_has_stores()), as struct fuse_lowlevel_ops has them. Other names there are spool files; a
 * spool file that is renamed onto the file is a text written to it. Everywhere else all three are
 * refused.
 */
#ifndef REFPOINTFS_REPLACE_H
#define REFPOINTFS_REPLACE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

void replace_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                    struct fuse_file_info *fi);
void replace_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void replace_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                    const char *new_name, unsigned flags);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the operations share: the mount that a request belongs to, and who asks.
 */
#ifndef REFPOINTFS_MOUNT_H
#define REFPOINTFS_MOUNT_H

#include <errno.h>

#include "cache.h"
#include "disk.h"
#include "handle.h"
#include "lane.h"
#include "ops.h"
#include "spool.h"
#include "wait.h"

struct mount {
    struct tree tree;
    struct cache cache;
    struct answers *answers;
    struct lane *lane;
    struct waits *waits;
    struct handles *handles;
    struct disks *disks;
    struct spool *spool;
};

static inline struct mount *mount_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/*
 * What is gone of an inode that the kernel has: upon this error it looks up all names of the path
 * again, one of which may lead to a new object by now.
 */
static inline int mount_stale(int ret)
{
    return ret == -ENOENT ? -ESTALE : ret;
}

struct caller mount_caller(fuse_req_t req);

/* What a lookup of the file or directory answers. */
int mount_fill_entry(const struct mount *mount, const struct node *node,
                     struct fuse_entry_param *ret_entry);

/* Opens a file of the tree as the request asks: fills in *fi, and does not reply. */
int mount_open(fuse_req_t req, const struct node *node, struct fuse_file_info *fi);

/* The caller was interrupted before he had the file: there will be no RELEASE. */
void mount_drop(struct mount *mount, fuse_ino_t ino, struct fuse_file_info *fi);

#endif

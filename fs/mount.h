/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the operations share: the mount that a request belongs to, and who asks.
 */
#ifndef REFPOINTFS_MOUNT_H
#define REFPOINTFS_MOUNT_H

#include "handle.h"
#include "lane.h"
#include "ops.h"
#include "wait.h"

struct mount {
    struct tree tree;
    struct answers *answers;
    struct lane *lane;
    struct waits *waits;
    struct handles *handles;
};

static inline struct mount *mount_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

struct caller mount_caller(fuse_req_t req);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One open file: rendered when it is read, gathered and checked while it is written, committed
 * when it is closed. Each function that takes a request replies to it exactly once, now or from
 * another thread.
 */
#ifndef REFPOINTFS_HANDLE_H
#define REFPOINTFS_HANDLE_H

#include "lane.h"
#include "tree.h"
#include "wait.h"

struct handle;
struct handles;

/* The open files of a mount. All three are borrowed. NULL when there is no memory. */
struct handles *handles_new(const struct tree *tree, struct lane *lane, struct waits *waits);

/* No notification is sent after it returned. */
void handles_stop(struct handles *handles);

/* Frees what the kernel did not release (a connection that was cut); nothing of it is committed.
 * NULL is allowed. */
void handles_free(struct handles *handles);

/* `flags` are those of open(2); `caller` is who the text will be committed for. Memory. */
int handle_open(struct handles *handles, const struct node *node, int flags,
                const struct caller *caller, struct handle **ret_handle, struct rp_error *e);

/* How the kernel is to treat the handle that was just opened. */
void handle_set_mode(const struct handle *handle, struct fuse_file_info *fi);

/* The kernel did not take the handle that was just opened, and will not release it. */
void handle_drop(struct handle *handle);

void handle_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, int flags);
void handle_write(struct handle *handle, fuse_req_t req, const char *data, size_t size,
                  off_t offset);

/* FLUSH and FSYNC: would the text be taken as it stands? */
void handle_check(struct handle *handle, fuse_req_t req);

/* RELEASE; the handle must not be used afterwards. */
void handle_close(struct handle *handle, fuse_req_t req);

/* Cuts the gathered text to `size`; 0 also clears an earlier refusal. Replies the attributes. */
void handle_truncate(struct handle *handle, fuse_req_t req, off_t size);

/* Of a handle that was opened for reading: size and time of what it reads. */
int handle_stat(struct handle *handle, struct stat *ret_stat);

/* Takes over `poll` (may be NULL). */
void handle_poll(struct handle *handle, fuse_req_t req, struct fuse_pollhandle *poll);

/* For the backend's event: any of its threads. */
void handle_changed(struct handles *handles, uint64_t serial, unsigned topics);

#endif

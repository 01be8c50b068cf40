/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What need not be asked or printed again: texts kept here, and names, attributes and pages that
 * the kernel keeps. Only files that will not change again are kept (struct attr's `settled`), and
 * nothing that is read is older than the last event before the reading began:
 *
 *   epochs      each event about an object ends the epoch of the object, before anything else is
 *               done about it. A text is printed in an epoch and good for that epoch.
 *   stillness   only files of objects without an event for CACHE_MS are read through the kernel's
 *               pages. All others are read past them, each open file from its own snapshot.
 *   pages       the kernel keeps a file's page over an open() only when we say so in the reply. We
 *               do so when the page is known to be of this epoch: when a file that was opened in
 *               it, without keeping, has been read. Opening without keeping throws away all pages
 *               from before.
 *   attributes  the size that a page is read by. Taken back from the kernel by the event, and once
 *               more in each open() that throws pages away, for the event may be just behind. The
 *               kernel asks for attributes first and for the page then, so what it is told last is
 *               also what a read is answered with: an event in between must not make it cut a new
 *               text to the length of the old one. Such a page is thrown away at once.
 *   open files  whose reader goes back to the beginning: the event takes their pages away, before
 *               it wakes who polls or waits.
 *   names       of rows never change their meaning, and those of objects are good for a second. A
 *               number whose object is gone answers ESTALE, upon which the kernel looks all names
 * of the path up again.
 *
 * An event that was forgotten somewhere would so be seen a second late; that is what CACHE_MS is
 * for. A text longer than a page is not kept, because the pages of a file do not change all at
 * once.
 *
 * Taking pages away waits for reads of them that are under way, which FUSE's loop answers: so it is
 * never done in a thread of that loop, but everything else here may run in any.
 */
#ifndef REFPOINTFS_CACHE_H
#define REFPOINTFS_CACHE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "snapshot.h"
#include "tree.h"

/* How long anything is kept without being looked at again. */
#define CACHE_MS 1000

struct cache;

/* `tree` is borrowed. NULL when there is no memory. */
struct cache *cache_new(const struct tree *tree);
void cache_free(struct cache *cache); /* NULL is allowed */

/* Whom to tell; before the first request is served. Until then nobody is. */
void cache_set_session(struct cache *cache, struct fuse_session *session);

/* The kernel is told nothing any more. */
void cache_stop(struct cache *cache);

/* Everything about a node, as tree_stat(). How long it is good for is tree_policy()'s to say. */
int cache_stat(struct cache *cache, const struct node *node, const struct policy *policy,
               struct stat *ret_stat);

/*
 * A file that tree_policy() lets the kernel keep is opened. `may_keep`: it is still, and not too
 * long. `keep`: what the kernel has of it is good. `epoch` is for cache_read().
 */
struct cache_opened {
    struct snapshot *snapshot; /* the caller's reference */
    uint64_t epoch;
    bool may_keep, keep;
};
int cache_open(struct cache *cache, const struct node *node, struct cache_opened *ret_opened,
               struct rp_error *e);

/*
 * What a read of a file is answered with that was opened in `epoch` and may be kept. *ret_is_old:
 * cache_drop_pages() must follow the reply.
 */
int cache_read(struct cache *cache, const struct node *node, uint64_t epoch,
               struct snapshot **ret_snapshot, bool *ret_is_old);

/* An event, before it is told to anybody. `may_wait`: this is no thread of FUSE's loop. */
void cache_changed(struct cache *cache, uint64_t serial, bool may_wait);

/* What cache_changed() or cache_read() left undone, because it may not wait. */
void cache_drop_pages(struct cache *cache, uint64_t serial);

#endif

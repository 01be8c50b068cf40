/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel keeps, so that it need not ask for it again. Nothing that is read is older than
 * the last event before the reading began:
 *
 *   names       of rows never change their meaning, and those of objects are good for a second. A
 *               number whose object is gone answers ESTALE, upon which the kernel looks all names
 *               of the path up again.
 *   attributes  of directories, and of files that change by events alone (enum change): for a
 *               second, or until the object's next event, which takes them back. Answers that were
 *               on their way then, the kernel drops by itself. It looks at the mode before it
 *               opens a file, so that opening costs one request instead of two.
 *   pages       of files that change no more, for as long as it likes. All others are read past its
 *               pages, each open file from its own snapshot: the kernel asks for the size and for
 *               the page, and an event between the two would cut a text short.
 *
 * A file that changed when it was opened is read past the pages until it is opened again.
 */
#ifndef REFPOINTFS_CACHE_H
#define REFPOINTFS_CACHE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <stdatomic.h>

/* How long attributes and objects' names are kept without being looked at again. */
#define CACHE_S 1.0

/* Zeroed. `session`: whom to tell, set before the first request is served; until then nobody is. */
struct cache {
    struct fuse_session *session;
    atomic_bool stopped;
};

/* An event, before it is told to anybody else. Any thread. */
void cache_changed(struct cache *cache, uint64_t serial);

/* The kernel is told nothing any more. */
void cache_stop(struct cache *cache);

#endif

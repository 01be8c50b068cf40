/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The copies of several disks of one VM, two at a time: while one of them begins, is synced or is
 * at the end of its checksum, the other keeps server and CPUs busy; and two are hashed by two CPUs.
 * Memory does not grow with the number of disks.
 *
 * NOTES ON THE THREAD MODEL. copies_run() is called by the export's worker, which copies too;
 * beside it runs, where there is more than one disk and it can be started, one thread more, which
 * is gone on return. A disk's source, target and file belong to the one that copies it.
 */
#ifndef REFPOINTFS_COPIES_H
#define REFPOINTFS_COPIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "copy.h"

struct copies_disk {
    const char *name; /* errors begin with it */
    /* The source is closed as soon as it is of no more use, and in any case on return. What tells
     * of progress and asks whether to go on is not looked at, and neither is what concerns the
     * copies beside this one. */
    struct copy_params params;
    struct copy_stats stats; /* set on success */
    bool is_lost;            /* the copy failed, and the server had left */

    bool taken; /* copies.c's, and false and 0 to begin with */
    uint64_t done_bytes;
};

struct copies_params {
    struct copies_disk *disks;
    size_t ndisks;
    /* As those of copy_params, but of all disks together: `progress` is called by one thread at a
     * time, and `check` by several. */
    void (*progress)(void *opaque, uint64_t bytes_done);
    int (*check)(void *opaque, struct rp_error *e);
    void *opaque;
};

/*
 * Copies all of them, the largest first; how many at a time is for copy_at_once_max() to say. The
 * first failure ends the others as a cancel would.
 */
int copies_run(const struct copies_params *params, struct rp_error *e);

#endif

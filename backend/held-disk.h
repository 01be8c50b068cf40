/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A disk of a held instant, as those see it who read it while it is held. What is known of it (its
 * size, where it has data, what changed) is found out in the background when first asked for, once
 * for all. The rest of a disk's functions stand in backend.h.
 *
 * All may be called from any thread. A disk does not keep its hold: whoever ends that calls
 * held_disk_end() first, and from then on nothing of it is read any more.
 */
#ifndef REFPOINTFS_HELD_DISK_H
#define REFPOINTFS_HELD_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "offline.h"

struct held_disk_params {
    const char *target;
    const char *socket_path, *export_name;
    const char *bitmap;      /* of the changes since its base; NULL: it is held in full */
    struct offline *offline; /* what serves it for a VM that is off; NULL: the VM's QEMU does */
};

/* *params is copied, and gets a reference to `offline`. The disk has one reference, the caller's.
 * NULL when out of memory. */
struct disk *held_disk_new(const struct held_disk_params *params);

void held_disk_ref(struct disk *disk);
void held_disk_unref(struct disk *disk);

uint64_t held_disk_serial(const struct disk *disk);
const char *held_disk_target(const struct disk *disk);

/* Fails all reads, and whatever waits, with ENODEV; joins every thread. Slow. */
void held_disk_end(struct disk *disk);

/* When it was last used, on the clock of registry_now_ms(); 0 = never. */
int64_t held_disk_used_ms(const struct disk *disk);

/* Counts as use. */
int held_disk_open(struct disk *disk, bool data, struct rp_error *e);

/* True with all that is known by now, once its size is. */
bool held_disk_get_info(struct disk *disk, struct disk_info *ret_info);

/* Should held_disk_find_out() be called before it is shown? */
bool held_disk_is_stale(struct disk *disk);

/* Begins to find out what is not known yet. */
void held_disk_find_out(struct disk *disk);

/* Waits until all is known, or cannot be known; at most until `until_ms`. */
void held_disk_wait(struct disk *disk, int64_t until_ms);

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM that is shut off: bitmaps put into its images by qemu-img, and the images served over NBD by
 * qemu-storage-daemon, so that it need not be started for a reference point or an export.
 *
 * The VM may be started at any time and must not notice: images are served without locks, and what
 * was read while somebody may have written is found out afterwards (offline_is_unchanged()).
 */
#ifndef REFPOINTFS_OFFLINE_H
#define REFPOINTFS_OFFLINE_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "qcow2-chain.h"

/* Adds an empty, recording bitmap. Takes the image's lock for some milliseconds. */
int offline_add_bitmap(const char *file, const char *name, struct rp_error *e);

/*
 * Removes one, from the image and from those below it that go on with it; there being none of that
 * name is no failure.
 */
int offline_remove_bitmap(const char *file, const char *name, struct rp_error *e);

struct offline_disk {
    const char *file;
    const char *format;      /* "qcow2", "raw" */
    const char *export_name; /* NBD export */
    const char *bitmaps[2];  /* to be offered with it; NULL = none */
    /* The image and what is below it, all to be watched; NULL where that is not known. */
    const struct qcow2_chain *chain;
    const char *gathered; /* the image that has these bitmaps; NULL: `file` itself */
};

/*
 * Makes `path` an empty image which has each of the `count` bitmaps as the chain's layers have it
 * together. Layers may have different sizes, as when the disk was grown between two snapshots.
 */
int offline_gather_bitmaps(const struct qcow2_chain *chain, const char *const *names, size_t count,
                           const char *path, struct rp_error *e);

/* QEMU's driver for what that path is: a file, or a device. */
const char *offline_file_driver(const char *file);

struct offline;

/* Serves the disks on `socket_path`; returns when they can be connected to. */
int offline_serve(const char *socket_path, const struct offline_disk *disks, size_t ndisks,
                  struct offline **ret_offline, struct rp_error *e);

/*
 * True while no image has been written to since it is served, as its file's times tell, or the
 * kernel's count of a device's writes.
 */
bool offline_is_unchanged(struct offline *offline);

/*
 * Around a change of our own to images that are being served: a bitmap less is no change of the
 * disks. What somebody else changed before stays seen.
 */
bool offline_begin_change(struct offline *offline);
void offline_end_change(struct offline *offline, bool was_unchanged);

/* True in *ret_empty when the bitmap of an export has recorded nothing. */
int offline_is_bitmap_empty(const char *socket_path, const char *export_name, const char *bitmap,
                            bool *ret_empty, struct rp_error *e);

/* Ends what a service that died left serving on that socket, and removes its files. */
void offline_stop_left(const char *socket_path);

/* Keeps the struct, though not what it serves, beyond offline_stop(): until offline_unref(). */
void offline_ref(struct offline *offline);
void offline_unref(struct offline *offline);

/* Ends the serving, and gives up the reference that offline_serve() gave. NULL is allowed. */
void offline_stop(struct offline *offline);

#endif

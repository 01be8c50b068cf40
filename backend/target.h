/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kinds of output file. A target computes, from a plan, where everything will stand in the file;
 * it does no input or output itself. copy.c walks the file front to back and asks the target for
 * the metadata it meets on the way.
 *
 * The file holds metadata (none for raw), which is rendered in any order and any number of times by
 * render(), and the plan's data clusters in guest order: where `packed` without gaps, except for
 * the metadata that stands between, else each at its guest offset.
 *
 * Of a compressed file the plan gives only bounds. It begins with all of its metadata, and its
 * layout is that of clusters of which none shrank; place() then says where each really goes,
 * settle() gives the metadata instead of render(), piece by piece as it becomes final, and length()
 * the end.
 *
 * A target is used by one thread at a time.
 */
#ifndef REFPOINTFS_TARGET_H
#define REFPOINTFS_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "plan.h"

/*
 * Clusters of every target lie between these: below, direct I/O could not write single ones; above,
 * QEMU does not open the file.
 */
#define TARGET_CLUSTER_MIN_BYTES 4096u
#define TARGET_CLUSTER_MAX_BYTES (2u << 20)

struct target_params {
    /* Backing file name as it is to stand in the file, at most 1,023 bytes, and its format; both
     * NULL for a file of its own. Copied where needed. */
    const char *backing_file;
    const char *backing_format;
    bool compressed; /* clusters will be compressed, by zstd */
};

struct target_layout {
    uint64_t metadata_bytes; /* length of all of it; a multiple of the cluster size */
    uint64_t data_offset;    /* where data begins: compressed: == metadata_bytes; raw: 0 */
    uint64_t span_bytes;     /* of the disk; between data of two spans there may be metadata */
    uint64_t file_bytes;     /* final length of the file; compressed: at most this */
    bool compressed;
    bool packed; /* data clusters stand one after another; the last is padded with 0 */
};

/* The most clusters that place() takes at once. */
#define TARGET_PLACE_MAX 512u

/* A piece of metadata that will change no more. */
struct target_piece {
    uint64_t offset;
    const void *data; /* aligned to 4096, as are offset and length; valid until the next call */
    size_t length;
};

struct target; /* what a kind keeps between layout and render */

struct target_ops {
    const char *format; /* "qcow2", "raw": as export.ini and qemu-img name it */

    /*
     * Computes the layout. The plan is borrowed: it must outlive the target, and stay as it is.
     * RESULT_NOT_SUPPORTED for what the format cannot hold (a delta or compressed clusters in raw,
     * a backing file's name that is too long, a disk too large for its clusters).
     */
    int (*open)(const struct plan *plan, const struct target_params *params,
                struct target **ret_target, struct target_layout *ret_layout, struct rp_error *e);

    /*
     * How much metadata stands in the file from `offset` on, and which of it (*ret_metadata); 0
     * where there is data, or the end. Not for compressed files. In ascending order to be fast.
     */
    uint64_t (*find)(struct target *target, uint64_t offset, uint64_t *ret_metadata);

    /*
     * Writes the bytes [offset, offset + length) of the metadata to `buffer`; offset and length are
     * multiples of 512 and lie in it; windows need not match clusters or tables. Must be called in
     * ascending order to be fast; any order is right. Cannot fail.
     */
    void (*render)(struct target *target, uint64_t offset, void *buffer, size_t length);

    /* ---- compressed files; NULL where the kind has none ---- */

    /*
     * The next `count` data clusters of the plan, compressed to lengths[i] bytes each: 0 for one
     * that is all zeros (it gets no place), the cluster size for one that stays as it is. Places
     * grow: first through those that shrank, in their order, then through those that did not,
     * which begin on a multiple of the cluster size. What lies between two is zero.
     */
    void (*place)(struct target *target, const uint32_t *lengths, size_t count,
                  uint64_t *ret_offsets);

    /* True if there is a piece. To be called until there is none: before the first place() and
     * after each. When all clusters are placed, what it gives until then is all of the rest. */
    bool (*settle)(struct target *target, struct target_piece *ret_piece);

    /* Length of the file so far, a multiple of the cluster size. */
    uint64_t (*length)(const struct target *target);

    void (*close)(struct target *target); /* NULL allowed */
};

extern const struct target_ops target_qcow2;
extern const struct target_ops target_raw;

/* For the kinds: refuses a plan whose clusters are outside the limits above. */
int target_check_plan(const struct plan *plan, const char *format, struct rp_error *e);

#endif

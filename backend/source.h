/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk of an instant, read over NBD from a unix socket. source.c is the only file that includes
 * libnbd; source-plan.c makes a plan of the block status that it asks for.
 *
 * NOTES ON THE THREAD MODEL. A source belongs to one thread, that which opened it or which it was
 * handed to since: all functions, and all completion callbacks, run there. Nothing here blocks for
 * longer than the timeout given: the thread drives all connections by one poll(2) in source_wait(),
 * and so stays able to notice a cancel, a deadline or a server that went silent. Several threads
 * can share one under a lock of their own, which the one that waits lets go of only for its
 * poll(2): see source_poll_begin().
 *
 * DEATH. A source whose connection was lost, whose server fell silent, or which was dropped is
 * dead: its connections are closed, nothing is in flight, no callback is called any more and no
 * buffer is written to. Every later call but source_close() fails.
 */
#ifndef REFPOINTFS_SOURCE_H
#define REFPOINTFS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "plan.h"

#define SOURCE_CONNECTIONS_MAX 16u

struct source;

struct source_params {
    const char *socket_path;
    const char *export_name;
    /* Dirty bitmap to follow ("qemu:dirty-bitmap:" is put in front); NULL for a full export. */
    const char *bitmap;
    /* Connections to read by, 1 to SOURCE_CONNECTIONS_MAX, where the server allows several
     * (NBD_FLAG_CAN_MULTI_CONN). Two are best for a copy: a third gained nothing. */
    unsigned connections;
    /* Only reads will be asked for, many and small: without the answers' structure, which has to
     * be asked for block status, and costs more than a short read itself. */
    bool is_plain;
    /* A server that does not answer the handshake or a request for this long has failed. */
    unsigned timeout_ms;
    /* Asked between waits of source_open() and source_plan(); true ends the call with
     * RESULT_FAILED "cancelled". May be NULL. */
    bool (*cancelled)(void *opaque);
    void *opaque;
};

/*
 * Connects and negotiates. *params is copied except for `opaque`. Errors: RESULT_NOT_AVAILABLE
 * when nothing listens on the socket, RESULT_INVALID_PARAMETER when the server does not know
 * the export, RESULT_INVALID_STATE when it does not offer the bitmap, RESULT_TIMEOUT.
 */
int source_open(const struct source_params *params, struct source **ret_source, struct rp_error *e);

/* Drops the connections, whatever is in flight (its callbacks are not called). NULL is allowed. */
void source_close(struct source *source);

/* The same, but the struct stays: the source is dead. What to do when buffers must be free now. */
void source_drop(struct source *source);

/* True once the server's side of a connection was found closed. */
bool source_is_lost(const struct source *source);

uint64_t source_size_bytes(const struct source *source);

/*
 * Asks for block status in windows and makes the plan. Full export: clusters that read as zero
 * are skipped, all others are data. With a bitmap: clusters that are dirty are data or, where the
 * disk reads as zero, CLUSTER_ZERO (a delta that left them out would let the base's old data shine
 * through); only dirty regions, and small gaps between them, are asked for their allocation. A
 * server without base:allocation gives a plan in which all (dirty) clusters are data.
 *
 * Replies are not believed: extents beyond the disk, or after the end of the window, of no length,
 * or a reply that makes no headway are RESULT_FAILED. After a failure the source is dead.
 */
int source_plan(struct source *source, uint32_t cluster_bytes, struct plan **ret_plan,
                struct rp_error *e);

/* How many reads source_read() takes before the caller must wait: connections x depth. */
unsigned source_slots(const struct source *source);

/* Connections that carry reads: how many the server allowed of those asked for. */
unsigned source_connections(const struct source *source);

/* Would it allow more of them? */
bool source_allows_several(const struct source *source);

/* The longest read the server takes, and what offset and length must be multiples of (the disk's
 * end excepted). */
size_t source_max_read_bytes(const struct source *source);
size_t source_read_unit_bytes(const struct source *source);

/*
 * Starts reading `length` bytes (at most source_max_read_bytes()) at `offset` into `buffer`, which
 * must stay valid until `done` was called or the source is dead. `done` runs inside a later
 * source_wait(), once, with err = 0 (then, and only then, all of the buffer was written) or a
 * positive errno; it may not call the source. Must not be called while source_in_flight() ==
 * source_slots().
 */
int source_read(struct source *source, void *buffer, size_t length, uint64_t offset,
                void (*done)(void *opaque, int err), void *opaque, struct rp_error *e);

unsigned source_in_flight(const struct source *source);

/*
 * Lets the connections work until at least one callback ran, `wake_fd` (or -1) becomes readable,
 * or `timeout_ms` passed. Returns 0 for all three. A lost connection, or requests that saw no
 * answer for the source's own timeout (RESULT_TIMEOUT), is -errno, and the source is dead.
 */
int source_wait(struct source *source, int wake_fd, int timeout_ms, struct rp_error *e);

/*
 * source_wait() in its parts, for a source that several threads use under a lock: the first,
 * poll(2) without the lock, the second, and the third until it says that there is none. A read that
 * another thread begins meanwhile is on its way at once; when source_needs_poll() is true after it,
 * the thread in poll(2) has to be woken, to wait for something else.
 */
#define SOURCE_FDS_MAX (SOURCE_CONNECTIONS_MAX + 1)

struct pollfd;

unsigned source_poll_begin(const struct source *source, struct pollfd *ret_fds);
int source_poll_end(struct source *source, const struct pollfd *fds, struct rp_error *e);

/* Of a request that has come to its end: what it was begun with, for the caller to call. */
bool source_take_done(struct source *source, void (**ret_done)(void *opaque, int err),
                      void **ret_opaque, int *ret_err);

bool source_needs_poll(const struct source *source);

/* ---- block status: what source_plan() is made of ---- */

enum source_context { SOURCE_ALLOCATION, SOURCE_BITMAP };

#define SOURCE_STATUS_ZERO  2u /* SOURCE_ALLOCATION: reads as zero */
#define SOURCE_STATUS_DIRTY 1u /* SOURCE_BITMAP */

bool source_offers(const struct source *source, enum source_context context);

/*
 * Asks for the status of [offset, offset + length). Inside a later source_wait(), `extents` gets
 * the reply, `count` pairs of length and flags, not checked in any way, and may not call the
 * source; after it, `done` runs as for source_read(). Counts as one of source_slots().
 */
int source_status(struct source *source, enum source_context context, uint64_t offset,
                  uint64_t length,
                  void (*extents)(void *opaque, const uint32_t *pairs, size_t count),
                  void (*done)(void *opaque, int err), void *opaque, struct rp_error *e);

/* The bitmap will not be asked for again: gives its connection back. */
void source_end_bitmap(struct source *source);

/* RESULT_FAILED "cancelled" if params->cancelled() says so. */
int source_check_cancelled(const struct source *source, struct rp_error *e);

#endif

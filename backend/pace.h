/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bandwidth limit: a clock that each read advances by the time its bytes are worth. Arithmetic
 * only: times are those of CLOCK_MONOTONIC in ns, given by the caller, in whose thread it is.
 */
#ifndef REFPOINTFS_PACE_H
#define REFPOINTFS_PACE_H

#include <stddef.h>
#include <stdint.h>

/*
 * A limited copy may catch up after a delay by at most this much, and reads in pieces of this
 * much: over any two seconds both together are 2 %.
 */
#define PACE_BURST_NS  UINT64_C(20000000)
#define PACE_SECOND_NS UINT64_C(1000000000)

struct pace {
    uint64_t bytes_per_second; /* 0: no limit */
    uint64_t next_ns;          /* when the next read is allowed; the present, to begin with */
};

/* How long until a read may start. */
static inline uint64_t pace_delay_ns(const struct pace *pace, uint64_t now_ns)
{
    return pace->bytes_per_second && pace->next_ns > now_ns ? pace->next_ns - now_ns : 0;
}

/* Notes a read that was started. */
static inline void pace_take(struct pace *pace, uint64_t now_ns, size_t bytes)
{
    if (!pace->bytes_per_second)
        return;
    if (pace->next_ns + PACE_BURST_NS < now_ns)
        pace->next_ns = now_ns - PACE_BURST_NS;
    pace->next_ns +=
        (uint64_t)((double)bytes * (double)PACE_SECOND_NS / (double)pace->bytes_per_second);
}

/* The longest read that keeps the limit smooth, at most `max_bytes`; may be 0. */
static inline size_t pace_piece_bytes(const struct pace *pace, size_t max_bytes)
{
    uint64_t piece = pace->bytes_per_second / (PACE_SECOND_NS / PACE_BURST_NS);

    return pace->bytes_per_second && piece < max_bytes ? (size_t)piece : max_bytes;
}

#endif

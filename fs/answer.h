/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A FUSE request that is answered later, from another thread: exactly once, by whoever comes
 * first: the work that was asked for, an interrupt of the caller, or the end of the mount.
 *
 * A caller whose interrupt goes unanswered hangs in the kernel, where not even SIGKILL reaches it.
 *
 * NOTES ON THE THREAD MODEL. libfuse calls the interrupt function with a lock of the request
 * held, and in one case (interrupted before it could be registered) without a reference of its
 * own, so that a reply from inside it would free the request under libfuse's hands. It therefore
 * only puts the answer on a list, and one thread of ours, the watch, replies EINTR.
 */
#ifndef REFPOINTFS_ANSWER_H
#define REFPOINTFS_ANSWER_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <stdbool.h>

struct answers;

/* Starts the watch. NULL when there is no memory or no thread. */
struct answers *answers_new(void);

/* Joins the watch. No answer may be left. NULL is allowed. */
void answers_free(struct answers *answers);

/* Embedded in what waits; members are answer.c's own but for `req`. */
struct answer {
    fuse_req_t req; /* NULL: nobody to reply to; never claimed */
    struct answers *answers;
    unsigned grace_ms;
    void (*interrupted)(struct answer *answer);
    void (*release)(struct answer *answer);
    unsigned refs;
    bool claimed;
    bool is_interrupted;
    long long deadline_ms;
    struct answer *next;
};

/*
 * The caller owns one reference afterwards. An interrupt is answered EINTR when the request has
 * not been answered within `grace_ms`; then `interrupted` (may be NULL) is called from the watch,
 * without a lock. `release` frees the whole when the last reference goes. `req` may be NULL.
 */
void answer_init(struct answers *answers, struct answer *answer, fuse_req_t req, unsigned grace_ms,
                 void (*interrupted)(struct answer *), void (*release)(struct answer *));

/* True once: then the caller must reply to answer->req, and nobody else will. */
bool answer_claim(struct answer *answer);

bool answer_is_claimed(struct answer *answer);

void answer_ref(struct answer *answer);
void answer_unref(struct answer *answer);

#endif

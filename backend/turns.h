/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls that must not meet: of one VM, any number of one kind or a single one of the other. Knows
 * nothing of what is called. Any thread.
 */
#ifndef REFPOINTFS_TURNS_H
#define REFPOINTFS_TURNS_H

#include <pthread.h>
#include <stdbool.h>

/* One call's, from turns_take() to turns_end(); in the caller's own memory, so it cannot fail. */
struct turn {
    const char *uuid; /* of the VM; borrowed */
    bool is_alone;
    struct turn *next;
};

struct turns {
    pthread_mutex_t lock; /* protects `under_way`; never held over a call */
    pthread_cond_t ended;
    struct turn *under_way;
};

void turns_init(struct turns *turns);
void turns_destroy(struct turns *turns);

/* Waits until there is no call of the VM that must not be met. */
void turns_take(struct turns *turns, struct turn *turn, const char *uuid, bool is_alone);
void turns_end(struct turns *turns, struct turn *turn);

#endif

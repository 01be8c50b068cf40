// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A list of what is under way, short enough to be searched.
 */
#include "turns.h"

#include <string.h>

void turns_init(struct turns *turns)
{
    pthread_mutex_init(&turns->lock, NULL);
    pthread_cond_init(&turns->ended, NULL);
    turns->under_way = NULL;
}

void turns_destroy(struct turns *turns)
{
    pthread_cond_destroy(&turns->ended);
    pthread_mutex_destroy(&turns->lock);
}

static bool must_wait_locked(const struct turns *turns, const struct turn *turn)
{
    for (const struct turn *other = turns->under_way; other; other = other->next)
        if ((turn->is_alone || other->is_alone) && strcmp(other->uuid, turn->uuid) == 0)
            return true;
    return false;
}

void turns_take(struct turns *turns, struct turn *turn, const char *uuid, bool is_alone)
{
    turn->uuid = uuid;
    turn->is_alone = is_alone;
    pthread_mutex_lock(&turns->lock);
    while (must_wait_locked(turns, turn))
        pthread_cond_wait(&turns->ended, &turns->lock);
    turn->next = turns->under_way;
    turns->under_way = turn;
    pthread_mutex_unlock(&turns->lock);
}

void turns_end(struct turns *turns, struct turn *turn)
{
    struct turn **place = &turns->under_way;

    pthread_mutex_lock(&turns->lock);
    while (*place != turn)
        place = &(*place)->next;
    *place = turn->next;
    pthread_cond_broadcast(&turns->ended);
    pthread_mutex_unlock(&turns->lock);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A list of objects in the order of their serials. Serials only grow, so adding is an append and
 * finding a binary search. Each object must begin with its serial, a uint64_t. The table does not
 * own them and does not lock.
 */
#ifndef REFPOINTFS_TABLE_H
#define REFPOINTFS_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "backend.h"

struct table {
    void **items;
    size_t count, capacity;
};

static inline uint64_t table_serial(const struct table *table, size_t index)
{
    return *(const uint64_t *)table->items[index];
}

/* Adds an object whose serial is greater than all in the table. 0 or -ENOMEM. */
int table_append(struct table *table, void *item);

void table_remove(struct table *table, uint64_t serial);

/* NULL if there is none. */
void *table_find(const struct table *table, uint64_t serial);

/* Index of the first object whose serial is greater than `after`; count if there is none. */
size_t table_after(const struct table *table, uint64_t after);

void table_clear(struct table *table);

/* The next serial of `kind`; unique among all kinds in the process. Any thread. */
uint64_t table_new_serial(enum rp_kind kind);

#endif

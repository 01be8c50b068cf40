// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Objects in the order of their serials, and the counter that serials come from.
 */
#include "table.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

int table_append(struct table *table, void *item)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 8;
        void **items = reallocarray(table->items, capacity, sizeof *items);

        if (!items)
            return -ENOMEM;
        table->items = items;
        table->capacity = capacity;
    }
    table->items[table->count++] = item;
    return 0;
}

size_t table_after(const struct table *table, uint64_t after)
{
    size_t low = 0, high = table->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (table_serial(table, middle) <= after)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void *table_find(const struct table *table, uint64_t serial)
{
    size_t index = table_after(table, serial);

    return index > 0 && table_serial(table, index - 1) == serial ? table->items[index - 1] : NULL;
}

void table_remove(struct table *table, uint64_t serial)
{
    size_t index = table_after(table, serial);

    if (index == 0 || table_serial(table, index - 1) != serial)
        return;
    memmove(&table->items[index - 1], &table->items[index],
            (table->count - index) * sizeof *table->items);
    table->count--;
}

void table_clear(struct table *table)
{
    free(table->items);
    *table = (struct table){0};
}

uint64_t table_new_serial(enum rp_kind kind)
{
    /* From 1: serial 0 is the service, whose first row is FUSE's root inode. */
    static atomic_uint_fast64_t last;

    return (atomic_fetch_add(&last, 1) + 1) << RP_KIND_BITS | kind;
}

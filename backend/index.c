// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Open addressing with linear probing. What is removed leaves no mark: those behind it move up, so
 * that an index in which objects come and go for years stays as quick as a new one.
 */
#include "index.h"

#include <errno.h>
#include <stdlib.h>

#define SIZE_MIN 8 /* a power of two, as all sizes are */

uint64_t index_hash_number(uint64_t number)
{
    /* Serials differ in few bits, and the low ones choose the slot: each bit must reach them. */
    number ^= number >> 32;
    number *= 0x9e3779b97f4a7c15;
    number ^= number >> 29;
    return number;
}

uint64_t index_hash_text(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    return index_hash_number(hash);
}

static size_t slot_of(const struct index *index, uint64_t hash)
{
    return hash & (index->size - 1);
}

static size_t next_slot(const struct index *index, size_t slot)
{
    return (slot + 1) & (index->size - 1);
}

static void put(struct index *index, void *item)
{
    size_t slot = slot_of(index, index->kind->hash(item));

    while (index->slots[slot])
        slot = next_slot(index, slot);
    index->slots[slot] = item;
}

static int resize(struct index *index, size_t size)
{
    struct index bigger = {.kind = index->kind, .count = index->count, .size = size};

    bigger.slots = calloc(size, sizeof *bigger.slots);
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < index->size; i++)
        if (index->slots[i])
            put(&bigger, index->slots[i]);
    free(index->slots);
    *index = bigger;
    return 0;
}

int index_add(struct index *index, void *item)
{
    /* At most three quarters full: beyond that, runs of used slots get long. */
    if ((index->count + 1) * 4 > index->size * 3 &&
        resize(index, index->size ? index->size * 2 : SIZE_MIN) < 0)
        return -ENOMEM;
    put(index, item);
    index->count++;
    return 0;
}

/* Closes the gap: each object behind it moves there unless it would stand before its own slot. */
static void close_gap(struct index *index, size_t gap)
{
    size_t slot = next_slot(index, gap);

    for (; index->slots[slot]; slot = next_slot(index, slot)) {
        size_t home = slot_of(index, index->kind->hash(index->slots[slot]));

        if (((slot - home) & (index->size - 1)) >= ((slot - gap) & (index->size - 1))) {
            index->slots[gap] = index->slots[slot];
            gap = slot;
        }
    }
    index->slots[gap] = NULL;
}

void index_remove(struct index *index, const void *item)
{
    size_t slot = index->size ? slot_of(index, index->kind->hash(item)) : 0;

    while (index->size && index->slots[slot] && index->slots[slot] != item)
        slot = next_slot(index, slot);
    if (!index->size || !index->slots[slot])
        return;
    close_gap(index, slot);
    index->count--;
    /* Without memory for the smaller one, the larger does as well. */
    if (index->size > SIZE_MIN && index->count * 8 < index->size)
        (void)resize(index, index->size / 2);
}

void *index_find(const struct index *index, uint64_t hash, const void *key)
{
    size_t slot = index->size ? slot_of(index, hash) : 0;

    for (; index->size && index->slots[slot]; slot = next_slot(index, slot))
        if (index->kind->matches(index->slots[slot], key))
            return index->slots[slot];
    return NULL;
}

void index_clear(struct index *index)
{
    free(index->slots);
    *index = (struct index){.kind = index->kind};
}

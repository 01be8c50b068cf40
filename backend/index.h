/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds objects by a key that stands in them, in constant time: a hash table of pointers, about 20
 * bytes an object. It does not own the objects and does not lock. An object's key must not change
 * while it is in an index.
 */
#ifndef REFPOINTFS_INDEX_H
#define REFPOINTFS_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the key of an object is. */
struct index_kind {
    uint64_t (*hash)(const void *item); /* of its key */
    bool (*matches)(const void *item, const void *key);
};

/* Begins as {.kind = ...}. */
struct index {
    const struct index_kind *kind;
    void **slots; /* NULL while nothing was ever added */
    size_t count, size;
};

/*
 * 0 or -ENOMEM. Several objects may have the same key; then any one of them is found. Adding one
 * right after another was removed does not fail.
 */
int index_add(struct index *index, void *item);

/* Nothing happens when it does not stand in the index. */
void index_remove(struct index *index, const void *item);

/* `hash` is that of `key`. NULL if there is none. */
void *index_find(const struct index *index, uint64_t hash, const void *key);

void index_clear(struct index *index);

uint64_t index_hash_number(uint64_t number);
uint64_t index_hash_text(const char *text);

#endif

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/index.c: found by key, also among objects whose keys collide, while others
 * come and go, against a plain list that is searched from end to end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../backend/index.h"

struct item {
    unsigned key;
    bool is_in;
};

/* Few values, so that nearly all items want the same places. */
static uint64_t hash_badly(const void *item)
{
    return ((const struct item *)item)->key % 5;
}

static uint64_t hash_well(const void *item)
{
    return index_hash_number(((const struct item *)item)->key);
}

static bool has_key(const void *item, const void *key)
{
    return ((const struct item *)item)->key == *(const unsigned *)key;
}

static const struct index_kind badly = {hash_badly, has_key};
static const struct index_kind well = {hash_well, has_key};

static struct item *find(const struct index *index, unsigned key)
{
    const struct item like = {.key = key};

    return index_find(index, index->kind->hash(&like), &key);
}

static void test_empty(void **state)
{
    struct index index = {.kind = &well};
    struct item item = {.key = 7};

    (void)state;
    assert_null(find(&index, 7));
    index_remove(&index, &item);
    index_clear(&index);
    assert_null(find(&index, 7));
    assert_int_equal(0, index.count);
}

static void test_same_key(void **state)
{
    struct index index = {.kind = &well};
    struct item first = {.key = 7}, second = {.key = 7};

    (void)state;
    assert_int_equal(0, index_add(&index, &first));
    assert_int_equal(0, index_add(&index, &second));
    assert_non_null(find(&index, 7));
    index_remove(&index, &first);
    assert_ptr_equal(&second, find(&index, 7));
    index_remove(&index, &first);
    assert_ptr_equal(&second, find(&index, 7));
    index_remove(&index, &second);
    assert_null(find(&index, 7));
    index_clear(&index);
}

static void check_all(const struct index *index, struct item *items, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(items[i].is_in ? &items[i] : NULL, find(index, items[i].key));
        count += items[i].is_in;
    }
    assert_int_equal(count, index->count);
}

static void play(const struct index_kind *kind, size_t n, unsigned rounds)
{
    struct index index = {.kind = kind};
    struct item *items = calloc(n, sizeof *items);

    assert_non_null(items);
    for (size_t i = 0; i < n; i++)
        items[i].key = (unsigned)i * 4 + 1;
    srandom(1);
    for (unsigned round = 0; round < rounds; round++) {
        struct item *item = &items[(size_t)random() % n];

        /* At first more come than go, in the end more go than come. */
        if (item->is_in && (unsigned long)random() % rounds < round * 2)
            index_remove(&index, item);
        else if (!item->is_in && (unsigned long)random() % rounds > round / 2)
            assert_int_equal(0, index_add(&index, item));
        else
            continue;
        item->is_in = !item->is_in;
        if (round % (rounds / 50) == 0)
            check_all(&index, items, n);
    }
    check_all(&index, items, n);
    for (size_t i = 0; i < n; i++) {
        index_remove(&index, &items[i]);
        items[i].is_in = false;
    }
    check_all(&index, items, n);
    /* Nor does it keep the room that it had. */
    assert_true(index.size <= 64);
    index_clear(&index);
    free(items);
}

static void test_collisions(void **state)
{
    (void)state;
    play(&badly, 60, 20000);
}

static void test_many(void **state)
{
    (void)state;
    play(&well, 3000, 60000);
}

/* Names as people choose them differ in their last letters: they must still spread. */
static void test_spread(void **state)
{
    unsigned used[1024] = {0}, longest = 0;
    char name[32];

    (void)state;
    for (unsigned i = 0; i < 10240; i++) {
        snprintf(name, sizeof name, "daily-2031-%05u", i);
        used[index_hash_text(name) % 1024]++;
    }
    for (size_t i = 0; i < 1024; i++)
        longest = used[i] > longest ? used[i] : longest;
    assert_true(longest < 40); /* ten each, if they were dealt out */
    memset(used, 0, sizeof used);
    longest = 0;
    for (uint64_t serial = 1; serial <= 10240; serial++)
        used[index_hash_number(serial << 2 | 2) % 1024]++;
    for (size_t i = 0; i < 1024; i++)
        longest = used[i] > longest ? used[i] : longest;
    assert_true(longest < 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),      cmocka_unit_test(test_same_key),
        cmocka_unit_test(test_collisions), cmocka_unit_test(test_many),
        cmocka_unit_test(test_spread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

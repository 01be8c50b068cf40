// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Unit tests of backend/turns.c: calls of one VM that may meet do, one that must be alone is, and
 * other VMs know nothing of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "../backend/turns.h"

#define THREADS 8
#define ROUNDS  2000

static struct turns turns;
static atomic_int together[2], alone[2];

static void *call(void *opaque)
{
    unsigned number = (unsigned)(uintptr_t)opaque, seed = number;

    for (int i = 0; i < ROUNDS; i++) {
        unsigned vm = (unsigned)rand_r(&seed) % 2;
        bool is_alone = rand_r(&seed) % 4 == 0;
        atomic_int *mine = is_alone ? &alone[vm] : &together[vm];
        struct turn turn;

        turns_take(&turns, &turn, vm ? "one" : "other", is_alone);
        ++*mine;
        if (alone[vm] > 1 || (alone[vm] == 1 && together[vm] > 0))
            abort();
        if (i % 64 == 0)
            usleep(10);
        --*mine;
        turns_end(&turns, &turn);
    }
    return NULL;
}

static void those_that_must_not_meet_do_not(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    turns_init(&turns);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_null(turns.under_way);
    turns_destroy(&turns);
}

static void those_that_may_meet_do(void **state)
{
    struct turn first, second, other, alone_turn;

    (void)state;
    turns_init(&turns);
    turns_take(&turns, &first, "one", false);
    turns_take(&turns, &second, "one", false);
    turns_take(&turns, &other, "other", true);
    turns_end(&turns, &first);
    turns_end(&turns, &second);
    turns_take(&turns, &alone_turn, "one", true);
    turns_end(&turns, &alone_turn);
    turns_end(&turns, &other);
    turns_destroy(&turns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_that_may_meet_do),
        cmocka_unit_test(those_that_must_not_meet_do_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

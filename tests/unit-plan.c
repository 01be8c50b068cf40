// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * backend/plan.c against a model that keeps one byte a cluster: the laws of marking, runs, counts.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../backend/plan.h"

#define CLUSTER 4096u

/* xorshift: the same sequence for a seed everywhere. */
static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

struct mark {
    uint64_t offset, length;
    enum cluster_state state;
};

static void model_mark(unsigned char *model, uint64_t size, const struct mark *m)
{
    uint64_t end;

    if (m->length == 0 || m->offset >= size)
        return;
    end = m->length > size - m->offset ? size : m->offset + m->length;
    for (uint64_t at = m->offset / CLUSTER; at * CLUSTER < end; at++)
        if (model[at] < m->state)
            model[at] = (unsigned char)m->state;
}

/* Mostly short marks, some over many pieces, some past the end, some empty. */
static struct mark random_mark(uint64_t *seed, uint64_t size)
{
    static const uint64_t lengths[] = {0, 1, CLUSTER, 70 * CLUSTER, 9000ull * CLUSTER, UINT64_MAX};
    uint64_t length = lengths[next_random(seed) % 6];
    struct mark m = {
        .offset = next_random(seed) % (size + 2 * CLUSTER),
        .state = (enum cluster_state)(next_random(seed) % 3),
    };

    if (next_random(seed) % 4 == 0)
        m.offset -= m.offset % (CLUSTER * (uint64_t)PLAN_PIECE_CLUSTERS);
    m.length = length > 1 && length < UINT64_MAX ? next_random(seed) % length : length;
    if (length == UINT64_MAX && next_random(seed) % 8)
        m.length = 3 * CLUSTER;
    return m;
}

static void assert_runs(const struct plan *plan, const unsigned char *model, uint64_t size)
{
    uint64_t clusters = (size + CLUSTER - 1) / CLUSTER, at = 0, counts[3] = {0}, data_bytes = 0;
    struct plan_run run;

    while (plan_run_at(plan, at * CLUSTER, &run)) {
        uint64_t end = at;

        while (end < clusters && model[end] == model[at])
            end++;
        assert_int_equal(run.offset_bytes, at * CLUSTER);
        assert_int_equal(run.state, model[at]);
        assert_int_equal(run.offset_bytes + run.length_bytes,
                         end == clusters ? size : end * CLUSTER);
        counts[run.state] += end - at;
        if (run.state == CLUSTER_DATA)
            data_bytes += run.length_bytes;
        at = end;
    }
    assert_int_equal(at, clusters);
    for (int i = 0; i < 3; i++)
        assert_int_equal(plan_count(plan, (enum cluster_state)i), counts[i]);
    assert_int_equal(plan_data_bytes(plan), data_bytes);
}

/* From any cluster, in any window, and on to the next data: not only from where a run begins. */
static void assert_looks(const struct plan *plan, const unsigned char *model, uint64_t size,
                         uint64_t *seed)
{
    uint64_t clusters = (size + CLUSTER - 1) / CLUSTER;

    for (int i = 0; i < 50; i++) {
        uint64_t at = next_random(seed) % clusters, end = at, limit, data = at;
        struct plan_run run;

        limit = at + 1 + next_random(seed) % 20000;
        while (end < clusters && end < limit && model[end] == model[at])
            end++;
        assert_true(plan_run_within(plan, at * CLUSTER, limit * CLUSTER, &run));
        assert_int_equal(run.state, model[at]);
        assert_int_equal(at * CLUSTER + run.length_bytes, end == clusters ? size : end * CLUSTER);

        while (data < clusters && model[data] != CLUSTER_DATA)
            data++;
        assert_int_equal(plan_next_data(plan, at * CLUSTER, &run), data < clusters);
        if (data < clusters)
            assert_int_equal(run.offset_bytes, data * CLUSTER);
    }
}

static void random_marks_equal_the_model(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= 60; round++) {
        uint64_t seed = round * 0x9e3779b97f4a7c15u;
        uint64_t size = 1 + next_random(&seed) % (round % 3 ? 40000ull * CLUSTER : 100 * CLUSTER);
        unsigned char *model = calloc(1, size / CLUSTER + 1);
        struct plan *plan;

        assert_int_equal(plan_new(size, CLUSTER, &plan, NULL), 0);
        for (int i = 0; i < 200; i++) {
            struct mark m = random_mark(&seed, size);

            assert_int_equal(plan_mark(plan, m.offset, m.length, m.state, NULL), 0);
            model_mark(model, size, &m);
            if (i % 20 == 0)
                assert_runs(plan, model, size);
        }
        assert_runs(plan, model, size);
        assert_looks(plan, model, size, &seed);
        plan_free(plan);
        free(model);
    }
}

static void assert_same(const struct plan *a, const struct plan *b)
{
    struct plan_run x, y;
    uint64_t at = 0;

    while (plan_run_at(a, at, &x)) {
        assert_true(plan_run_at(b, at, &y));
        assert_int_equal(x.length_bytes, y.length_bytes);
        assert_int_equal(x.state, y.state);
        at += x.length_bytes;
    }
    assert_false(plan_run_at(b, at, &y));
}

static void order_of_marks_is_irrelevant(void **state)
{
    enum { MARKS = 120 };
    struct mark marks[MARKS];
    uint64_t seed = 42, size = 30000ull * CLUSTER + 17;
    struct plan *forward, *backward;

    (void)state;
    assert_int_equal(plan_new(size, CLUSTER, &forward, NULL), 0);
    assert_int_equal(plan_new(size, CLUSTER, &backward, NULL), 0);
    for (int i = 0; i < MARKS; i++) {
        marks[i] = random_mark(&seed, size);
        assert_int_equal(plan_mark(forward, marks[i].offset, marks[i].length, marks[i].state, NULL),
                         0);
    }
    for (int i = MARKS; i-- > 0;)
        assert_int_equal(
            plan_mark(backward, marks[i].offset, marks[i].length, marks[i].state, NULL), 0);
    assert_same(forward, backward);
    plan_free(forward);
    plan_free(backward);
}

static void ends_are_clipped(void **state)
{
    struct plan *plan;
    struct plan_run run;

    (void)state;
    assert_int_equal(plan_new(3 * 65536 + 1, 65536, &plan, NULL), 0);
    assert_int_equal(plan_mark(plan, 3 * 65536, UINT64_MAX, CLUSTER_DATA, NULL), 0);
    assert_int_equal(plan_mark(plan, 3 * 65536 + 1, 1, CLUSTER_DATA, NULL), 0);
    assert_int_equal(plan_data_bytes(plan), 1);
    assert_int_equal(plan_count(plan, CLUSTER_DATA), 1);
    assert_true(plan_next_data(plan, 0, &run));
    assert_int_equal(run.offset_bytes, 3 * 65536);
    assert_int_equal(run.length_bytes, 1);
    assert_false(plan_run_at(plan, 4 * 65536, &run));
    plan_free(plan);
}

static void an_empty_disk_has_no_run(void **state)
{
    struct plan *plan;
    struct plan_run run;

    (void)state;
    assert_int_equal(plan_new(0, 65536, &plan, NULL), 0);
    assert_int_equal(plan_mark(plan, 0, 1, CLUSTER_DATA, NULL), 0);
    assert_false(plan_run_at(plan, 0, &run));
    assert_int_equal(plan_data_bytes(plan), 0);
    plan_free(plan);
}

static void a_huge_disk_is_cheap(void **state)
{
    const uint64_t size = UINT64_C(8) << 40;
    struct plan *plan;
    struct plan_run run;

    (void)state;
    assert_int_equal(plan_new(size, CLUSTER, &plan, NULL), 0);
    assert_int_equal(plan_mark(plan, 0, size, CLUSTER_ZERO, NULL), 0);
    assert_int_equal(plan_mark(plan, size / 2, 1, CLUSTER_DATA, NULL), 0);
    assert_true(plan_run_at(plan, 0, &run));
    assert_int_equal(run.length_bytes, size / 2);
    assert_int_equal(plan_count(plan, CLUSTER_ZERO), size / CLUSTER - 1);
    plan_free(plan);
}

static void bad_sizes_are_refused(void **state)
{
    struct rp_error e = RP_ERROR_INIT;
    struct plan *plan = NULL;

    (void)state;
    assert_int_equal(plan_new(1, 0, &plan, &e), -EINVAL);
    assert_int_equal(plan_new(1, 5000, &plan, &e), -EINVAL);
    assert_int_equal(plan_new(UINT64_MAX, 65536, &plan, &e), -EINVAL);
    assert_int_equal(e.result, RESULT_INVALID_PARAMETER);
    assert_null(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_marks_equal_the_model),
        cmocka_unit_test(order_of_marks_is_irrelevant),
        cmocka_unit_test(ends_are_clipped),
        cmocka_unit_test(an_empty_disk_has_no_run),
        cmocka_unit_test(a_huge_disk_is_cheap),
        cmocka_unit_test(bad_sizes_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

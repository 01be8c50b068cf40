// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * backend/pace.h with a clock of the test's own: a copy that reads as fast as the limit allows
 * keeps to it within 3 % over any two seconds, and sleeps in between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../backend/pace.h"

#define MS UINT64_C(1000000)

#define WINDOW_NS (2 * PACE_SECOND_NS)
#define RUN_NS    (20 * PACE_SECOND_NS)
#define EVENTS    65536u

static struct {
    uint64_t at_ns[EVENTS], bytes[EVENTS];
    unsigned count, waits;
} line;

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* As copy.c does it: reads while it may, then waits for whole milliseconds. `late_ns`: how much
 * later than asked for it wakes up, at most; `hang_ns`: how long the server hangs each second. */
static void run(uint64_t bytes_per_second, uint64_t late_ns, uint64_t hang_ns)
{
    struct pace pace = {bytes_per_second, 0};
    size_t piece = pace_piece_bytes(&pace, 1u << 20);
    uint64_t now = 0, hung = 0, seed = bytes_per_second;

    line.count = line.waits = 0;
    while (now < RUN_NS) {
        uint64_t delay = pace_delay_ns(&pace, now);

        if (delay > 0) {
            now += (delay + MS - 1) / MS * MS + (late_ns ? next_random(&seed) % late_ns : 0);
            line.waits++;
            continue;
        }
        if (hang_ns && now / PACE_SECOND_NS > hung) {
            hung = now / PACE_SECOND_NS;
            now += hang_ns;
        }
        assert_true(line.count < EVENTS);
        line.at_ns[line.count] = now;
        line.bytes[line.count++] = piece;
        pace_take(&pace, now, piece);
        now += 1000; /* a read takes time to start, too */
    }
}

/* The most and the least that was read in any window; windows begin just before and just after a
 * read, where the extremes are. */
static void assert_within(double least, double most)
{
    uint64_t sum = 0;
    unsigned end = 0;

    for (unsigned i = 0; i < line.count && line.at_ns[i] + WINDOW_NS < RUN_NS; i++) {
        while (end < line.count && line.at_ns[end] < line.at_ns[i] + WINDOW_NS)
            sum += line.bytes[end++];
        assert_true((double)sum <= most);
        sum -= line.bytes[i];
        assert_true((double)sum >= least);
    }
}

static void any_two_seconds(void **state)
{
    static const uint64_t rates[] = {500000, 1000003, 12500000, UINT64_C(100) << 20,
                                     UINT64_C(3) << 30};

    (void)state;
    for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        double two = 2 * (double)rates[i];

        run(rates[i], 0, 0);
        assert_within(two * 0.97, two * 1.03);
        run(rates[i], 4 * MS, 0); /* a machine that has other work */
        assert_within(two * 0.97, two * 1.03);
    }
}

/* What was missed is caught up with only as far as the burst goes. */
static void a_server_that_hangs(void **state)
{
    const uint64_t rate = 12500000;
    double two = 2 * (double)rate;

    (void)state;
    run(rate, 0, 300 * MS);
    assert_within(two * (1 - 0.6), two * 1.03);
}

/* At most two looks at the clock for each piece: one that says wait, and one that says go. */
static void it_sleeps(void **state)
{
    (void)state;
    run(12500000, 0, 0);
    assert_true(line.waits <= line.count + 1);
    assert_true(line.count <= RUN_NS / PACE_BURST_NS * 21 / 20);
}

static void no_limit(void **state)
{
    struct pace pace = {0, 0};

    (void)state;
    pace_take(&pace, 5, 1000);
    assert_int_equal(pace_delay_ns(&pace, 5), 0);
    assert_int_equal(pace_piece_bytes(&pace, 1u << 20), 1u << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_two_seconds),
        cmocka_unit_test(a_server_that_hangs),
        cmocka_unit_test(it_sleeps),
        cmocka_unit_test(no_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

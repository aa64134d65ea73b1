/* The permutation is one, for awkward sizes; it depends on the seed and the epoch; small ones reach every order. */
#include "data_check.h"

#include "data/permutation.h"

#include <stdlib.h>
#include <string.h>

static void check_permutation(int64_t count, uint64_t seed, uint32_t epoch)
{
    unsigned char *seen = calloc((size_t)count, 1);
    assert_non_null(seen);
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = ls_permute(i, count, seed, epoch);
        assert_in_range(at, 0, count - 1);
        assert_int_equal(seen[at], 0);
        seen[at] = 1;
    }
    free(seen);
}

static void test_is_a_permutation(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 31, 97, 255, 256, 257, 1021, 4096, 4097, 65535, 65537};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (uint32_t epoch = 0; epoch < 3; epoch++) check_permutation(counts[i], 11 + i, epoch);
    check_permutation(1000000, 5, 0);
}

/* 6 orders of 3 elements, 6000 seeds: each is drawn 1000 times on average (standard deviation 29). */
static void test_every_order_is_drawn(void **state)
{
    (void)state;
    int drawn[27] = {0};
    for (uint64_t seed = 0; seed < 6000; seed++)
        drawn[9 * ls_permute(0, 3, seed, 0) + 3 * ls_permute(1, 3, seed, 0) + ls_permute(2, 3, seed, 0)]++;
    int orders = 0;
    for (int i = 0; i < 27; i++) {
        if (drawn[i] == 0) continue;
        orders++;
        assert_in_range(drawn[i], 850, 1150);
    }
    assert_int_equal(orders, 6);
}

/* Where element 0 of 1000 goes over 20000 seeds: 10 bins of 2000 on average (standard deviation 42). And how far
 * neighbours end up from each other: a third of the size on average. */
static void test_spreads_evenly(void **state)
{
    (void)state;
    int bins[10] = {0};
    double distance = 0;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        const int64_t first = ls_permute(0, 1000, seed, 1), second = ls_permute(1, 1000, seed, 1);
        bins[first / 100]++;
        distance += (double)llabs(first - second);
    }
    for (int i = 0; i < 10; i++) assert_in_range(bins[i], 1800, 2200);
    assert_in_range((int)(distance / 20000), 320, 347);
}

static void test_depends_on_seed_and_epoch(void **state)
{
    (void)state;
    int same_seed = 0, same_epoch = 0;
    for (int64_t i = 0; i < 1000; i++) {
        assert_int_equal(ls_permute(i, 1000, 3, 4), ls_permute(i, 1000, 3, 4));
        same_seed += ls_permute(i, 1000, 3, 4) == ls_permute(i, 1000, 4, 4);
        same_epoch += ls_permute(i, 1000, 3, 4) == ls_permute(i, 1000, 3, 5);
    }
    assert_in_range(same_seed, 0, 10); /* 1 is expected */
    assert_in_range(same_epoch, 0, 10);
    const int64_t huge = INT64_C(1) << 40;
    assert_in_range(ls_permute(huge - 1, huge, 1, 0), 0, huge - 1);
    assert_in_range(ls_permute(huge, huge + 1, 1, 0), 0, huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_a_permutation),
        cmocka_unit_test(test_every_order_is_drawn),
        cmocka_unit_test(test_spreads_evenly),
        cmocka_unit_test(test_depends_on_seed_and_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Packing: every piece once, no bin too full, and just the bins that the rule gives when it is followed slowly. */
#include "data_check.h"

#include "core/random.h"
#include "data/packing.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 3000 };

static int32_t lengths[MOST];

static void fill(int64_t count, int64_t capacity, uint32_t trial)
{
    for (int64_t i = 0; i < count; i++) {
        const uint32_t most = (uint32_t)(trial % 3 == 0 ? capacity : 1 + capacity / (trial % 3 * 4)) + 1;
        lengths[i] = (int32_t)ls_random_below(7, LS_STREAM_TEST, trial, (uint32_t)i, 0, most);
        if (lengths[i] > capacity) lengths[i] = (int32_t)capacity;
    }
}

/* bin_of[i] by the rule, looking at every bin; returns their number. */
static int64_t pack_slowly(int64_t *bin_of, int64_t count, int64_t capacity)
{
    static int64_t room[MOST], touched[MOST]; /* touched: when the bin came by its room */
    int64_t bins = 0, clock = 0;
    for (int64_t length = capacity; length >= 1; length--) {
        for (int64_t i = 0; i < count; i++) {
            if (lengths[i] != length) continue;
            int64_t best = -1;
            for (int64_t b = 0; b < bins; b++) {
                if (room[b] < length) continue;
                if (best < 0 || room[b] < room[best] || (room[b] == room[best] && touched[b] > touched[best])) best = b;
            }
            if (best < 0) {
                best = bins++;
                room[best] = capacity;
            }
            room[best] -= length;
            touched[best] = clock++;
            bin_of[i] = best;
        }
    }
    return bins;
}

static void check(int64_t count, int64_t capacity)
{
    static int64_t expected[MOST];
    static int seen[MOST];
    ls_packing packing;
    memset(seen, 0, sizeof seen);
    CHECK_OK(ls_packing_create(&packing, lengths, count, capacity));
    assert_int_equal(packing.bins, pack_slowly(expected, count, capacity));
    assert_int_equal(packing.first[0], 0);
    for (int64_t bin = 0; bin < packing.bins; bin++) {
        int64_t sum = 0, before = capacity;
        assert_true(packing.first[bin] < packing.first[bin + 1]);
        for (int64_t p = packing.first[bin]; p < packing.first[bin + 1]; p++) {
            const int64_t piece = packing.pieces[p];
            assert_int_equal(expected[piece], bin);
            assert_int_equal(seen[piece]++, 0);
            assert_true(lengths[piece] <= before);
            before = lengths[piece];
            sum += before;
        }
        assert_in_range(sum, 1, capacity);
    }
    for (int64_t i = 0; i < count; i++) assert_int_equal(seen[i], lengths[i] > 0);
    ls_packing_destroy(&packing);
}

static void test_follows_the_rule(void **state)
{
    (void)state;
    static const int64_t capacities[] = {1, 2, 7, 63, 64, 65, 300, 4097, 70000};
    uint32_t trial = 0;
    for (size_t c = 0; c < sizeof capacities / sizeof capacities[0]; c++)
        for (int64_t count = 0; count <= 200; count = 2 * count + 1, trial++) {
            fill(count, capacities[c], trial);
            check(count, capacities[c]);
        }
}

static void test_by_hand(void **state)
{
    (void)state;
    const int32_t given[] = {3, 0, 6, 5, 2, 4, 10, 2};
    memcpy(lengths, given, sizeof given);
    ls_packing packing;
    CHECK_OK(ls_packing_create(&packing, lengths, 8, 10));
    /* 10 | 6 4 | 5 3 2 | 2 */
    const int64_t first[] = {0, 1, 3, 6, 7}, pieces[] = {6, 2, 5, 3, 0, 4, 7};
    assert_int_equal(packing.bins, 4);
    assert_memory_equal(packing.first, first, sizeof first);
    assert_memory_equal(packing.pieces, pieces, sizeof pieces);
    ls_packing_destroy(&packing);
}

/* Many pieces, and the largest capacity: quick, and hardly a position lost. */
static void test_large(void **state)
{
    (void)state;
    enum { COUNT = 300000 };
    int32_t *many = malloc(COUNT * sizeof *many);
    int64_t sum = 0;
    assert_non_null(many);
    for (int64_t i = 0; i < COUNT; i++) {
        many[i] = 1 + (int32_t)ls_random_below(3, LS_STREAM_TEST, 0, (uint32_t)i, 0, 700);
        sum += many[i];
    }
    static const int64_t capacities[] = {1024, 1 << 24};
    for (int c = 0; c < 2; c++) {
        ls_packing packing;
        CHECK_OK(ls_packing_create(&packing, many, COUNT, capacities[c]));
        assert_int_equal(packing.first[packing.bins], COUNT);
        assert_true(packing.bins <= sum / capacities[c] + 1 + sum / capacities[c] / 100);
        ls_packing_destroy(&packing);
    }
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follows_the_rule),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

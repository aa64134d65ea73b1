/* The generator against published vectors, and the distributions drawn from it. */
#include "core_check.h"
#include "core/random.h"

#include <math.h>
#include <string.h>

/* Known answers of philox4x32-10 as published with Random123 (its file kat_vectors). */
static void known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t *const counter = cases[i].counter, *const key = cases[i].key;
        const ls_random_words words =
            ls_random((uint64_t)key[1] << 32 | key[0], (ls_stream)counter[3], counter[0], counter[1], counter[2]);
        assert_memory_equal(words.word, cases[i].expected, sizeof words.word);
    }
}

/* Chi-square of `draws` counts over `bins` equally likely bins. */
static double chi_square(const int *counts, int bins, int draws)
{
    const double expected = (double)draws / bins;
    double sum = 0;
    for (int i = 0; i < bins; i++) sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    return sum;
}

enum { DRAWS = 1 << 17, BINS = 64 };

/* Each counter alone, and the seed, must move the draw through all of [0, 1). 63 degrees of freedom: mean 63, standard
 * deviation 11.2; 6 of them is beyond 1e-7. */
static void uniform_along_every_counter(void **state)
{
    (void)state;
    for (int moving = 0; moving < 4; moving++) {
        int counts[BINS] = {0};
        double sum = 0;
        for (uint32_t i = 0; i < DRAWS; i++) {
            const double u = ls_random_uniform(moving == 3 ? i : 7, LS_STREAM_TEST, moving == 0 ? i : 1,
                                               moving == 1 ? i : 2, moving == 2 ? i : 3);
            assert_true(u >= 0 && u < 1);
            counts[(int)(u * BINS)]++;
            sum += u;
        }
        const double chi = chi_square(counts, BINS, DRAWS);
        assert_true(chi < 63 + 6 * 11.2 && chi > 63 - 5 * 11.2);
        assert_true(fabs(sum / DRAWS - 0.5) < 6 * sqrt(1.0 / 12 / DRAWS));
    }
}

static void streams_differ(void **state)
{
    (void)state;
    const ls_random_words one = ls_random(1, LS_STREAM_LAYER_DROPOUT, 5, 6, 7);
    const ls_random_words two = ls_random(1, LS_STREAM_SAMPLING, 5, 6, 7);
    assert_true(memcmp(&one, &two, sizeof one) != 0);
}

static uint64_t first_words(uint32_t i)
{
    const ls_random_words words = ls_random(3, LS_STREAM_TEST, i, 0, 0);
    return (uint64_t)words.word[0] << 32 | words.word[1];
}

/* floor(value * bound / 2^64), where it is known in closed form. */
static void below_is_the_high_product(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10000; i++) {
        const uint64_t value = first_words(i);
        assert_int_equal(ls_random_below(3, LS_STREAM_TEST, i, 0, 0, 1), 0);
        for (int bits = 1; bits < 64; bits++)
            assert_true(ls_random_below(3, LS_STREAM_TEST, i, 0, 0, (uint64_t)1 << bits) == value >> (64 - bits));
        assert_true(ls_random_below(3, LS_STREAM_TEST, i, 0, 0, UINT64_MAX) == (value == 0 ? 0 : value - 1));
        const uint64_t sum = value + (value >> 32);
        const uint64_t carry = sum < value ? (uint64_t)1 << 32 : 0;
        assert_true(ls_random_below(3, LS_STREAM_TEST, i, 0, 0, ((uint64_t)1 << 32) + 1) == (sum >> 32) + carry);
    }
}

static void below_is_uniform(void **state)
{
    (void)state;
    int counts[7] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        const uint64_t drawn = ls_random_below(11, LS_STREAM_TEST, i, 0, 0, 7);
        assert_true(drawn < 7);
        counts[drawn]++;
    }
    assert_true(chi_square(counts, 7, DRAWS) < 6 + 6 * sqrt(12));
}

static void normal_moments(void **state)
{
    (void)state;
    double sum = 0, squares = 0, fourth = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        const double x = ls_random_normal(13, LS_STREAM_TEST, i, 0, 0);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
    }
    assert_true(fabs(sum / DRAWS) < 6 / sqrt(DRAWS));
    assert_true(fabs(squares / DRAWS - 1) < 6 * sqrt(2.0 / DRAWS));
    assert_true(fabs(fourth / DRAWS - 3) < 6 * sqrt(96.0 / DRAWS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),    cmocka_unit_test(uniform_along_every_counter),
        cmocka_unit_test(streams_differ),   cmocka_unit_test(below_is_the_high_product),
        cmocka_unit_test(below_is_uniform), cmocka_unit_test(normal_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Conversions of stored numbers: all 2^16 values of a half there and back, and rounding against plain arithmetic. */
#include "fixture.h"

#include "model/stored_type.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALL = 1 << 16 };

/* The value of a number of 1 sign bit, `exponent` and `fraction` bits, by its definition. */
static double defined(unsigned bits, int exponent, int fraction)
{
    const int bias = (1 << (exponent - 1)) - 1, raised = (int)(bits >> fraction) & ((1 << exponent) - 1);
    const double part = (double)(bits & ((1u << fraction) - 1)), sign = bits >> 15 != 0 ? -1.0 : 1.0;
    if (raised == (1 << exponent) - 1) return part != 0 ? NAN : sign * INFINITY;
    if (raised == 0) return sign * ldexp(part, 1 - bias - fraction);
    return sign * ldexp(part + (double)(1 << fraction), raised - bias - fraction);
}

static void check_type(ls_stored_type type, int exponent, int fraction)
{
    uint16_t *halves = malloc(sizeof *halves * ALL), *back = malloc(sizeof *back * ALL);
    float *floats = malloc(sizeof *floats * ALL);
    for (int i = 0; i < ALL; i++) halves[i] = (uint16_t)i;
    ls_stored_to_float(floats, halves, type, ALL);
    ls_stored_from_float(back, type, floats, ALL);
    for (int i = 0; i < ALL; i++) {
        const double value = defined((unsigned)i, exponent, fraction);
        const uint16_t quiet = (uint16_t)(1 << (fraction - 1));
        if (isnan(value)) {
            assert_true(isnan(floats[i]));
            assert_int_equal(back[i], i | quiet);
        } else {
            assert_true((double)floats[i] == value && !signbit(floats[i]) == !signbit(value));
            assert_int_equal(back[i], i);
        }
    }
    free(halves);
    free(back);
    free(floats);
}

static void test_all_halves(void **state)
{
    (void)state;
    check_type(LS_STORED_F16, 5, 10);
    check_type(LS_STORED_BF16, 8, 7);
}

/* Between neighbours: below, at and above the middle, which goes to the even one. */
static void check_rounding(ls_stored_type type, int exponent, int fraction)
{
    const unsigned infinity = ((1u << exponent) - 1) << fraction;
    for (unsigned low = 0; low < infinity; low++) {
        const double a = defined(low, exponent, fraction);
        const double b = low + 1 == infinity ? ldexp(1.0, 1 << (exponent - 1)) : defined(low + 1, exponent, fraction);
        const float middle = (float)(a + (b - a) / 2); /* exact in fp32, save at bf16's last subnormals */
        const float values[] = {nextafterf(middle, 0.0f), middle, nextafterf(middle, INFINITY), -middle};
        const unsigned even = low % 2 == 0 ? low : low + 1;
        const unsigned expected[] = {low, even, low + 1, even | 0x8000};
        uint16_t found[4];
        if ((double)middle != a + (b - a) / 2) continue;
        ls_stored_from_float(found, type, values, 4);
        for (int i = 0; i < 4; i++) assert_int_equal(found[i], expected[i]);
    }
}

static void test_rounding(void **state)
{
    (void)state;
    check_rounding(LS_STORED_F16, 5, 10);
    check_rounding(LS_STORED_BF16, 8, 7);
    const float large[] = {65519.99f, 65520.0f, 3e38f, -INFINITY, 1e-9f, -1e-9f};
    const uint16_t expected[] = {0x7BFF, 0x7C00, 0x7C00, 0xFC00, 0, 0x8000};
    uint16_t found[6];
    ls_stored_from_float(found, LS_STORED_F16, large, 6);
    assert_memory_equal(found, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_halves), cmocka_unit_test(test_rounding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

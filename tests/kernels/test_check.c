/* The checks' own test: results that are wrong in the ways kernels go wrong must be refused. */
#include "kernel_check.h"

#include <math.h>
#include <string.h>

static const ls_case GATHER = {.op = LS_OP_gather_cast,
                               .dtype = LS_F32,
                               .out_dtype = LS_F32,
                               .B = 5,
                               .n = 3,
                               .T = 2,
                               .C = 7,
                               .options = LS_CASE_DROPPED};

/* A right result and one to spoil. */
typedef struct pair {
    ls_exec exec;
    ls_case_run want, got;
    ls_case_buffer *out;
} pair;

static void make_pair(pair *both, const ls_case *what)
{
    int failures = 0;
    both->exec = open_reference();
    run_guarded(&both->want, what, &both->exec, 0, "test_check", &failures);
    run_guarded(&both->got, what, &both->exec, 0, "test_check", &failures);
    assert_int_equal(failures, 0);
    both->out = ls_case_find(&both->got, "out");
}

static void finish_pair(pair *both)
{
    ls_case_finish(&both->want);
    ls_case_finish(&both->got);
    ls_exec_destroy(&both->exec);
}

static bool accepted(const pair *both)
{
    ls_case_difference difference;
    const bool equal = ls_case_equal(&both->got, &both->want, &difference);
    assert_true(equal == (difference.worst <= 1.0));
    if (!equal) assert_string_equal(difference.buffer, "out");
    return equal;
}

static void equal_results_pass(void **state)
{
    (void)state;
    ls_case_difference difference;
    char why[128];
    pair both;
    make_pair(&both, &GATHER);
    assert_true(accepted(&both));
    assert_true(ls_case_identical(&both.got, &both.want, &difference));
    assert_true(ls_case_intact(&both.got, why, sizeof why));
    finish_pair(&both);
}

static void wrong_values_fail(void **state)
{
    (void)state;
    pair both;
    make_pair(&both, &GATHER);
    const int64_t last = both.out->count - 1;
    const double right = ls_case_get(both.out, last);
    const double wrong[] = {NAN, INFINITY, -INFINITY, -right, right * (1.0 + 1e-5), right + 1.0, 0.0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ls_case_difference difference;
        ls_case_set(both.out, last, wrong[i]);
        assert_false(accepted(&both));
        assert_false(ls_case_identical(&both.got, &both.want, &difference));
        assert_int_equal(difference.element, last);
    }
    ls_case_set(both.out, last, right);
    assert_true(accepted(&both));
    finish_pair(&both);
}

/* NaN is wrong even where the reference says NaN: such cases are tests of their own. Infinity may equal infinity. */
static void not_finite_results(void **state)
{
    (void)state;
    pair both;
    make_pair(&both, &GATHER);
    ls_case_buffer *const want = ls_case_find(&both.want, "out");
    ls_case_set(both.out, 0, NAN);
    ls_case_set(want, 0, NAN);
    assert_false(accepted(&both));
    ls_case_set(both.out, 0, INFINITY);
    ls_case_set(want, 0, INFINITY);
    assert_true(accepted(&both));
    ls_case_set(want, 0, -INFINITY);
    assert_false(accepted(&both));
    ls_case_set(want, 0, 1.0);
    assert_false(accepted(&both));
    finish_pair(&both);
}

static void shifted_results_fail(void **state)
{
    (void)state;
    pair both;
    make_pair(&both, &GATHER);
    float *const out = both.out->data;
    memmove(out + 1, out, sizeof *out * (size_t)(both.out->count - 1));
    assert_false(accepted(&both));
    finish_pair(&both);
}

/* A tolerance with a relative part only must still refuse a wrong zero, and one of zero any difference at all. */
static void tolerance_of_zero_is_exact(void **state)
{
    (void)state;
    const ls_case copy = {.op = LS_OP_convert, .dtype = LS_F32, .out_dtype = LS_F32, .count = 9};
    pair both;
    make_pair(&both, &copy);
    const double right = ls_case_get(both.out, 4);
    ls_case_set(both.out, 4, (double)nextafterf((float)right, 100.0f));
    assert_false(accepted(&both));
    ls_case_set(both.out, 4, right);
    assert_true(accepted(&both));
    finish_pair(&both);
}

static void signed_zeros_are_equal_but_not_identical(void **state)
{
    (void)state;
    ls_case_difference difference;
    pair both;
    make_pair(&both, &GATHER);
    ls_case_set(both.out, 0, -0.0);
    ls_case_set(ls_case_find(&both.want, "out"), 0, 0.0);
    assert_true(accepted(&both));
    assert_false(ls_case_identical(&both.got, &both.want, &difference));
    finish_pair(&both);
}

static void an_output_left_alone_fails(void **state)
{
    (void)state;
    ls_case_run idle;
    pair both;
    make_pair(&both, &GATHER);
    ls_case_difference difference;
    assert_int_equal(ls_case_prepare(&idle, &GATHER, &both.exec, 1, 0), LS_OK);
    assert_false(ls_case_equal(&idle, &both.want, &difference));
    ls_case_finish(&idle);
    finish_pair(&both);
}

static void expect_stomped(ls_case_run *run, unsigned char *byte, const char *told)
{
    char why[128];
    const unsigned char kept = *byte;
    *byte = (unsigned char)(kept ^ 1u);
    assert_false(ls_case_intact(run, why, sizeof why));
    if (strstr(why, told) == NULL) fail_msg("said \"%s\", not \"%s\"", why, told);
    *byte = kept;
    assert_true(ls_case_intact(run, why, sizeof why));
}

static void stray_writes_are_found(void **state)
{
    (void)state;
    pair both;
    make_pair(&both, &GATHER);
    unsigned char *const out = both.out->data, *const input = ls_case_find(&both.got, "x")->data;
    ls_case_buffer *const slot = ls_case_find(&both.got, "slot");
    expect_stomped(&both.got, out - 1, "before out");
    expect_stomped(&both.got, out + both.out->count * 4, "before x");
    expect_stomped(&both.got, input, "into x, element 0");
    expect_stomped(&both.got, (unsigned char *)slot->data + slot->count * 4 - 1, "into slot, element 2");
    expect_stomped(&both.got, (unsigned char *)slot->data + slot->count * 4, "behind slot");
    expect_stomped(&both.got, both.got.block + both.got.bytes - 1, "behind slot");
    finish_pair(&both);
}

/* Whole kernels that are wrong, through the way the tests take. */
static void truncating_gather(ls_exec *exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype,
                              float scale, int64_t n, int64_t T, int64_t C)
{
    (void)exec, (void)dtype;
    for (int64_t i = 0; i < n * T * C; i++) {
        const float value = scale * x[slot[i / (T * C)] * T * C + i % (T * C)];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        ((uint16_t *)out)[i] = (uint16_t)(bits >> 16);
    }
}

static void ungathered_gather(ls_exec *exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype,
                              float scale, int64_t n, int64_t T, int64_t C)
{
    (void)exec, (void)dtype, (void)slot;
    for (int64_t i = 0; i < n * T * C; i++) ((uint16_t *)out)[i] = ls_float_to_bf16(scale * x[i]);
}

static bool kernel_passes(ls_gather_cast_op *kernel)
{
    ls_backend broken = *ls_backend_ref();
    ls_exec exec = open_reference(), reference = open_reference();
    ls_case what = GATHER;
    ls_case_run got, want;
    ls_case_difference difference;
    int failures = 0;
    if (kernel != NULL) broken.gather_cast = kernel;
    exec.ops = &broken;
    what.dtype = what.out_dtype = LS_BF16;
    run_guarded(&want, &what, &reference, LS_RUN_WIDE, "reference", &failures);
    run_guarded(&got, &what, &exec, 0, "broken", &failures);
    assert_int_equal(failures, 0);
    const bool equal = ls_case_equal(&got, &want, &difference);
    ls_case_finish(&got);
    ls_case_finish(&want);
    ls_exec_destroy(&exec);
    ls_exec_destroy(&reference);
    return equal;
}

static void wrong_kernels_fail(void **state)
{
    (void)state;
    assert_true(kernel_passes(NULL));
    assert_false(kernel_passes(truncating_gather)); /* bf16 cut off instead of rounded */
    assert_false(kernel_passes(ungathered_gather)); /* the list of samples ignored */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_results_pass),         cmocka_unit_test(wrong_values_fail),
        cmocka_unit_test(not_finite_results),         cmocka_unit_test(shifted_results_fail),
        cmocka_unit_test(tolerance_of_zero_is_exact), cmocka_unit_test(signed_zeros_are_equal_but_not_identical),
        cmocka_unit_test(an_output_left_alone_fails), cmocka_unit_test(stray_writes_are_found),
        cmocka_unit_test(wrong_kernels_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

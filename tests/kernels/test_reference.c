/* The reference against values worked out by hand. */
#include "kernel_check.h"

#include "kernels/ref/ref.h"

#include <math.h>

#define NEAR(got, want) near_at((double)(got), (want), __LINE__)

static void near_at(double got, double want, int line)
{
    if (!(fabs(got - want) <= 1e-6 * (1.0 + fabs(want)))) fail_msg("line %d: %.9g, not %.9g", line, got, want);
}

/* a = [1 2 3; 4 5 6], b = [7 8; 9 10; 11 12]: a b = [58 64; 139 154]. */
static void matmul_in_all_layouts(void **state)
{
    ls_exec *const exec = *state;
    const float a[] = {1, 2, 3, 4, 5, 6}, at[] = {1, 4, 2, 5, 3, 6};
    const float b[] = {7, 8, 9, 10, 11, 12}, bt[] = {7, 9, 11, 8, 10, 12};
    const double want[] = {58, 64, 139, 154};
    for (unsigned flags = 0; flags < 8; flags++) {
        float out[] = {1, 1, 1, 1};
        ls_matmul_ref(exec, out, LS_F32, flags & LS_TRANSPOSE_A ? at : a, flags & LS_TRANSPOSE_B ? bt : b, LS_F32, 2, 2,
                      3, flags);
        for (int i = 0; i < 4; i++) NEAR(out[i], want[i] + (flags & LS_ACCUMULATE ? 1.0 : 0.0));
    }
    float out[] = {5, 5, 5, 5};
    ls_matmul_rows_ref(exec, out, LS_F32, a, bt, LS_F32, 2, 2, 3);
    for (int i = 0; i < 4; i++) NEAR(out[i], want[i]);
    ls_matmul_ref(exec, out, LS_F32, a, b, LS_F32, 2, 2, 0, LS_ACCUMULATE);
    for (int i = 0; i < 4; i++) NEAR(out[i], want[i]);
    ls_matmul_ref(exec, out, LS_F32, a, b, LS_F32, 2, 2, 0, 0);
    for (int i = 0; i < 4; i++) NEAR(out[i], 0.0);
}

static void embedding_and_its_gradient(void **state)
{
    ls_exec *const exec = *state;
    const float weight[] = {1, 2, 3, 4, 5, 6}, dout[] = {1, 2, 10, 20, 100, 200};
    const int32_t token[] = {2, 0, 2};
    float out[6], dweight[6] = {0, 0, 7, 7, 1, 1};
    ls_embedding_forward_ref(exec, out, token, weight, LS_F32, 3, 3, 2);
    const double rows[] = {5, 6, 1, 2, 5, 6}, sums[] = {10, 20, 7, 7, 102, 203};
    for (int i = 0; i < 6; i++) NEAR(out[i], rows[i]);
    ls_embedding_backward_ref(exec, dweight, dout, token, 3, 3, 2);
    for (int i = 0; i < 6; i++) NEAR(dweight[i], sums[i]);
}

/* x = (3, 4): mean square 12.5, with epsilon 3.5 rstd is 1/4. */
static void rmsnorm_of_the_listed_sample(void **state)
{
    ls_exec *const exec = *state;
    const float residual[] = {9, 9, 3, 4}, weight[] = {2, 8}, dout[] = {1, 0.5f};
    const int32_t slot[] = {1}, sample[] = {2};
    float out[2], rstd[1], dresidual[6] = {0, 0, 0, 0, 1, 1}, dweight[] = {1, 1};
    ls_rmsnorm_forward_ref(exec, out, rstd, residual, slot, weight, LS_F32, 1, 1, 2, 3.5f);
    NEAR(rstd[0], 0.25);
    NEAR(out[0], 1.5);
    NEAR(out[1], 8.0);
    /* h = (2, 4), mean(h x) = 11: h - x / 16 * 11 = (-0.0625, 1.25), a quarter of it is added. */
    ls_rmsnorm_backward_ref(exec, dresidual, dweight, dout, residual, slot, sample, rstd, weight, LS_F32, 1, 1, 2);
    const double want[] = {0, 0, 0, 0, 1.0 - 0.0625 / 4.0, 1.0 + 1.25 / 4.0};
    for (int i = 0; i < 6; i++) NEAR(dresidual[i], want[i]);
    NEAR(dweight[0], 1.0 + 1.0 * 3.0 * 0.25);
    NEAR(dweight[1], 1.0 + 0.5 * 4.0 * 0.25);
}

static void residual_and_gather(void **state)
{
    ls_exec *const exec = *state;
    float residual[] = {1, 2, 3, 4, 0, 0}, out[2];
    const float y[] = {10, 20};
    const int32_t from[] = {1}, to[] = {2};
    ls_residual_add_ref(exec, residual, to, from, y, LS_F32, 0.5f, 1, 1, 2);
    const double want[] = {1, 2, 3, 4, 8, 14};
    for (int i = 0; i < 6; i++) NEAR(residual[i], want[i]);
    ls_residual_add_ref(exec, residual, from, from, y, LS_F32, -1.0f, 1, 1, 2);
    NEAR(residual[2], -7.0);
    NEAR(residual[3], -16.0);
    ls_gather_cast_ref(exec, out, residual, to, LS_F32, 3.0f, 1, 1, 2);
    NEAR(out[0], 24.0);
    NEAR(out[1], 42.0);
}

/* One head of size 4 for each of query, key and value; position 1 turns the first pair by 90 degrees and leaves the
 * second. Sample 1 of a batch of two stands at position 1. */
static void rope_turns_pairs_half_a_head_apart(void **state)
{
    ls_exec *const exec = *state;
    const float cosine[] = {1, 1, 0, 1}, sine[] = {0, 0, 1, 0};
    const int32_t position[] = {0, 1}, sample[] = {1};
    const float start[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const double want[] = {-3, 2, 1, 4, -7, 6, 5, 8, 9, 10, 11, 12};
    float qkv[12];
    memcpy(qkv, start, sizeof qkv);
    ls_rope_ref(exec, qkv, cosine, sine, position, sample, LS_F32, 0, 1, 1, 1, 1, 4);
    for (int i = 0; i < 12; i++) NEAR(qkv[i], want[i]);
    ls_rope_ref(exec, qkv, cosine, sine, position, sample, LS_F32, 1, 1, 1, 1, 1, 4);
    for (int i = 0; i < 12; i++) NEAR(qkv[i], (double)start[i]);
    ls_rope_ref(exec, qkv, cosine, sine, NULL, NULL, LS_F32, 0, 1, 1, 1, 1, 4);
    for (int i = 0; i < 12; i++) NEAR(qkv[i], (double)start[i]); /* row 0 */

    float keys[8] = {0}, values[8] = {0};
    ls_rope_append_ref(exec, qkv, keys, values, cosine, sine, LS_F32, NULL, 1, 1, 1, 1, 4, 2);
    const double key_want[] = {0, 0, 0, 0, -7, 6, 5, 8}, value_want[] = {0, 0, 0, 0, 9, 10, 11, 12};
    for (int i = 0; i < 4; i++) NEAR(qkv[i], want[i]);
    for (int i = 4; i < 12; i++) NEAR(qkv[i], (double)start[i]);
    for (int i = 0; i < 8; i++) NEAR(keys[i], key_want[i]);
    for (int i = 0; i < 8; i++) NEAR(values[i], value_want[i]);
}

/* Two query heads share one key head of size 2. At t = 1 the scores of head 0 are 0 and ln 3, those of head 1 equal:
 * weights 1/4, 3/4 and 1/2, 1/2. */
static void attention_weighs_the_past(void **state)
{
    ls_exec *const exec = *state;
    const float third = logf(3.0f);
    const float qkv[] = {5, 5, 5, 5, 0,     0, 8, 0, /* t = 0: q0 q1 k v */
                         1, 0, 0, 0, third, 0, 0, 4};
    const int32_t alone[] = {0, 1};
    float out[8], lse[4];
    const double want[] = {8, 0, 8, 0, 2, 3, 4, 2};
    ls_attention_forward_ref(exec, out, lse, qkv, NULL, NULL, LS_F32, 1.0f, 1, 2, 2, 1, 2);
    for (int i = 0; i < 8; i++) NEAR(out[i], want[i]);
    NEAR(lse[0], 0.0);
    NEAR(lse[1], log(4.0)); /* head 0, t = 1 */
    NEAR(lse[3], log(2.0));
    ls_attention_forward_ref(exec, out, lse, qkv, alone, NULL, LS_F32, 1.0f, 1, 2, 2, 1, 2);
    NEAR(out[4], 0.0);
    NEAR(out[5], 4.0);
    NEAR(lse[1], log(3.0));

    const float keys[] = {0, 0, third, 0}, values[] = {8, 0, 0, 4};
    ls_attention_cached_ref(exec, out, qkv + 8, keys, values, LS_F32, 1.0f, NULL, 1, 1, 2, 1, 2, 2);
    for (int i = 0; i < 4; i++) NEAR(out[i], want[4 + i]);
}

/* The same sequence; only out[t=1, head 0] has a gradient (1, 0). p = 1/4, 3/4, dp = 8, 0, delta = 2: ds = 1.5, -1.5.
 */
static void attention_gradient(void **state)
{
    ls_exec *const exec = *state;
    const float third = logf(3.0f);
    const float qkv[] = {5, 5, 5, 5, 0, 0, 8, 0, 1, 0, 0, 0, third, 0, 0, 4};
    const float dout[] = {0, 0, 0, 0, 1, 0, 0, 0};
    float out[8], lse[4], dqkv[16];
    ls_attention_forward_ref(exec, out, lse, qkv, NULL, NULL, LS_F32, 1.0f, 1, 2, 2, 1, 2);
    ls_attention_backward_ref(exec, dqkv, dout, qkv, out, lse, NULL, NULL, LS_F32, 1.0f, 1, 2, 2, 1, 2);
    const double want[] = {0, 0, 0, 0, 1.5, 0, 0.25, 0, -1.5 * (double)third, 0, 0, 0, -1.5, 0, 0.75, 0};
    for (int i = 0; i < 16; i++) NEAR(dqkv[i], want[i]);
}

static void swiglu_and_its_gradient(void **state)
{
    ls_exec *const exec = *state;
    const float gate_up[] = {0, logf(3.0f), 5, 2}, dout[] = {1, 10};
    float out[2], dgate_up[4], again[2];
    const double third = log(3.0);
    ls_swiglu_forward_ref(exec, out, gate_up, LS_F32, 1, 2);
    NEAR(out[0], 0.0);
    NEAR(out[1], third * 0.75 * 2.0);
    ls_swiglu_backward_ref(exec, dgate_up, again, dout, gate_up, LS_F32, 1, 2);
    NEAR(dgate_up[0], 1.0 * 5.0 * 0.5);
    NEAR(dgate_up[1], 10.0 * 2.0 * 0.75 * (1.0 + third * 0.25));
    NEAR(dgate_up[2], 0.0);
    NEAR(dgate_up[3], 10.0 * third * 0.75);
    NEAR(again[1], (double)out[1]);
}

static void cross_entropy_and_its_gradient(void **state)
{
    ls_exec *const exec = *state;
    const float start[] = {0, 0, logf(2.0f), 7, 8, 9};
    const int32_t target[] = {1, -1};
    float logits[6], loss[] = {5, 5};
    memcpy(logits, start, sizeof logits);
    ls_cross_entropy_ref(exec, loss, logits, target, LS_F32, 0.0f, 2, 3);
    NEAR(loss[0], log(4.0));
    assert_true(loss[1] == 0.0f);
    assert_memory_equal(logits, start, sizeof logits);
    ls_cross_entropy_ref(exec, loss, logits, target, LS_F32, 8.0f, 2, 3);
    const double want[] = {2, -6, 4, 0, 0, 0};
    for (int i = 0; i < 6; i++) NEAR(logits[i], want[i]);
}

/* g = 2: m = 0.9 + 0.2 = 1.1, v = 0.5 * 4 + 0.5 * 4 = 4; m / bc1 = 2.2, sqrt(v / bc2) + eps = 4 + 1.5. */
static void adamw_step(void **state)
{
    ls_exec *const exec = *state;
    const ls_adamw_step step = {0.5f, 0.9f, 0.5f, 1.5f, 0.25f, 0.5f, 0.5f, 0.25f};
    float weight = 3, m = 1, v = 4, gradient = 4;
    uint16_t rounded;
    ls_adamw_ref(exec, &weight, &m, &v, &gradient, &rounded, LS_BF16, &step, 1);
    const double want = 3.0 - 0.5 * (2.2 / 5.5 + 0.25 * 3.0);
    NEAR(m, 1.1);
    NEAR(v, 4.0);
    NEAR(weight, want);
    assert_true(gradient == 0.0f);
    assert_int_equal(rounded, ls_float_to_bf16((float)want));
}

static void sums_and_conversions(void **state)
{
    ls_exec *const exec = *state;
    const float x[] = {3, -4, 12};
    double sum;
    ls_sum_of_squares_ref(exec, &sum, x, 3);
    assert_true(sum == 169.0);
    ls_sum_of_squares_ref(exec, &sum, x, 0);
    assert_true(sum == 0.0);
    const float terms[] = {1, 0x1p30f, -0x1p30f, 2, 3, 4};
    double sums[2];
    ls_row_sums_ref(exec, sums, terms, 2, 3);
    assert_true(sums[0] == 1.0 && sums[1] == 9.0);
    /* Between 1 and 1 + 2^-7: below, at and above the middle; ties go to the even one. */
    const float fine[] = {1.0f, 1.0f + 0x1p-9f, 1.0f + 0x1p-8f, 1.0f + 0x1p-8f + 0x1p-20f, 1.0f + 3 * 0x1p-8f, -0.0f};
    const uint16_t want[] = {0x3f80, 0x3f80, 0x3f80, 0x3f81, 0x3f82, 0x8000};
    uint16_t narrow[6];
    float wide[6];
    ls_convert_ref(exec, narrow, LS_BF16, fine, LS_F32, 6);
    assert_memory_equal(narrow, want, sizeof narrow);
    ls_convert_ref(exec, wide, LS_F32, narrow, LS_BF16, 6);
    assert_true(wide[3] == 1.0f + 0x1p-7f && wide[0] == 1.0f);
}

static int set_up(void **state)
{
    static ls_exec exec;
    exec = open_reference();
    *state = &exec;
    return 0;
}

static int tear_down(void **state)
{
    ls_exec_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_in_all_layouts),
        cmocka_unit_test(embedding_and_its_gradient),
        cmocka_unit_test(rmsnorm_of_the_listed_sample),
        cmocka_unit_test(residual_and_gather),
        cmocka_unit_test(rope_turns_pairs_half_a_head_apart),
        cmocka_unit_test(attention_weighs_the_past),
        cmocka_unit_test(attention_gradient),
        cmocka_unit_test(swiglu_and_its_gradient),
        cmocka_unit_test(cross_entropy_and_its_gradient),
        cmocka_unit_test(adamw_step),
        cmocka_unit_test(sums_and_conversions),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

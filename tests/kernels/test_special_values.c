/* NaN, infinities, very large and very small values: what a diverging run meets must come through, not vanish, and stay
 * in its row. On the reference and on every variant. */
#include "kernel_check.h"

#include "core/random.h"

#include <math.h>
#include <stdlib.h>

typedef void check_one(ls_exec *exec);

static void on_every_backend(check_one *check)
{
    ls_exec reference = open_reference();
    ways all;
    open_ways(&all, 2);
    check(&reference);
    for (int w = 0; w < all.count; w++) check(&all.exec[w]);
    assert_int_equal(ls_exec_status(&reference), LS_OK);
    for (int w = 0; w < all.count; w++) assert_int_equal(ls_exec_status(&all.exec[w]), LS_OK);
    close_ways(&all);
    ls_exec_destroy(&reference);
}

/* ---- conversion -------------------------------------------------------------------------------------------------- */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

enum { PATTERNS = 1 << 16 };

/* All bf16 values survive the way to fp32 and back; a NaN stays one. */
static void widen_and_narrow(ls_exec *exec)
{
    static uint16_t start[PATTERNS], back[PATTERNS];
    static float wide[PATTERNS];
    for (int i = 0; i < PATTERNS; i++) start[i] = (uint16_t)i;
    exec->ops->convert(exec, wide, LS_F32, start, LS_BF16, PATTERNS);
    exec->ops->convert(exec, back, LS_BF16, wide, LS_F32, PATTERNS);
    for (int i = 0; i < PATTERNS; i++) {
        const float value = float_of((uint32_t)i << 16);
        if (isnan(value)) {
            assert_true(isnan(wide[i]) && isnan(ls_bf16_to_float(back[i])));
            continue;
        }
        assert_int_equal(bits_of(wide[i]), (uint32_t)i << 16);
        /* The processor's own conversion takes subnormal numbers for zero. */
        if (back[i] != i && !(fpclassify(value) == FP_SUBNORMAL && (back[i] & 0x7fff) == 0))
            fail_msg("%04x came back as %04x", i, back[i]);
    }
}

/* fp32 patterns from all over, and those at and beside the ties, the largest finite ones and the infinities. */
static void rounding(ls_exec *exec)
{
    static float x[PATTERNS];
    static uint16_t narrow[PATTERNS];
    for (int i = 0; i < PATTERNS; i++) {
        const uint32_t any = ls_random(1, LS_STREAM_TEST, (uint32_t)i, 0, 0).word[0];
        static const uint32_t low[] = {0x0000, 0x0001, 0x7fff, 0x8000, 0x8001, 0xffff};
        x[i] = float_of(i % 2 ? any : (any & 0xffff0000u) | low[i / 2 % 6]);
    }
    const float edge[] = {0.0f, -0.0f, INFINITY, -INFINITY, 0x1.fffffep127f, -0x1.fep127f, 0x1p-126f, 0x1.fep-126f};
    memcpy(x, edge, sizeof edge);
    exec->ops->convert(exec, narrow, LS_BF16, x, LS_F32, PATTERNS);
    for (int i = 0; i < PATTERNS; i++) {
        const uint16_t want = ls_float_to_bf16(x[i]);
        const bool flushed = fpclassify(x[i]) == FP_SUBNORMAL && (narrow[i] & 0x7fff) == 0;
        if (isnan(x[i]) ? !isnan(ls_bf16_to_float(narrow[i])) : narrow[i] != want && !flushed)
            fail_msg("%a (%08x) became %04x, not %04x", (double)x[i], bits_of(x[i]), narrow[i], want);
    }
}

static void conversion_of_every_kind(void **state)
{
    (void)state;
    on_every_backend(widen_and_narrow);
    on_every_backend(rounding);
}

/* ---- sums and the optimizer -------------------------------------------------------------------------------------- */

enum { COUNT = 5000 };

static double sum_with(ls_exec *exec, int64_t at, float value)
{
    static float x[COUNT];
    double sum = -1.0;
    for (int i = 0; i < COUNT; i++) x[i] = 1.0f;
    x[at] = value;
    exec->ops->sum_of_squares(exec, &sum, x, COUNT);
    return sum;
}

static void sums(ls_exec *exec)
{
    static const int64_t places[] = {0, 17, 4095, 4096, COUNT - 1};
    for (int i = 0; i < 5; i++) {
        assert_true(isnan(sum_with(exec, places[i], NAN)));
        assert_true(sum_with(exec, places[i], INFINITY) == INFINITY);
        assert_true(sum_with(exec, places[i], -INFINITY) == INFINITY);
        assert_true(sum_with(exec, places[i], 0.0f) == COUNT - 1);
    }
}

static void a_bad_gradient_shows_in_the_sum(void **state)
{
    (void)state;
    on_every_backend(sums);
}

static void adamw_nan(ls_exec *exec)
{
    enum { SIZE = 37 };
    const ls_adamw_step step = {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f, 0.1f, 0.05f};
    float weight[SIZE], m[SIZE], v[SIZE], gradient[SIZE];
    for (int i = 0; i < SIZE; i++) {
        weight[i] = gradient[i] = 1.0f;
        m[i] = v[i] = 0.0f;
    }
    gradient[5] = NAN;
    gradient[36] = 0.0f; /* m = v = 0: only decay, no 0 / 0 */
    exec->ops->adamw(exec, weight, m, v, gradient, NULL, LS_F32, &step, SIZE);
    for (int i = 0; i < SIZE; i++) {
        assert_true(isnan(weight[i]) == (i == 5) && isnan(m[i]) == (i == 5) && isnan(v[i]) == (i == 5));
        assert_true(gradient[i] == 0.0f);
    }
    assert_true(fabsf(weight[36] - 0.999f) < 1e-6f);
}

static void adamw_keeps_nan_in_its_place(void **state)
{
    (void)state;
    on_every_backend(adamw_nan);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* NaN in one element of `input`; exactly the rows of `output` that `reaches` names become NaN. */
static void spread(ls_exec *exec, ls_case what, const char *input, int64_t element, const char *output, int64_t width,
                   bool (*reaches)(int64_t row))
{
    for (int type = 0; type < 2; type++) {
        ls_case_run run;
        what.dtype = what.out_dtype = type == 0 ? LS_F32 : LS_BF16;
        assert_int_equal(ls_case_prepare(&run, &what, exec, 3, 0), LS_OK);
        ls_case_set(ls_case_find(&run, input), element, NAN);
        ls_case_call(&run);
        const ls_case_buffer *const out = ls_case_find(&run, output);
        for (int64_t row = 0; row < out->count / width; row++) {
            bool found = false;
            for (int64_t i = 0; i < width; i++) found = found || isnan(ls_case_get(out, row * width + i));
            if (found != reaches(row))
                fail_msg("%s row %d: NaN %s", ls_op_names[what.op], (int)row, found ? "came" : "went");
        }
        ls_case_finish(&run);
    }
}

static bool row_two(int64_t row) { return row == 2; }
static bool from_row_two(int64_t row) { return row >= 2; }

static void nan_in_rows(ls_exec *exec)
{
    spread(exec, (ls_case){.op = LS_OP_matmul, .M = 5, .N = 33, .K = 19}, "a", 2 * 19 + 18, "out", 33, row_two);
    spread(exec, (ls_case){.op = LS_OP_matmul_bias, .M = 5, .N = 33, .K = 19}, "a", 2 * 19 + 18, "out", 33, row_two);
    spread(exec, (ls_case){.op = LS_OP_matmul_rows, .R = 5, .N = 33, .K = 19}, "x", 2 * 19 + 18, "out", 33, row_two);
    spread(exec, (ls_case){.op = LS_OP_bias_add, .R = 5, .N = 33}, "x", 2 * 33 + 32, "x", 33, row_two);
    spread(exec, (ls_case){.op = LS_OP_rmsnorm_forward, .B = 5, .n = 5, .T = 1, .C = 37}, "residual", 2 * 37 + 36,
           "out", 37, row_two);
    spread(exec, (ls_case){.op = LS_OP_swiglu_forward, .R = 5, .F = 35}, "gate_up", 2 * 70 + 34, "out", 35, row_two);
    spread(exec, (ls_case){.op = LS_OP_swiglu_backward, .R = 5, .F = 35, .options = LS_CASE_NO_EXTRA}, "dout",
           2 * 35 + 34, "dgate_up", 70, row_two);
    /* One head of 6: the query of position 2 is seen only there, its key from there on. (A NaN among the values may
     * show before its position: a tile's masked probabilities are 0, and 0 times NaN is NaN.) */
    spread(exec, (ls_case){.op = LS_OP_attention_forward, .B = 1, .n = 1, .T = 70, .H = 1, .G = 1, .D = 6}, "qkv",
           2 * 18, "out", 6, row_two);
    spread(exec, (ls_case){.op = LS_OP_attention_forward, .B = 1, .n = 1, .T = 70, .H = 1, .G = 1, .D = 6}, "qkv",
           2 * 18 + 6, "out", 6, from_row_two);
    spread(exec, (ls_case){.op = LS_OP_attention_cached, .R = 5, .H = 1, .G = 1, .D = 6, .capacity = 9}, "qkv", 2 * 18,
           "out", 6, row_two);
    spread(exec, (ls_case){.op = LS_OP_attention_cached, .R = 5, .H = 1, .G = 1, .D = 6, .capacity = 9}, "key_cache",
           2 * 6, "out", 6, from_row_two);
}

static void nan_reaches_its_rows_and_no_others(void **state)
{
    (void)state;
    on_every_backend(nan_in_rows);
}

/* ---- softmax at its limits --------------------------------------------------------------------------------------- */

static void cross_entropy_limits(ls_exec *exec)
{
    enum { ROWS = 6, V = 35 };
    static float logits[ROWS * V];
    const int32_t target[ROWS] = {0, 34, 3, 3, 7, -1};
    float loss[ROWS];
    for (int i = 0; i < ROWS * V; i++) logits[i] = 0.0f;
    logits[0 * V + 0] = 1e4f; /* sure and right */
    logits[1 * V + 0] = 1e4f; /* sure and wrong */
    for (int v = 0; v < V; v++) {
        logits[2 * V + v] = 88.0f * 1e3f; /* even, far from 0 */
        logits[3 * V + v] = v == 3 || v == 4 ? -1e4f : -INFINITY;
        logits[5 * V + v] = NAN; /* not counted */
    }
    logits[4 * V + 33] = NAN;
    exec->ops->cross_entropy(exec, loss, logits, target, LS_F32, 1.0f, ROWS, V);
    assert_true(loss[0] == 0.0f && fabsf(loss[1] - 1e4f) < 0.1f && fabsf(loss[2] - logf(V)) < 0.02f);
    assert_true(fabsf(loss[3] - logf(2.0f)) < 1e-3f && isnan(loss[4]) && loss[5] == 0.0f);
    assert_true(logits[0] == 0.0f && logits[V] == 1.0f && logits[V + 34] == -1.0f);
    for (int v = 0; v < V; v++) {
        assert_true(fabsf(logits[2 * V + v] - (1.0f / V - (v == 3 ? 1.0f : 0.0f))) < 1e-3f);
        assert_true(fabsf(logits[3 * V + v] - (v == 3 ? -0.5f : v == 4 ? 0.5f : 0.0f)) < 1e-3f);
        assert_true(isnan(logits[4 * V + v]));
        assert_true(logits[5 * V + v] == 0.0f);
    }
}

/* Scores of +-1e4: the largest wins, nothing overflows. */
static void attention_limits(ls_exec *exec)
{
    enum { T = 67 };
    static float qkv[T * 6], out[T * 2];
    float lse[T];
    for (int t = 0; t < T; t++) {
        const float row[] = {100.0f, 0.0f, (float)(t % 2 ? 100 : -100) - (float)t, 0.0f, (float)t, 1.0f};
        memcpy(qkv + t * 6, row, sizeof row);
    }
    exec->ops->attention_forward(exec, out, lse, qkv, NULL, NULL, LS_F32, 1.0f, 1, T, 1, 1, 2);
    for (int t = 0; t < T; t++) {
        assert_true(out[2 * t] == (t == 0 ? 0.0f : 1.0f) && out[2 * t + 1] == 1.0f);
        assert_true(lse[t] == (t == 0 ? -1e4f : 9900.0f));
    }
}

static void swiglu_limits(ls_exec *exec)
{
    float gate_up[] = {1e4f, -1e4f, 0.0f, -90.0f, 2.0f, 2.0f, 2.0f, 2.0f}, out[4], dout[] = {1, 1, 1, 1};
    exec->ops->swiglu_forward(exec, out, gate_up, LS_F32, 1, 4);
    assert_true(out[0] == 2e4f && out[1] == 0.0f && out[2] == 0.0f && fabsf(out[3]) < 1e-35f);
    exec->ops->swiglu_backward(exec, gate_up, dout, dout, gate_up, LS_F32, 1, 4);
    assert_true(gate_up[0] == 2.0f && gate_up[1] == 0.0f && gate_up[2] == 1.0f && fabsf(gate_up[3]) < 1e-35f);
    assert_true(gate_up[4] == 1e4f && gate_up[5] == 0.0f && gate_up[6] == 0.0f && fabsf(gate_up[7]) < 1e-35f);
}

static void rmsnorm_limits(ls_exec *exec)
{
    enum { C = 19 };
    float residual[2 * C], weight[C], out[2 * C], rstd[2];
    const int32_t slot[] = {0, 1};
    for (int c = 0; c < C; c++) {
        residual[c] = 0.0f;
        residual[C + c] = c % 2 ? -1e15f : 1e15f;
        weight[c] = 1.0f;
    }
    exec->ops->rmsnorm_forward(exec, out, rstd, residual, slot, weight, LS_F32, 2, 1, C, 1e-6f);
    assert_true(fabsf(rstd[0] - 1e3f) < 0.01f);
    for (int c = 0; c < C; c++) assert_true(out[c] == 0.0f && fabsf(out[C + c] - (c % 2 ? -1.0f : 1.0f)) < 1e-5f);
}

static void nothing_overflows_at_the_limits(void **state)
{
    (void)state;
    on_every_backend(cross_entropy_limits);
    on_every_backend(attention_limits);
    on_every_backend(swiglu_limits);
    on_every_backend(rmsnorm_limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversion_of_every_kind),        cmocka_unit_test(a_bad_gradient_shows_in_the_sum),
        cmocka_unit_test(adamw_keeps_nan_in_its_place),    cmocka_unit_test(nan_reaches_its_rows_and_no_others),
        cmocka_unit_test(nothing_overflows_at_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Backward ops against central differences of the reference's forward, and linear ops against their adjoints:
 * <A x, y> = <x, A' y>. Sizes, lists and masks come from the table of cases. */
#include "kernel_check.h"

#include "kernels/case_ops.h"

#include <math.h>
#include <stdio.h>

/* A forward op, its backward, and which buffer's gradient is where. The loss is sum(seed * output). */
typedef struct pair {
    ls_op forward, backward;
    const char *output, *seed;
    const char *input[2], *gradient[2];
} pair;

static const pair PAIRS[] = {
    {LS_OP_rmsnorm_forward, LS_OP_rmsnorm_backward, "out", "dout", {"residual", "weight"}, {"dresidual", "dweight"}},
    {LS_OP_attention_forward, LS_OP_attention_backward, "out", "dout", {"qkv", NULL}, {"dqkv", NULL}},
    {LS_OP_swiglu_forward, LS_OP_swiglu_backward, "out", "dout", {"gate_up", NULL}, {"dgate_up", NULL}},
    {LS_OP_cross_entropy, LS_OP_cross_entropy, "loss", NULL, {"logits", NULL}, {"logits", NULL}},
};
enum { PAIR_COUNT = sizeof PAIRS / sizeof PAIRS[0] };

/* ---- central differences ----------------------------------------------------------------------------------------- */

static double loss_of(ls_case_run *forward, const pair *p, const ls_case_buffer *seed)
{
    const ls_case_buffer *const output = ls_case_find(forward, p->output);
    double loss = 0.0;
    ls_case_call(forward);
    for (int64_t i = 0; i < output->count; i++)
        loss += ls_case_get(output, i) * (seed == NULL ? (double)LS_CASE_GRADIENT_SCALE : ls_case_get(seed, i));
    return loss;
}

/* Five points: the error falls with step^4, so a step far above fp32's rounding is still exact enough. */
static double difference_quotient(ls_case_run *forward, const pair *p, const ls_case_buffer *seed,
                                  ls_case_buffer *input, int64_t i)
{
    static const double step = 0x1p-5, offset[] = {-2, -1, 1, 2}, factor[] = {1, -8, 8, -1};
    const double kept = ls_case_get(input, i);
    double sum = 0.0;
    for (int k = 0; k < 4; k++) {
        ls_case_set(input, i, kept + offset[k] * step);
        sum += factor[k] * loss_of(forward, p, seed);
    }
    ls_case_set(input, i, kept);
    return sum / (12.0 * step);
}

/* Where the gradient of input[i] is: the residual is read by slot and its gradient kept by sample; -1 when no sample
 * reads it. */
static int64_t gradient_place(const ls_case_run *backward, const ls_case_buffer *input, int64_t i)
{
    if (strcmp(input->name, "residual") != 0) return i;
    const int64_t slab = backward->what.T * backward->what.C;
    const ls_case_buffer *const slot = ls_case_find(backward, "slot"), *const sample = ls_case_find(backward, "sample");
    for (int64_t j = 0; j < slot->count; j++)
        if ((int64_t)ls_case_get(slot, j) == i / slab) return (int64_t)ls_case_get(sample, j) * slab + i % slab;
    return -1;
}

/* What the op added to (or wrote into) the buffer. */
static double written_gradient(const ls_case_run *backward, const ls_case_buffer *gradient, int64_t i)
{
    ls_case_buffer before = *gradient;
    before.data = backward->before + ((const unsigned char *)gradient->data - backward->block);
    const bool accumulates = gradient->fill == LS_FILL_SPREAD;
    return ls_case_get(gradient, i) - (accumulates ? ls_case_get(&before, i) : 0.0);
}

static void check_input(ls_case_run *forward, const ls_case_run *backward, const pair *p, int k, const char *where,
                        int *failures)
{
    ls_case_buffer *const input = ls_case_find(forward, p->input[k]);
    const ls_case_buffer *const gradient = ls_case_find(backward, p->gradient[k]);
    const ls_case_buffer *const seed = p->seed == NULL ? NULL : ls_case_find(backward, p->seed);
    for (int64_t i = 0; i < input->count; i++) {
        const int64_t at = gradient_place(backward, input, i);
        const double want = difference_quotient(forward, p, seed, input, i);
        const double got = at < 0 ? 0.0 : written_gradient(backward, gradient, at);
        /* fp32 outputs of up to about 60, each rounded by 2^-24 of itself, over a step of 2^-5: some 2^-13 */
        const double allowed = 5e-4 + 1e-3 * fabs(want);
        if (fabs(got - want) <= allowed) continue;
        const ls_case_difference difference = {p->gradient[k], at, got, want, allowed, INFINITY};
        report_difference(failures, where, &backward->what, &difference);
    }
}

static void check_pair(const pair *p, const ls_case *what, ls_exec *reference, ls_exec *exec, const char *where,
                       int *failures)
{
    ls_case_run forward, backward;
    ls_case forward_case = *what;
    forward_case.op = p->forward;
    if (p->forward == p->backward) forward_case.options |= LS_CASE_NO_EXTRA; /* cross_entropy without gradient */
    run_guarded(&backward, what, exec, 0, where, failures);
    run_guarded(&forward, &forward_case, reference, 0, where, failures);
    for (int k = 0; k < 2 && p->input[k] != NULL; k++) check_input(&forward, &backward, p, k, where, failures);
    ls_case_finish(&forward);
    ls_case_finish(&backward);
}

/* Small fp32 cases; in-place ones no longer hold their inputs, and some leave the gradient out. */
static bool suits_differences(const ls_case *what, const pair *p)
{
    if (what->op != p->backward || what->dtype != LS_F32 || what->options & LS_CASE_IN_PLACE) return false;
    if (p->forward == p->backward && what->options & LS_CASE_NO_EXTRA) return false;
    const double elements = ls_case_bytes(what) / 4.0;
    return elements * (ls_case_flop(what) + elements) < 3e8;
}

static void backward_is_the_derivative_of_forward(void **state)
{
    (void)state;
    ls_case_list list = all_cases();
    ls_exec reference = open_reference();
    ways all;
    open_ways(&all, 2);
    int failures = 0;
    for (int k = 0; k < PAIR_COUNT; k++) {
        int checked = 0;
        for (int i = 0; i < list.count; i++) {
            if (!suits_differences(&list.cases[i], &PAIRS[k])) continue;
            checked++;
            check_pair(&PAIRS[k], &list.cases[i], &reference, &reference, "reference", &failures);
            for (int w = 0; w < all.count; w++)
                check_pair(&PAIRS[k], &list.cases[i], &reference, &all.exec[w], all.name[w], &failures);
        }
        print_message("%s: %d cases\n", ls_op_names[PAIRS[k].backward], checked);
        assert_true(checked >= 5);
    }
    close_ways(&all);
    ls_exec_destroy(&reference);
    ls_case_list_free(&list);
    assert_int_equal(failures, 0);
}

/* ---- adjoints of linear ops -------------------------------------------------------------------------------------- */

static double inner(const ls_case_buffer *x, const ls_case_buffer *y)
{
    double sum = 0.0;
    assert_int_equal(x->count, y->count);
    for (int64_t i = 0; i < x->count; i++) sum += ls_case_get(x, i) * ls_case_get(y, i);
    return sum;
}

/* A right sum of N products with fp32 noise. */
static void assert_near(double got, double want, int64_t count)
{
    if (!(fabs(got - want) <= 1e-6 * (1.0 + fabs(want)) * sqrt((double)count + 1.0)))
        fail_msg("%.9g is not %.9g", got, want);
}

static void prepare(ls_case_run *run, ls_case what, ls_exec *exec, uint64_t seed)
{
    what.dtype = what.out_dtype = LS_F32;
    assert_int_equal(ls_case_prepare(run, &what, exec, seed, 0), LS_OK);
}

static void copy(ls_case_run *to, const char *name, const ls_case_buffer *from)
{
    ls_case_buffer *const buffer = ls_case_find(to, name);
    assert_int_equal(buffer->count, from->count);
    for (int64_t i = 0; i < buffer->count; i++) ls_case_set(buffer, i, ls_case_get(from, i));
}

static void zero(ls_case_run *run, const char *name)
{
    ls_case_buffer *const buffer = ls_case_find(run, name);
    for (int64_t i = 0; i < buffer->count; i++) ls_case_set(buffer, i, 0.0);
}

/* <rope x, y> = <x, rope' y>, over all heads: values pass through. */
static void rope_back_is_the_adjoint(ls_exec *exec)
{
    ls_case what = {.op = LS_OP_rope,
                    .B = 5,
                    .n = 3,
                    .T = 9,
                    .H = 4,
                    .G = 2,
                    .D = 10,
                    .options = LS_CASE_DROPPED | LS_CASE_DOCUMENTS};
    ls_case_run x, y, turned, back;
    prepare(&x, what, exec, 1);
    prepare(&turned, what, exec, 1);
    prepare(&y, what, exec, 2);
    what.options |= LS_CASE_INVERSE;
    prepare(&back, what, exec, 1);
    copy(&back, "qkv", ls_case_find(&y, "qkv"));
    ls_case_call(&turned);
    ls_case_call(&back);
    const ls_case_buffer *const start = ls_case_find(&x, "qkv"), *const other = ls_case_find(&y, "qkv");
    assert_near(inner(ls_case_find(&turned, "qkv"), other), inner(start, ls_case_find(&back, "qkv")), start->count);
    assert_true(fabs(inner(ls_case_find(&turned, "qkv"), other) - inner(start, other)) > 1e-2); /* it did turn */
    ls_case_finish(&x), ls_case_finish(&y), ls_case_finish(&turned), ls_case_finish(&back);
}

/* d/dy of residual[out] = residual[in] + scale y is scale * gradient[out]: gather_cast by out's slots. The runner uses
 * one scale for both. */
static void gather_is_the_adjoint_of_residual_add(ls_exec *exec)
{
    const ls_case what = {.B = 5, .n = 3, .T = 2, .C = 19, .options = LS_CASE_DROPPED | LS_CASE_IN_PLACE};
    ls_case_run add, gather, seed;
    ls_case adding = what, gathering = what;
    adding.op = LS_OP_residual_add;
    gathering.op = LS_OP_gather_cast;
    gathering.B = 2 * what.B; /* the residual of `adding` has room for 2 B samples */
    prepare(&add, adding, exec, 3);
    prepare(&gather, gathering, exec, 4);
    prepare(&seed, adding, exec, 5);
    zero(&add, "residual");
    copy(&gather, "slot", ls_case_find(&add, "out_slot"));
    copy(&gather, "x", ls_case_find(&seed, "residual"));
    ls_case_call(&add);
    ls_case_call(&gather);
    assert_near(inner(ls_case_find(&add, "residual"), ls_case_find(&seed, "residual")),
                inner(ls_case_find(&add, "y"), ls_case_find(&gather, "out")), ls_case_find(&add, "y")->count);
    ls_case_finish(&add), ls_case_finish(&gather), ls_case_finish(&seed);
}

static void embedding_backward_is_the_adjoint(ls_exec *exec)
{
    ls_case what = {.op = LS_OP_embedding_forward, .R = 23, .V = 7, .C = 17};
    ls_case_run forward, backward;
    prepare(&forward, what, exec, 6);
    what.op = LS_OP_embedding_backward;
    prepare(&backward, what, exec, 6);
    zero(&backward, "dweight");
    ls_case_call(&forward);
    ls_case_call(&backward);
    assert_near(inner(ls_case_find(&forward, "out"), ls_case_find(&backward, "dout")),
                inner(ls_case_find(&forward, "weight"), ls_case_find(&backward, "dweight")), 23 * 17);
    ls_case_finish(&forward), ls_case_finish(&backward);
}

/* <0 + b, y> = <b, bias_backward(y)>, over more rows than one block of the sum has. */
static void bias_backward_is_the_adjoint(ls_exec *exec)
{
    ls_case what = {.op = LS_OP_bias_add, .R = 71, .N = 37};
    ls_case_run forward, backward;
    prepare(&forward, what, exec, 10);
    what.op = LS_OP_bias_backward;
    prepare(&backward, what, exec, 11);
    zero(&forward, "x");
    zero(&backward, "dbias");
    ls_case_call(&forward);
    ls_case_call(&backward);
    assert_near(inner(ls_case_find(&forward, "x"), ls_case_find(&backward, "dout")),
                inner(ls_case_find(&forward, "bias"), ls_case_find(&backward, "dbias")), 71 * 37);
    ls_case_finish(&forward), ls_case_finish(&backward);
}

/* The three products of a linear layer, in the layouts that training uses: y = x W', dx = dy W, dW += dy' x. */
static void products_of_a_linear_layer(ls_exec *exec)
{
    const int64_t rows = 37, wide = 65, narrow = 19;
    ls_case_run y, dx, dw;
    const ls_case forward = {.op = LS_OP_matmul, .M = rows, .N = wide, .K = narrow, .flags = LS_TRANSPOSE_B};
    const ls_case input = {.op = LS_OP_matmul, .M = rows, .N = narrow, .K = wide};
    const ls_case weight = {
        .op = LS_OP_matmul, .M = wide, .N = narrow, .K = rows, .flags = LS_TRANSPOSE_A | LS_ACCUMULATE};
    prepare(&y, forward, exec, 7);
    prepare(&dx, input, exec, 8);
    prepare(&dw, weight, exec, 9);
    copy(&dx, "b", ls_case_find(&y, "b"));
    copy(&dw, "a", ls_case_find(&dx, "a"));
    copy(&dw, "b", ls_case_find(&y, "a"));
    zero(&dw, "out");
    ls_case_call(&y), ls_case_call(&dx), ls_case_call(&dw);
    const double want = inner(ls_case_find(&y, "out"), ls_case_find(&dx, "a"));
    assert_near(inner(ls_case_find(&y, "a"), ls_case_find(&dx, "out")), want, rows * wide);
    assert_near(inner(ls_case_find(&y, "b"), ls_case_find(&dw, "out")), want, rows * wide);
    ls_case_finish(&y), ls_case_finish(&dx), ls_case_finish(&dw);
}

static void linear_ops(ls_exec *exec)
{
    rope_back_is_the_adjoint(exec);
    gather_is_the_adjoint_of_residual_add(exec);
    embedding_backward_is_the_adjoint(exec);
    bias_backward_is_the_adjoint(exec);
    products_of_a_linear_layer(exec);
}

static void linear_ops_have_their_adjoints(void **state)
{
    (void)state;
    ls_exec reference = open_reference();
    ways all;
    open_ways(&all, 2);
    linear_ops(&reference);
    for (int w = 0; w < all.count; w++) linear_ops(&all.exec[w]);
    close_ways(&all);
    ls_exec_destroy(&reference);
}

/* An op named backward that nobody checks above is an omission. */
static void every_backward_op_is_checked(void **state)
{
    (void)state;
    for (int op = 0; op < (int)LS_OP_COUNT; op++) {
        if (strstr(ls_op_names[op], "_backward") == NULL) continue;
        bool checked = op == (int)LS_OP_embedding_backward || op == (int)LS_OP_bias_backward;
        for (int k = 0; k < PAIR_COUNT; k++) checked = checked || (int)PAIRS[k].backward == op;
        if (!checked) fail_msg("%s has no gradient check", ls_op_names[op]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_backward_op_is_checked),
        cmocka_unit_test(linear_ops_have_their_adjoints),
        cmocka_unit_test(backward_is_the_derivative_of_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

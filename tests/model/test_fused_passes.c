/* A pass whose fused ops are taken apart again gives the same bits, and ops are fused where they may be: within a block
 * always, over the border of two blocks where both have the same survivors. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

/* The exec's own ops, and how often they were called; one trial at a time. */
static struct {
    const ls_backend *own;
    int adds, norms, fused;
} seen;

static void residual_add(ls_exec *exec, float *residual, const int32_t *out_slot, const int32_t *in_slot, const void *y,
                         ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C)
{
    seen.adds++;
    seen.own->residual_add(exec, residual, out_slot, in_slot, y, dtype, scale, n, T, C);
}

static void rmsnorm_forward(ls_exec *exec, void *out, float *rstd, const float *residual, const int32_t *slot,
                            const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon)
{
    seen.norms++;
    seen.own->rmsnorm_forward(exec, out, rstd, residual, slot, weight, dtype, n, T, C, epsilon);
}

static void residual_add_rmsnorm(ls_exec *exec, float *residual, void *out, float *rstd, const int32_t *out_slot,
                                 const int32_t *in_slot, const void *y, const void *weight, ls_dtype dtype, float scale,
                                 int64_t n, int64_t T, int64_t C, float epsilon)
{
    seen.fused++;
    seen.own->residual_add(exec, residual, out_slot, in_slot, y, dtype, scale, n, T, C);
    seen.own->rmsnorm_forward(exec, out, rstd, residual, out_slot, weight, dtype, n, T, C, epsilon);
}

static void check_same(trial *t, bool recompute)
{
    const size_t bytes = sizeof(float) * (size_t)t->model.table.elements, L = (size_t)t->plan.layers;
    float *gradients = malloc(bytes);
    double *loss = malloc(sizeof *loss * L);
    assert_ok(trial_run(t, true, recompute));
    memcpy(gradients, t->gradients, bytes);
    memcpy(loss, t->loss, sizeof *loss * L);

    ls_backend split = *t->exec.ops;
    memset(&seen, 0, sizeof seen);
    seen.own = t->exec.ops;
    split.residual_add = residual_add;
    split.rmsnorm_forward = rmsnorm_forward;
    split.residual_add_rmsnorm = residual_add_rmsnorm;
    t->exec.ops = &split;
    assert_ok(trial_run(t, true, recompute));
    t->exec.ops = seen.own;
    assert_true(same_bits(gradients, t->gradients, bytes));
    assert_true(same_bits(loss, t->loss, sizeof *loss * L));
    free(gradients);
    free(loss);
}

static void a_pass_taken_apart_has_the_same_bits(void **state)
{
    (void)state;
    const ls_model_config config = small_config(5, true);
    for (int i = 0; i < 8; i++) {
        trial t;
        trial_create(&t, i & 1 ? LS_DEVICE_CPU : LS_DEVICE_REFERENCE, i & 2 ? LS_BF16 : LS_F32, &config, 4, 9);
        trial_add_recipe(&t);
        trial_add_documents(&t);
        check_same(&t, (i & 4) != 0);
        assert_true(seen.fused > 0);
        trial_destroy(&t);
    }
}

static void ops_are_fused_where_they_may_be(void **state)
{
    (void)state;
    enum { L = 5, EXITS = 1 }; /* the last layer's exit, whose few rows are one chunk */
    const ls_model_config config = small_config(L, true);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 3, 4);
    check_same(&t, false); /* everybody everywhere */
    assert_int_equal(seen.fused, L + (L - 1));
    assert_int_equal(seen.adds, 1);
    assert_int_equal(seen.norms, 1 + EXITS);

    trial_drop(&t, 1, 0); /* layers 0 | 1 | 2 | 3 4 */
    trial_drop(&t, 2, 1);
    check_same(&t, false);
    assert_int_equal(seen.fused, L + 1);
    assert_int_equal(seen.adds, 4);
    assert_int_equal(seen.norms, 4 + EXITS);

    for (int sample = 0; sample < 3; sample++) /* layers 0 | 1 | - | 3 4 */
        if (sample != 1) trial_drop(&t, 2, sample);
    check_same(&t, false);
    assert_int_equal(seen.fused, L - 1 + 1);
    assert_int_equal(seen.adds, 3);
    assert_int_equal(seen.norms, 3 + EXITS);

    t.plan.exit_weight[L - 1] = 0.0f; /* layer 4 has no part in the loss */
    t.plan.exit_weight[L - 2] = 1.0f;
    check_same(&t, false);
    assert_int_equal(seen.fused, 3);
    assert_int_equal(seen.adds, 3);
    assert_int_equal(seen.norms, 3 + EXITS);

    t.plan.exit_weight[L - 1] = 1.0f; /* layers 0, 1 and 3 are recomputed, each with a norm and a fused op of its own */
    t.plan.exit_weight[L - 2] = 0.0f;
    check_same(&t, true);
    assert_int_equal(seen.fused, L - 1 + 1 + 3);
    assert_int_equal(seen.adds, 3);
    assert_int_equal(seen.norms, 3 + EXITS + 3);
    trial_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_taken_apart_has_the_same_bits),
        cmocka_unit_test(ops_are_fused_where_they_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Gradients of the whole model: against central differences on the reference backend, and the CPU against the
 * reference. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double objective(trial *t)
{
    assert_ok(trial_run(t, false, false));
    return trial_objective(t);
}

/* The objective with weights[i] moved by step * direction[i] over [offset, offset+count). In fp32 a moved weight is
 * rounded; *moved gets gradient . (real displacement), so that this rounding is no error. */
static double displaced(trial *t, const float *direction, const float *gradient, int64_t offset, int64_t count,
                        double step, double *moved)
{
    float *weights = t->model.weights;
    *moved = 0.0;
    for (int64_t i = offset; i < offset + count; i++) {
        weights[i] = (float)((double)t->master[i] + step * (double)direction[i]);
        *moved += (double)gradient[i] * ((double)weights[i] - (double)t->master[i]);
    }
    const double result = objective(t);
    memcpy(weights + offset, t->master + offset, sizeof(float) * (size_t)count);
    return result;
}

/* Error of the derivative along `direction`, as a share of its typical size |g| |d| / sqrt(count).
 * Fourth-order central differences: the curvature's share of the error goes with h^4, so h can be large enough that the
 * rounding of fp32 activations (about 1e-7 in the objective) does not count. */
static double derivative_error(trial *t, const float *direction, const float *gradient, int64_t offset, int64_t count,
                               double h)
{
    double moved[4], value[4], g2 = 0.0, d2 = 0.0;
    const double steps[] = {h, -h, 2.0 * h, -2.0 * h};
    for (int i = 0; i < 4; i++) value[i] = displaced(t, direction, gradient, offset, count, steps[i], &moved[i]);
    for (int64_t i = offset; i < offset + count; i++) {
        g2 += (double)gradient[i] * (double)gradient[i];
        d2 += (double)direction[i] * (double)direction[i];
    }
    const double numeric = 8.0 * (value[0] - value[1]) - (value[2] - value[3]);
    const double analytic = 8.0 * (moved[0] - moved[1]) - (moved[2] - moved[3]);
    const double size = 12.0 * h * sqrt(g2 * d2 / (double)count);
    return fabs(numeric - analytic) / size;
}

static float *random_direction(const trial *t, uint32_t number)
{
    float *direction = calloc((size_t)t->model.table.elements, sizeof *direction);
    for (int i = 0; i < t->model.table.count; i++) {
        const ls_parameter *entry = &t->model.table.entries[i];
        for (int64_t e = entry->offset; e < entry->offset + entry->rows * entry->cols; e++)
            direction[e] = random_normal(500 + number, (uint32_t)e);
    }
    return direction;
}

/* Dropout, three exits, a residual scale and documents at once: along directions of all parameters, then of each
 * parameter by itself, so that a wrong term is named and cannot hide behind larger ones. */
static void check_derivatives(bool tied, bool options)
{
    ls_model_config config = small_config(5, tied);
    if (options) {
        config.attention_bias = true;
        config.rope_scaling = (ls_rope_scaling){LS_ROPE_LLAMA3, 4.0, 1.0, 4.0, 32};
    }
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 3, 7);
    trial_add_documents(&t);
    trial_add_recipe(&t);
    assert_ok(trial_run(&t, true, false));
    float *gradient = malloc(sizeof(float) * (size_t)t.model.table.elements);
    memcpy(gradient, t.gradients, sizeof(float) * (size_t)t.model.table.elements);
    double worst = 0.0;
    for (uint32_t number = 0; number < 3; number++) {
        float *direction = random_direction(&t, number);
        const double error = derivative_error(&t, direction, gradient, 0, t.model.table.elements, 1e-3);
        if (!(error <= 1e-4)) fail_msg("direction %u: error %g", number, error);
        for (int i = 0; i < t.model.table.count; i++) {
            const ls_parameter *entry = &t.model.table.entries[i];
            if (entry->layer == 3) continue; /* everyone is dropped there: checked to be zero elsewhere */
            const double own =
                derivative_error(&t, direction, gradient, entry->offset, entry->rows * entry->cols, 1.5e-3);
            if (!(own <= 1e-3)) fail_msg("%s, direction %u: error %g", entry->name, number, own);
            worst = fmax(worst, own);
        }
        free(direction);
        print_message("whole model: error %.1e; worst single parameter so far: %.1e\n", error, worst);
    }
    free(gradient);
    trial_destroy(&t);
}

static void derivatives_tied(void **state)
{
    (void)state;
    check_derivatives(true, false);
}

static void derivatives_untied(void **state)
{
    (void)state;
    check_derivatives(false, false);
}

static void derivatives_with_bias_and_scaling(void **state)
{
    (void)state;
    check_derivatives(false, true);
}

/* ---- the CPU against the reference ---------------------------------------------------------------------------------
 */

static void compare_devices(ls_dtype dtype, double gradient_tolerance, double loss_tolerance)
{
    ls_model_config config = small_config(4, true);
    config.hidden_size = 40;
    config.intermediate_size = 72;
    config.head_dim = 16;
    config.vocab_size = 101;
    config.initializer_range = 0.15;
    config.attention_bias = true;
    trial reference, cpu;
    trial_create(&reference, LS_DEVICE_REFERENCE, LS_F32, &config, 3, 33);
    trial_create(&cpu, LS_DEVICE_CPU, dtype, &config, 3, 33);
    for (int i = 0; i < 2; i++) {
        trial_add_documents(i == 0 ? &reference : &cpu);
        trial_add_recipe(i == 0 ? &reference : &cpu);
    }
    assert_ok(trial_run(&reference, true, false));
    assert_ok(trial_run(&cpu, true, false));
    double worst = 0.0;
    for (int i = 0; i < reference.model.table.count; i++) {
        const ls_parameter *entry = &reference.model.table.entries[i];
        const double error = relative_distance(cpu.gradients + entry->offset, reference.gradients + entry->offset,
                                               entry->rows * entry->cols);
        if (!(error <= gradient_tolerance)) fail_msg("%s: gradient off by %g", entry->name, error);
        worst = fmax(worst, error);
    }
    for (int l = 0; l < 4; l++)
        if (reference.plan.exit_weight[l] > 0.0f)
            assert_true(fabs(cpu.loss[l] / reference.loss[l] - 1.0) <= loss_tolerance);
    print_message("%s: worst gradient off by %.1e\n", ls_dtype_name(dtype), worst);
    trial_destroy(&reference);
    trial_destroy(&cpu);
}

static void cpu_fp32_equals_reference(void **state)
{
    (void)state;
    compare_devices(LS_F32, 1e-5, 1e-6);
}

/* bf16 keeps 8 bits; a gradient crosses some 30 roundings of relative size 2^-9, which add up like noise. */
static void cpu_bf16_nears_reference(void **state)
{
    (void)state;
    compare_devices(LS_BF16, 5e-2, 1e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_tied),
        cmocka_unit_test(derivatives_untied),
        cmocka_unit_test(derivatives_with_bias_and_scaling),
        cmocka_unit_test(cpu_fp32_equals_reference),
        cmocka_unit_test(cpu_bf16_nears_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

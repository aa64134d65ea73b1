/* AdamW over a whole parameter table against a double-precision one, clipping, and what a NaN must leave alone. */
#include "core/random.h"
#include "optim/optimizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct fixture {
    ls_exec exec;
    ls_model model;
    ls_optimizer optimizer;
} fixture;

static const ls_optimizer_options plain_options = {
    .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .clip_norm = 0.0, .decay_embeddings = false};

static void ok(ls_status status)
{
    if (status != LS_OK) fail_msg("%s", ls_error_text());
}

static float noise(int block, int64_t element)
{
    return (float)ls_random_normal(7, LS_STREAM_TEST, (uint32_t)block, (uint32_t)element, 0);
}

static void set_up(fixture *f, ls_device device, ls_dtype dtype, const ls_optimizer_options *options)
{
    ls_model_config config = {.hidden_size = 24,
                              .intermediate_size = 40,
                              .num_hidden_layers = 2,
                              .num_attention_heads = 3,
                              .num_key_value_heads = 1,
                              .vocab_size = 37,
                              .max_position_embeddings = 16,
                              .rope_theta = 10000,
                              .rms_norm_eps = 1e-5,
                              .initializer_range = 0.02,
                              .attention_bias = true};
    ok(ls_model_config_check(&config));
    ok(ls_exec_create(&f->exec, device, 2));
    ok(ls_model_create(&f->model, &f->exec, &config, dtype));
    ok(ls_optimizer_create(&f->optimizer, &f->model, options));
    ok(ls_optimizer_initialize(&f->optimizer, 3));
}

static void tear_down(fixture *f)
{
    ls_optimizer_destroy(&f->optimizer);
    ls_model_destroy(&f->model);
    ls_exec_destroy(&f->exec);
}

/* Gradients on parameters alone: the padding between them stays zero. */
static void set_gradients(fixture *f, int step, float scale)
{
    const ls_parameter_table *table = &f->model.table;
    for (int i = 0; i < table->count; i++) {
        const ls_parameter *entry = &table->entries[i];
        for (int64_t j = 0; j < entry->rows * entry->cols; j++)
            f->optimizer.gradients[entry->offset + j] = scale * noise(step, entry->offset + j);
    }
}

static double *doubles(const float *values, int64_t count)
{
    double *out = calloc((size_t)count, sizeof *out);
    for (int64_t i = 0; i < count; i++) out[i] = values[i];
    return out;
}

/* The definition, one parameter at a time. */
static void reference_step(const fixture *f, double *w, double *m, double *v, double rate, double scale, int update)
{
    const ls_optimizer_options *o = &f->optimizer.options;
    for (int i = 0; i < f->model.table.count; i++) {
        const ls_parameter *entry = &f->model.table.entries[i];
        const bool spared = entry->is_norm || entry->is_bias || (entry->is_embedding && !o->decay_embeddings);
        for (int64_t j = entry->offset; j < entry->offset + entry->rows * entry->cols; j++) {
            const double g = scale * f->optimizer.gradients[j];
            m[j] = o->beta1 * m[j] + (1 - o->beta1) * g;
            v[j] = o->beta2 * v[j] + (1 - o->beta2) * g * g;
            const double mh = m[j] / (1 - pow(o->beta1, update)), vh = v[j] / (1 - pow(o->beta2, update));
            w[j] -= rate * (mh / (sqrt(vh) + o->epsilon) + (spared ? 0.0 : o->weight_decay) * w[j]);
        }
    }
}

static double worst(const float *values, const double *expected, int64_t count)
{
    double largest = 0.0;
    for (int64_t i = 0; i < count; i++) {
        const double error = fabs(values[i] - expected[i]);
        if (!(error <= largest)) largest = error;
    }
    return largest;
}

static double norm_of(const float *values, int64_t count)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) sum += (double)values[i] * values[i];
    return sqrt(sum);
}

static void compare_steps(ls_device device, ls_dtype dtype, const ls_optimizer_options *options)
{
    fixture f;
    set_up(&f, device, dtype, options);
    const int64_t count = f.model.table.elements;
    double *w = doubles(f.optimizer.master, count), *m = calloc((size_t)count, sizeof *m),
           *v = calloc((size_t)count, sizeof *v);
    for (int update = 1; update <= 5; update++) {
        const double rate = 1e-2 / update;
        double norm;
        set_gradients(&f, update, update == 3 ? 100.0f : 0.01f);
        const double expected_norm = norm_of(f.optimizer.gradients, count);
        const double clip = f.optimizer.options.clip_norm;
        const double scale = clip > 0 && expected_norm > clip ? clip / expected_norm : 1.0;
        reference_step(&f, w, m, v, rate, scale, update);
        ok(ls_optimizer_step(&f.optimizer, rate, &norm));
        assert_true(fabs(norm - expected_norm) <= 1e-6 * expected_norm);
        assert_true(norm_of(f.optimizer.gradients, count) == 0.0);
        assert_int_equal(f.optimizer.updates, update);
    }
    /* fp32 weights near 0.1 and five steps of at most 1e-2: a few units in the last place of each. */
    assert_true(worst(f.optimizer.master, w, count) <= 2e-7 * 5);
    assert_true(worst(f.optimizer.moment1, m, count) <= 1e-5 * 100);
    for (int64_t i = 0; dtype == LS_BF16 && i < count; i++)
        assert_int_equal(((const uint16_t *)f.model.weights)[i], ls_float_to_bf16(f.optimizer.master[i]));
    free(w);
    free(m);
    free(v);
    tear_down(&f);
}

static void test_against_double(void **state)
{
    (void)state;
    ls_optimizer_options clipped = plain_options, embeddings = plain_options;
    clipped.clip_norm = 1.0;
    embeddings.decay_embeddings = true;
    compare_steps(LS_DEVICE_REFERENCE, LS_F32, &plain_options);
    compare_steps(LS_DEVICE_REFERENCE, LS_BF16, &clipped);
    compare_steps(LS_DEVICE_CPU, LS_F32, &clipped);
    compare_steps(LS_DEVICE_CPU, LS_BF16, &embeddings);
}

/* With zero gradients only decay moves a weight: norms stay, matrices shrink, embeddings by choice. */
static void test_decay_choice(void **state)
{
    (void)state;
    for (int decay_embeddings = 0; decay_embeddings < 2; decay_embeddings++) {
        fixture f;
        double norm;
        ls_optimizer_options options = plain_options;
        options.decay_embeddings = decay_embeddings != 0;
        set_up(&f, LS_DEVICE_REFERENCE, LS_F32, &options);
        const int64_t count = f.model.table.elements;
        double *before = doubles(f.optimizer.master, count);
        ok(ls_optimizer_step(&f.optimizer, 0.5, &norm));
        for (int i = 0; i < f.model.table.count; i++) {
            const ls_parameter *entry = &f.model.table.entries[i];
            const bool spared = entry->is_norm || entry->is_bias || (entry->is_embedding && !decay_embeddings);
            for (int64_t j = entry->offset; j < entry->offset + entry->rows * entry->cols; j++)
                assert_true(fabs(f.optimizer.master[j] - before[j] * (spared ? 1.0 : 0.95)) <= 1e-8);
        }
        free(before);
        tear_down(&f);
    }
}

static void check_refusal(float poison)
{
    fixture f;
    double norm;
    set_up(&f, LS_DEVICE_CPU, LS_BF16, &plain_options);
    const int64_t count = f.model.table.elements;
    const size_t bytes = sizeof(float) * (size_t)count;
    set_gradients(&f, 1, 1.0f);
    ok(ls_optimizer_step(&f.optimizer, 1e-2, &norm));
    float *master = malloc(bytes), *moment1 = malloc(bytes), *moment2 = malloc(bytes);
    uint16_t *weights = malloc(bytes / 2);
    memcpy(master, f.optimizer.master, bytes);
    memcpy(moment1, f.optimizer.moment1, bytes);
    memcpy(moment2, f.optimizer.moment2, bytes);
    memcpy(weights, f.model.weights, bytes / 2);

    set_gradients(&f, 2, 1.0f);
    const ls_parameter *victim = &f.model.table.entries[f.model.table.count / 2];
    f.optimizer.gradients[victim->offset + 1] = poison;
    assert_int_equal(ls_optimizer_step(&f.optimizer, 1e-2, &norm), LS_NOT_FINITE);
    assert_non_null(strstr(ls_error_text(), victim->name));
    ls_error_clear();
    assert_memory_equal(master, f.optimizer.master, bytes);
    assert_memory_equal(moment1, f.optimizer.moment1, bytes);
    assert_memory_equal(moment2, f.optimizer.moment2, bytes);
    assert_memory_equal(weights, f.model.weights, bytes / 2);
    assert_int_equal(f.optimizer.updates, 1);
    free(master);
    free(moment1);
    free(moment2);
    free(weights);
    tear_down(&f);
}

static void test_not_finite(void **state)
{
    (void)state;
    check_refusal(NAN);
    check_refusal(INFINITY);
    check_refusal(-INFINITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_decay_choice),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "fixture.h"

#include "core/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void assert_fails(ls_status status, ls_status expected, const char *sentence_part)
{
    assert_int_equal(status, expected);
    if (strstr(ls_error_text(), sentence_part) == NULL)
        fail_msg("the sentence \"%s\" does not say \"%s\"", ls_error_text(), sentence_part);
    ls_error_clear();
}

float random_normal(uint32_t a, uint32_t b) { return (float)ls_random_normal(7, LS_STREAM_TEST, a, b, 0); }

static int32_t random_below(uint32_t a, uint32_t b, int64_t bound)
{
    return (int32_t)ls_random_below(7, LS_STREAM_TEST, a, b, 1, (uint64_t)bound);
}

bool same_bits(const void *a, const void *b, size_t bytes) { return memcmp(a, b, bytes) == 0; }

double relative_distance(const float *a, const float *b, int64_t count)
{
    double difference = 0.0, size = 0.0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    if (!isfinite(difference) || !isfinite(size)) return INFINITY;
    return size > 0.0 ? sqrt(difference / size) : difference > 0.0 ? INFINITY : 0.0;
}

ls_model_config small_config(int64_t layers, bool tied)
{
    ls_model_config config = {
        .hidden_size = 12,
        .intermediate_size = 20,
        .num_hidden_layers = layers,
        .num_attention_heads = 4,
        .num_key_value_heads = 2,
        .head_dim = 4,
        .vocab_size = 29,
        .max_position_embeddings = 64,
        .rope_theta = 100.0,
        .rms_norm_eps = 1e-5,
        .initializer_range = 0.3,
        .tie_word_embeddings = tied,
    };
    assert_ok(ls_model_config_check(&config));
    return config;
}

void trial_publish(trial *t)
{
    t->exec.ops->convert(&t->exec, t->model.weights, t->model.dtype, t->master, LS_F32, t->model.table.elements);
}

static void fill_weights(trial *t)
{
    const ls_parameter_table *table = &t->model.table;
    assert_ok(ls_parameters_initialize(NULL, t->master, table, &t->model.config, 11));
    for (int i = 0; i < table->count; i++)
        if (table->entries[i].is_norm || table->entries[i].is_bias)
            for (int64_t e = 0; e < table->entries[i].rows; e++)
                t->master[table->entries[i].offset + e] += 0.2f * random_normal((uint32_t)(1000 + i), (uint32_t)e);
    trial_publish(t);
}

static void fill_batch(trial *t, int64_t B, int64_t T)
{
    const size_t rows = (size_t)(B * T);
    t->tokens = calloc(rows, sizeof *t->tokens);
    t->targets = calloc(rows, sizeof *t->targets);
    t->first_key = calloc(rows, sizeof *t->first_key);
    t->positions = calloc(rows, sizeof *t->positions);
    t->batch = (ls_batch){B, T, t->tokens, t->targets, NULL, NULL};
    for (int64_t r = 0; r < B * T; r++) {
        t->tokens[r] = random_below(1, (uint32_t)r, t->model.config.vocab_size);
        t->targets[r] = r % 5 == 4 ? -1 : random_below(2, (uint32_t)r, t->model.config.vocab_size);
        t->positions[r] = (int32_t)(r % T);
    }
}

void trial_create(trial *out, ls_device device, ls_dtype dtype, const ls_model_config *config, int64_t B, int64_t T)
{
    memset(out, 0, sizeof *out);
    assert_ok(ls_exec_create(&out->exec, device, 2));
    assert_ok(ls_model_create(&out->model, &out->exec, config, dtype));
    const size_t elements = (size_t)out->model.table.elements;
    out->master = calloc(elements, sizeof *out->master);
    out->gradients = calloc(elements, sizeof *out->gradients);
    out->loss = calloc((size_t)config->num_hidden_layers, sizeof *out->loss);
    fill_weights(out);
    fill_batch(out, B, T);
    assert_ok(ls_step_plan_create(&out->plan, (int)config->num_hidden_layers, (int)B));
}

void trial_destroy(trial *t)
{
    ls_step_plan_destroy(&t->plan);
    ls_model_destroy(&t->model);
    ls_exec_destroy(&t->exec);
    free(t->master);
    free(t->gradients);
    free(t->loss);
    free(t->tokens);
    free(t->targets);
    free(t->first_key);
    free(t->positions);
}

void trial_add_documents(trial *t)
{
    const int64_t T = t->batch.T;
    for (int64_t b = 0; b < t->batch.B; b++) {
        const int64_t boundary = 1 + (2 + 3 * b) % (T - 1);
        for (int64_t i = boundary; i < T; i++) {
            t->first_key[b * T + i] = (int32_t)boundary;
            t->positions[b * T + i] = (int32_t)(i - boundary);
        }
    }
    t->batch.first_key = t->first_key;
    t->batch.positions = t->positions;
}

void trial_drop(trial *t, int layer, int sample)
{
    int32_t *row = t->plan.survivors + layer * t->plan.samples;
    int *count = &t->plan.survivor_count[layer];
    for (int j = 0; j < *count; j++)
        if (row[j] == sample) {
            memmove(row + j, row + j + 1, sizeof *row * (size_t)(*count - j - 1));
            (*count)--;
            return;
        }
    fail_msg("sample %d is not in layer %d", sample, layer);
}

void trial_add_recipe(trial *t)
{
    const int L = t->plan.layers, B = t->plan.samples;
    for (int l = 1; l < L; l++)
        for (int b = 0; b < B; b++)
            if (L > 3 && l == L - 2)
                trial_drop(t, l, b);
            else if ((l + b) % 2 == 1)
                trial_drop(t, l, b);
    t->plan.residual_scale[1] = 1.25f;
    t->plan.exit_weight[0] = 0.2f;
    t->plan.exit_weight[L / 2] = 0.3f;
    t->plan.exit_weight[L - 1] = 0.5f;
}

ls_status trial_run(trial *t, bool with_gradients, bool recompute)
{
    ls_training *training;
    t->target_count = 0;
    for (int64_t r = 0; r < t->batch.B * t->batch.T; r++) t->target_count += t->targets[r] >= 0;
    ls_status status = ls_training_create(&training, &t->model, t->batch.B, t->batch.T, recompute);
    if (status != LS_OK) return status;
    memset(t->gradients, 0, sizeof *t->gradients * (size_t)t->model.table.elements);
    status =
        ls_training_run(training, t->loss, with_gradients ? t->gradients : NULL, &t->batch, &t->plan, t->target_count);
    ls_training_destroy(training);
    return status;
}

double trial_objective(const trial *t)
{
    double sum = 0.0;
    for (int l = 0; l < t->plan.layers; l++)
        if (t->plan.exit_weight[l] > 0.0f) sum += (double)t->plan.exit_weight[l] * t->loss[l];
    return sum / t->target_count;
}

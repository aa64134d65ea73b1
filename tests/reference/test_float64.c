/* Eight optimizer steps of three small models against an independent float64 implementation (make_fixture.py): losses
 * of every exit, gradient norms, some gradients in full, and the weights after the last step. Plans drop samples, empty
 * a layer, rotate exits and rescale branches; documents confine attention. Tolerances are fp32 rounding, measured times
 * about five; the planted mistakes at the end are far outside of them. */
#include "core/json.h"
#include "model/training.h"
#include "optim/optimizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS_MAX = 4, SAMPLES_MAX = 4, CELLS_MAX = 64 };

typedef enum mistake {
    NO_MISTAKE,
    NO_POSITIONS,    /* rotation angles do not begin anew with a document */
    NO_FIRST_KEY,    /* attention looks into the document before */
    EXIT_OFF_BY_ONE, /* exit l weighs as exit l+1 */
    SAMPLE_SURVIVES, /* one dropped sample stays */
    SHORT_COUNT,     /* losses divided by one target too few */
    MISTAKE_COUNT
} mistake;

typedef struct bench {
    cJSON *fixture;
    ls_exec exec;
    ls_model model;
    ls_optimizer optimizer;
    ls_training *training;
    ls_step_plan plan;
    int64_t B, T;
    double worst; /* largest error met, over its tolerance */
    bool quiet;   /* errors are expected */
} bench;

/* Keeps the largest error; NaN counts as infinite. */
static void compare(bench *b, const char *what, double computed, double expected, double tolerance)
{
    const double ratio = fabs(computed - expected) / tolerance;
    if (!(ratio <= 1.0) && !b->quiet) print_message("%s: %.9g, expected %.9g\n", what, computed, expected);
    if (!(ratio <= b->worst)) b->worst = isnan(ratio) ? INFINITY : ratio;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, name);
    assert_non_null(found);
    return found;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *found = member(object, name);
    return cJSON_IsBool(found) ? (double)cJSON_IsTrue(found) : found->valuedouble;
}

static double element(const cJSON *array, int64_t i) { return cJSON_GetArrayItem(array, (int)i)->valuedouble; }

/* Both are absent from models that do without. */
static void read_options_of_model(ls_model_config *config, const cJSON *json)
{
    const cJSON *scaling = cJSON_GetObjectItemCaseSensitive(json, "rope_scaling");
    config->attention_bias = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "attention_bias"));
    if (scaling == NULL) return;
    config->rope_scaling = (ls_rope_scaling){
        .type = LS_ROPE_LLAMA3,
        .factor = number(scaling, "factor"),
        .low_freq_factor = number(scaling, "low_freq_factor"),
        .high_freq_factor = number(scaling, "high_freq_factor"),
        .original_max_position_embeddings = (int64_t)number(scaling, "original_max_position_embeddings"),
    };
}

static ls_model_config read_config(const cJSON *json)
{
    ls_model_config config = {
        .hidden_size = (int64_t)number(json, "hidden_size"),
        .intermediate_size = (int64_t)number(json, "intermediate_size"),
        .num_hidden_layers = (int64_t)number(json, "num_hidden_layers"),
        .num_attention_heads = (int64_t)number(json, "num_attention_heads"),
        .num_key_value_heads = (int64_t)number(json, "num_key_value_heads"),
        .head_dim = (int64_t)number(json, "head_dim"),
        .vocab_size = (int64_t)number(json, "vocab_size"),
        .max_position_embeddings = (int64_t)number(json, "max_position_embeddings"),
        .rope_theta = number(json, "rope_theta"),
        .rms_norm_eps = number(json, "rms_norm_eps"),
        .initializer_range = number(json, "initializer_range"),
        .tie_word_embeddings = number(json, "tie_word_embeddings") != 0.0,
    };
    read_options_of_model(&config, json);
    return config;
}

static ls_optimizer_options read_options(const cJSON *json)
{
    return (ls_optimizer_options){
        .beta1 = number(json, "beta1"),
        .beta2 = number(json, "beta2"),
        .epsilon = number(json, "epsilon"),
        .weight_decay = number(json, "weight_decay"),
        .clip_norm = number(json, "clip_norm"),
        .decay_embeddings = number(json, "decay_embeddings") != 0.0,
    };
}

/* Every parameter of the table must be in the fixture and the other way round. */
static void read_weights(bench *b)
{
    const cJSON *weights = member(b->fixture, "weights");
    const ls_parameter_table *table = &b->model.table;
    assert_int_equal(table->count, cJSON_GetArraySize(weights));
    for (int p = 0; p < table->count; p++) {
        const ls_parameter *entry = &table->entries[p];
        const cJSON *values = member(weights, entry->name);
        assert_int_equal(entry->rows * entry->cols, cJSON_GetArraySize(values));
        float *to = b->optimizer.master + entry->offset;
        const cJSON *value;
        cJSON_ArrayForEach(value, values) *to++ = (float)(value->valuedouble * number(b->fixture, "unit"));
    }
    ls_optimizer_publish(&b->optimizer);
}

static void open_bench(bench *b, const char *name, ls_device device, bool recompute)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s.json", LS_FIXTURE_FOLDER, name);
    assert_int_equal(LS_OK, ls_json_read_file(&b->fixture, path));
    ls_model_config config = read_config(member(b->fixture, "config"));
    assert_int_equal(LS_OK, ls_model_config_check(&config));
    const ls_optimizer_options options = read_options(member(b->fixture, "optimizer"));
    const cJSON *tokens = member(cJSON_GetArrayItem(member(b->fixture, "steps"), 0), "tokens");
    b->B = cJSON_GetArraySize(tokens);
    b->T = cJSON_GetArraySize(cJSON_GetArrayItem(tokens, 0));
    assert_true(b->B <= SAMPLES_MAX && b->B * b->T <= CELLS_MAX && config.num_hidden_layers <= LAYERS_MAX);
    assert_int_equal(LS_OK, ls_exec_create(&b->exec, device, 2));
    assert_int_equal(LS_OK, ls_model_create(&b->model, &b->exec, &config, LS_F32));
    assert_int_equal(LS_OK, ls_optimizer_create(&b->optimizer, &b->model, &options));
    assert_int_equal(LS_OK, ls_training_create(&b->training, &b->model, b->B, b->T, recompute));
    assert_int_equal(LS_OK, ls_step_plan_create(&b->plan, (int)config.num_hidden_layers, (int)b->B));
    b->worst = 0.0;
    read_weights(b);
}

static void close_bench(bench *b)
{
    ls_step_plan_destroy(&b->plan);
    ls_training_destroy(b->training);
    ls_optimizer_destroy(&b->optimizer);
    ls_model_destroy(&b->model);
    ls_exec_destroy(&b->exec);
    cJSON_Delete(b->fixture);
}

/* cells[B*T] from rows first..first+count-1 of [B,T]. */
static void read_cells(int32_t *cells, const cJSON *rows, int64_t first, int64_t count)
{
    for (int64_t r = first; r < first + count; r++) {
        const cJSON *value;
        cJSON_ArrayForEach(value, cJSON_GetArrayItem(rows, (int)r)) *cells++ = (int32_t)value->valueint;
    }
}

/* The plan of samples first..first+count-1 of a step. */
static void read_plan(bench *b, const cJSON *step, int64_t first, int64_t count, mistake planted)
{
    ls_step_plan *plan = &b->plan;
    for (int l = 0; l < plan->layers; l++) {
        const int weight_of = planted == EXIT_OFF_BY_ONE ? (l + plan->layers - 1) % plan->layers : l;
        plan->exit_weight[l] = (float)element(member(step, "exit_weight"), weight_of);
        plan->residual_scale[l] = (float)element(member(step, "residual_scale"), l);
        plan->survivor_count[l] = 0;
        const cJSON *sample;
        cJSON_ArrayForEach(sample, cJSON_GetArrayItem(member(step, "survivors"), l))
        {
            const int64_t at = (int64_t)sample->valueint - first;
            if (at < 0 || at >= count) continue;
            plan->survivors[(int64_t)l * plan->samples + plan->survivor_count[l]++] = (int32_t)at;
        }
        if (planted == SAMPLE_SURVIVES && plan->survivor_count[l] == 0) {
            plan->survivors[(int64_t)l * plan->samples] = 0;
            plan->survivor_count[l] = 1;
        }
    }
}

/* Runs samples first..first+count-1 of a step and adds their losses to exit_loss[L]. */
static void run_part(bench *b, double *exit_loss, const cJSON *step, int64_t first, int64_t count, mistake planted)
{
    int32_t tokens[CELLS_MAX], targets[CELLS_MAX], first_key[CELLS_MAX], positions[CELLS_MAX];
    read_cells(tokens, member(step, "tokens"), first, count);
    read_cells(targets, member(step, "targets"), first, count);
    read_cells(first_key, member(step, "first_key"), first, count);
    read_cells(positions, member(step, "positions"), first, count);
    const ls_batch batch = {.B = count,
                            .T = b->T,
                            .tokens = tokens,
                            .targets = targets,
                            .first_key = planted == NO_FIRST_KEY ? NULL : first_key,
                            .positions = planted == NO_POSITIONS ? NULL : positions};
    b->plan.samples = (int)count;
    read_plan(b, step, first, count, planted);
    double part[LAYERS_MAX] = {0.0};
    const double target_count = number(step, "target_count") - (planted == SHORT_COUNT ? 1.0 : 0.0);
    assert_int_equal(LS_OK, ls_training_run(b->training, part, b->optimizer.gradients, &batch, &b->plan, target_count));
    for (int l = 0; l < b->plan.layers; l++) exit_loss[l] += part[l];
    b->plan.samples = (int)b->B;
}

static void compare_gradients(bench *b)
{
    const ls_parameter_table *table = &b->model.table;
    const cJSON *expected;
    cJSON_ArrayForEach(expected, member(b->fixture, "gradients"))
    {
        for (int p = 0; p < table->count; p++) {
            if (strcmp(table->entries[p].name, expected->string) != 0) continue;
            double largest = 0.0;
            const cJSON *value;
            cJSON_ArrayForEach(value, expected) largest = fmax(largest, fabs(value->valuedouble));
            const float *computed = b->optimizer.gradients + table->entries[p].offset;
            cJSON_ArrayForEach(value, expected)
                compare(b, expected->string, (double)*computed++, value->valuedouble, 1e-5 * largest);
        }
    }
}

static void compare_final_weights(bench *b)
{
    const ls_parameter_table *table = &b->model.table;
    for (int p = 0; p < table->count; p++) {
        const ls_parameter *entry = &table->entries[p];
        const cJSON *expected = member(member(b->fixture, "final"), entry->name);
        double sum = 0.0, squares = 0.0, ramp = 0.0, size = 0.0;
        for (int64_t i = 0; i < entry->rows * entry->cols; i++) {
            const double w = (double)b->optimizer.master[entry->offset + i];
            sum += w;
            squares += w * w;
            ramp += w * (double)(1 + i % 7);
            size += fabs(w);
        }
        compare(b, entry->name, sum, number(expected, "sum"), 1e-5 * size);
        compare(b, entry->name, squares, number(expected, "squares"), 1e-5 * squares);
        compare(b, entry->name, ramp, number(expected, "ramp"), 4e-5 * size);
    }
}

/* All steps, each in micro-batches of `micro` samples; leaves the largest error over its tolerance in b->worst. */
static void run_steps(bench *b, int64_t micro, mistake planted)
{
    const cJSON *steps = member(b->fixture, "steps");
    for (int t = 0; t < cJSON_GetArraySize(steps); t++) {
        const cJSON *step = cJSON_GetArrayItem(steps, t);
        double exit_loss[LAYERS_MAX] = {0.0}, norm = 0.0;
        for (int64_t first = 0; first < b->B; first += micro)
            run_part(b, exit_loss, step, first, micro < b->B - first ? micro : b->B - first, planted);
        for (int l = 0; l < b->plan.layers; l++) {
            const double expected = element(member(step, "exit_loss"), l);
            if (b->plan.exit_weight[l] > 0.0f) compare(b, "exit loss", exit_loss[l], expected, 1e-5 * expected);
        }
        if (t == 1) compare_gradients(b);
        assert_int_equal(LS_OK, ls_optimizer_step(&b->optimizer, number(step, "learning_rate"), &norm));
        compare(b, "gradient norm", norm, number(step, "gradient_norm"), 1e-5 * norm);
    }
    compare_final_weights(b);
}

static double error_of(const char *name, ls_device device, bool recompute, int64_t micro, mistake planted)
{
    bench b;
    open_bench(&b, name, device, recompute);
    b.quiet = planted != NO_MISTAKE;
    run_steps(&b, micro == 0 ? b.B : micro, planted);
    close_bench(&b);
    return b.worst;
}

static void test_steps_match(void **state)
{
    (void)state;
    static const char *const names[] = {"tied", "untied", "options"};
    for (int device = LS_DEVICE_REFERENCE; device <= LS_DEVICE_CPU; device++) {
        for (int f = 0; f < 3; f++) {
            const double error = error_of(names[f], (ls_device)device, false, 0, NO_MISTAKE);
            print_message("%s, %s: largest error %.3f of its tolerance\n", names[f], ls_device_names[device], error);
            assert_true(error <= 1.0);
        }
    }
}

static void test_micro_batches_match(void **state)
{
    (void)state;
    assert_true(error_of("tied", LS_DEVICE_CPU, false, 1, NO_MISTAKE) <= 1.0);
    assert_true(error_of("tied", LS_DEVICE_CPU, false, 3, NO_MISTAKE) <= 1.0);
}

static void test_recomputation_matches(void **state)
{
    (void)state;
    assert_true(error_of("tied", LS_DEVICE_CPU, true, 0, NO_MISTAKE) <= 1.0);
    assert_true(error_of("untied", LS_DEVICE_REFERENCE, true, 0, NO_MISTAKE) <= 1.0);
    assert_true(error_of("options", LS_DEVICE_CPU, true, 0, NO_MISTAKE) <= 1.0);
}

static void test_planted_mistakes_are_seen(void **state)
{
    (void)state;
    for (int planted = NO_MISTAKE + 1; planted < MISTAKE_COUNT; planted++) {
        const double error = error_of("tied", LS_DEVICE_CPU, false, 0, (mistake)planted);
        print_message("mistake %d: %.0f times the tolerance\n", planted, error);
        assert_true(error > 10.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_match),
        cmocka_unit_test(test_micro_batches_match),
        cmocka_unit_test(test_recomputation_matches),
        cmocka_unit_test(test_planted_mistakes_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The parameter table, the initial weights, configuration checks and plans. */
#include "fixture.h"

#include "core/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ls_model_config config_135m(void)
{
    ls_model_config config = {.hidden_size = 576,
                              .intermediate_size = 1536,
                              .num_hidden_layers = 30,
                              .num_attention_heads = 9,
                              .num_key_value_heads = 3,
                              .vocab_size = 49152,
                              .max_position_embeddings = 2048,
                              .rope_theta = 10000.0,
                              .rms_norm_eps = 1e-5,
                              .initializer_range = 0.02,
                              .tie_word_embeddings = true};
    assert_ok(ls_model_config_check(&config));
    return config;
}

static void table_of_135m(void **state)
{
    (void)state;
    const ls_model_config config = config_135m();
    ls_parameter_table table;
    assert_int_equal(config.head_dim, 64);
    assert_ok(ls_parameter_table_create(&table, &config));
    assert_int_equal(table.parameters, 134515008);
    assert_int_equal(table.elements, 134515008); /* these sizes need no padding */
    assert_int_equal(table.count, 1 + 30 * 9 + 1);
    assert_int_equal(table.embedding, 0);
    assert_int_equal(table.head, table.embedding);
    assert_string_equal(table.entries[0].name, "model.embed_tokens.weight");
    assert_true(table.entries[0].is_embedding);
    assert_string_equal(table.entries[1].name, "model.layers.0.input_layernorm.weight");
    assert_true(table.entries[1].is_norm);
    const int64_t layer = 576 + 960 * 576 + 576 * 576 + 576 + 3072 * 576 + 576 * 1536;
    assert_int_equal(table.layers[0].input_norm, 49152 * 576);
    assert_int_equal(table.layers[29].qkv, 49152 * 576 + 29 * layer + 576);
    assert_int_equal(table.layers[29].down, 49152 * 576 + 30 * layer - 576 * 1536);
    const ls_parameter *last = &table.entries[table.count - 2];
    assert_string_equal(last->name, "model.layers.29.mlp.down_proj.weight");
    assert_int_equal(last->layer, 29);
    assert_int_equal(last->rows, 576);
    assert_int_equal(last->cols, 1536);
    assert_string_equal(table.entries[table.count - 1].name, "model.norm.weight");
    ls_parameter_table_destroy(&table);
}

/* Every part starts and ends where so many equal shards of whole groups do, and is the entries of its layer. */
static void table_for_shards(void **state)
{
    (void)state;
    const ls_model_config config = small_config(3, false);
    ls_parameter_table table;
    for (int shards = 1; shards <= 5; shards += 2) {
        assert_ok(ls_parameter_table_create_for(&table, &config, shards));
        assert_int_equal(ls_parameter_part(&table, LS_PART_EMBEDDING), 0);
        assert_int_equal(ls_parameter_part(&table, 3), table.final_norm);
        assert_int_equal(ls_parameter_part(&table, 4), table.elements);
        for (int part = 0; part <= 4; part++) assert_int_equal(ls_parameter_part(&table, part) % (64 * shards), 0);
        for (int i = 0; i < table.count; i++) {
            const ls_parameter *entry = &table.entries[i];
            const int part = entry->layer >= 0 ? entry->layer : entry->is_embedding ? LS_PART_EMBEDDING : 3;
            assert_true(entry->offset >= ls_parameter_part(&table, part));
            assert_true(entry->offset + entry->rows * entry->cols <= ls_parameter_part(&table, part + 1));
        }
        ls_parameter_table_destroy(&table);
    }
}

/* Entries ascend without overlap, groups are aligned, fused matrices touch each other. */
static void table_layout(void **state)
{
    (void)state;
    const ls_model_config config = small_config(3, false);
    ls_parameter_table table;
    assert_ok(ls_parameter_table_create(&table, &config));
    int64_t end = 0, counted = 0;
    for (int i = 0; i < table.count; i++) {
        const ls_parameter *entry = &table.entries[i];
        assert_true(entry->offset >= end);
        assert_true(entry->offset - end < 64);
        end = entry->offset + entry->rows * entry->cols;
        counted += entry->rows * entry->cols;
        assert_int_equal(entry->is_norm, strstr(entry->name, "norm") != NULL);
        assert_int_equal(entry->is_embedding, strstr(entry->name, "embed") != NULL);
    }
    assert_true(table.elements >= end && table.elements % 64 == 0);
    assert_int_equal(counted, table.parameters);
    for (int l = 0; l < 3; l++) {
        const ls_layer_offsets *at = &table.layers[l];
        const int64_t groups[] = {at->input_norm, at->qkv, at->attention_out, at->post_norm, at->gate_up, at->down};
        for (int g = 0; g < 6; g++) assert_int_equal(groups[g] % 64, 0);
        const ls_parameter *entry = &table.entries[1 + 9 * l];
        assert_int_equal(entry[1].offset, at->qkv);
        assert_int_equal(entry[2].offset, at->qkv + 4 * 4 * 12); /* k after q */
        assert_int_equal(entry[3].offset, at->qkv + 6 * 4 * 12); /* v after k */
        assert_int_equal(entry[7].offset, at->gate_up + 20 * 12);
    }
    assert_int_equal(table.head % 64, 0);
    assert_int_not_equal(table.head, table.embedding);
    assert_string_equal(table.entries[table.count - 1].name, "lm_head.weight");
    ls_parameter_table_destroy(&table);
}

static void table_with_biases(void **state)
{
    (void)state;
    ls_model_config config = small_config(2, false);
    config.attention_bias = true;
    ls_parameter_table table, plain;
    assert_ok(ls_parameter_table_create(&table, &config));
    const ls_layer_offsets *at = &table.layers[1];
    const ls_parameter *entry = &table.entries[1 + 13 + 4];
    static const char *const names[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    const int64_t rows[] = {16, 8, 8, 12};
    const int64_t offsets[] = {at->qkv_bias, at->qkv_bias + 16, at->qkv_bias + 24, at->attention_out_bias};
    for (int i = 0; i < 4; i++) {
        char name[72];
        (void)snprintf(name, sizeof name, "model.layers.1.self_attn.%s.bias", names[i]);
        assert_string_equal(entry[i].name, name);
        assert_int_equal(entry[i].layer, 1);
        assert_int_equal(entry[i].rows, rows[i]);
        assert_int_equal(entry[i].cols, 1);
        assert_int_equal(entry[i].offset, offsets[i]);
        assert_true(entry[i].is_bias && !entry[i].is_norm && !entry[i].is_embedding);
    }
    assert_true(at->qkv_bias % 64 == 0 && at->attention_out_bias % 64 == 0);
    float *block = malloc(sizeof *block * (size_t)table.elements);
    for (int64_t e = 0; e < table.elements; e++) block[e] = 9.0f;
    assert_ok(ls_parameters_initialize(NULL, block, &table, &config, 5));
    for (int64_t e = 0; e < 32; e++) assert_true(block[at->qkv_bias + e] == 0.0f);
    free(block);

    ls_model_config other = config;
    other.attention_bias = false;
    assert_false(ls_model_config_equal_shape(&config, &other));
    assert_ok(ls_parameter_table_create(&plain, &other));
    assert_true(plain.layers[1].qkv_bias == -1 && plain.layers[1].attention_out_bias == -1);
    assert_int_equal(table.parameters - plain.parameters, 2 * (16 + 8 + 8 + 12));
    ls_parameter_table_destroy(&plain);
    ls_parameter_table_destroy(&table);
}

/* Mean square of the entry whose name ends in `suffix`. */
static double mean_square(const float *block, const ls_parameter_table *table, const char *suffix)
{
    for (int i = 0; i < table->count; i++) {
        const ls_parameter *entry = &table->entries[i];
        if (strstr(entry->name, suffix) == NULL) continue;
        double sum = 0.0;
        for (int64_t e = 0; e < entry->rows * entry->cols; e++)
            sum += (double)block[entry->offset + e] * (double)block[entry->offset + e];
        return sum / (double)(entry->rows * entry->cols);
    }
    fail_msg("no parameter %s", suffix);
    return NAN;
}

static void initial_weights(void **state)
{
    (void)state;
    ls_model_config config = small_config(2, true);
    config.hidden_size = 64;
    config.intermediate_size = 128;
    ls_parameter_table table;
    assert_ok(ls_parameter_table_create(&table, &config));
    const size_t bytes = sizeof(float) * (size_t)table.elements;
    float *first = calloc(1, bytes), *again = calloc(1, bytes), *other = calloc(1, bytes);
    assert_ok(ls_parameters_initialize(NULL, first, &table, &config, 5));
    assert_ok(ls_parameters_initialize(NULL, again, &table, &config, 5));
    assert_ok(ls_parameters_initialize(NULL, other, &table, &config, 6));
    assert_true(same_bits(first, again, bytes));
    assert_false(same_bits(first, other, bytes));
    /* Element e of parameter i is a function of (seed, i, e) alone. */
    const float expected = (float)(0.3 * ls_random_normal(5, LS_STREAM_INITIAL_WEIGHTS, 2, 17, 0));
    assert_true(first[table.entries[2].offset + 17] == expected);
    for (int64_t c = 0; c < 64; c++) assert_true(first[table.layers[1].post_norm + c] == 1.0f);
    /* 8,192 and 1,024 draws: the mean square is off by more than a fifth with odds below 1e-5. */
    assert_true(fabs(mean_square(first, &table, "0.mlp.gate_proj") / 0.09 - 1.0) < 0.2);
    assert_true(fabs(mean_square(first, &table, "1.mlp.down_proj") / (0.09 / 4.0) - 1.0) < 0.2);
    assert_true(fabs(mean_square(first, &table, "0.self_attn.o_proj") / (0.09 / 4.0) - 1.0) < 0.2);
    free(first);
    free(again);
    free(other);
    ls_parameter_table_destroy(&table);
}

static void config_refusals(void **state)
{
    (void)state;
    const ls_model_config good = config_135m();
    ls_model_config bad = good;
    bad.num_key_value_heads = 4;
    assert_fails(ls_model_config_check(&bad), LS_BAD_INPUT, "num_key_value_heads 4");
    bad = good;
    bad.head_dim = 0;
    bad.hidden_size = 577;
    assert_fails(ls_model_config_check(&bad), LS_BAD_INPUT, "hidden_size is 577");
    bad = good;
    bad.head_dim = 63;
    assert_fails(ls_model_config_check(&bad), LS_BAD_INPUT, "head_dim is 63");
    bad = good;
    bad.vocab_size = 0;
    assert_fails(ls_model_config_check(&bad), LS_BAD_INPUT, "vocab_size is 0");
    bad = good;
    bad.rms_norm_eps = NAN;
    assert_fails(ls_model_config_check(&bad), LS_BAD_INPUT, "rms_norm_eps");
    bad = good;
    bad.rope_theta = INFINITY;
    assert_fails(ls_model_config_check(&bad), LS_BAD_INPUT, "rope_theta");
    bad = good;
    bad.tie_word_embeddings = false;
    assert_false(ls_model_config_equal_shape(&good, &bad));
    bad = good;
    bad.max_position_embeddings = 4096; /* not part of any weight's shape */
    assert_true(ls_model_config_equal_shape(&good, &bad));
}

static void flops(void **state)
{
    (void)state;
    const ls_model_config config = config_135m();
    /* Tied: every parameter but the norms is in a product once. */
    const double matmul = 134515008.0 - 61.0 * 576.0;
    assert_true(ls_model_training_flops_per_token(&config, 512) == 6.0 * matmul + 6.0 * 512.0 * 576.0 * 30.0);
}

static void plain_plan(void **state)
{
    (void)state;
    ls_step_plan plan;
    assert_ok(ls_step_plan_create(&plan, 3, 2));
    for (int l = 0; l < 3; l++) {
        assert_int_equal(plan.survivor_count[l], 2);
        assert_int_equal(plan.survivors[l * 2], 0);
        assert_int_equal(plan.survivors[l * 2 + 1], 1);
        assert_true(plan.residual_scale[l] == 1.0f);
        assert_true(plan.exit_weight[l] == (l == 2 ? 1.0f : 0.0f));
    }
    ls_step_plan_destroy(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_of_135m),
        cmocka_unit_test(table_layout),
        cmocka_unit_test(table_for_shards),
        cmocka_unit_test(table_with_biases),
        cmocka_unit_test(initial_weights),
        cmocka_unit_test(config_refusals),
        cmocka_unit_test(flops),
        cmocka_unit_test(plain_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A run's config: defaults, derived values, refusals, the comparison with a checkpoint's, and the files in configs/. */
#include "run_fixture.h"

#include "core/file.h"
#include "core/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static run_fixture fixture;

static int set_up(void **state)
{
    (void)state;
    run_fixture_create(&fixture, 400, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    run_fixture_destroy(&fixture);
    return 0;
}

static void read_with(ls_train_config *out, const char *override)
{
    run_fixture_config(out, &fixture, "run", (const char *const[]){override, NULL});
}

static void test_derived_values(void **state)
{
    (void)state;
    ls_train_config config;
    run_fixture_config(&config, &fixture, "run",
                       (const char *const[]){"training.global_batch_size=0", "model.max_position_embeddings=0", NULL});
    assert_int_equal(config.training.global_batch_size, 3);
    assert_int_equal(config.model.max_position_embeddings, 24);
    assert_int_equal(config.model.head_dim, 8);
    assert_int_equal(config.model.vocab_size, 0);
    ls_train_config_free(&config);
}

/* S(t) of the paper: exponential from scratch, constant with weights to start from. */
static void test_time_shape_default(void **state)
{
    (void)state;
    ls_train_config config;
    read_with(&config, "layer_dropout.time=auto");
    ls_recipe recipe = ls_train_config_recipe(&config);
    assert_int_equal(recipe.time_shape, LS_SHAPE_EXP);
    ls_train_config_free(&config);
    run_fixture_config(&config, &fixture, "run",
                       (const char *const[]){"layer_dropout.time=auto", "init_from=x.h5", NULL});
    recipe = ls_train_config_recipe(&config);
    assert_int_equal(recipe.time_shape, LS_SHAPE_UNIFORM);
    ls_train_config_free(&config);
    for (int shape = LS_SHAPE_EXP; shape < LS_SHAPE_LIST; shape++) {
        char *override = ls_text_format("layer_dropout.time=%s", ls_shape_names[shape]);
        read_with(&config, override);
        recipe = ls_train_config_recipe(&config);
        assert_int_equal(recipe.time_shape, shape);
        ls_train_config_free(&config);
        free(override);
    }
}

static void refuse(const char *override, const char *text)
{
    ls_train_config config;
    char *path = run_fixture_path(&fixture, "config.yaml");
    expect_failure(ls_train_config_read(&config, path, &override, 1), LS_BAD_INPUT, text);
    free(path);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("layer_dropout.rate=1.5", "layer_dropout.rate");
    refuse("layer_dropout.rat=0.5", "layer_dropout.rat");
    refuse("training.steps=many", "training.steps");
    refuse("training.global_batch_size=7", "training.global_batch_size");
    refuse("model.num_attention_heads=3", "num_attention_heads");
    refuse("model.max_position_embeddings=8", "max_position_embeddings");
    refuse("early_exit.layers=[4]", "early_exit.layers");
    refuse("schedule.warmup_steps=25", "schedule.warmup_steps");
    refuse("schedule.decay_steps=21", "schedule.decay_steps");
    refuse("schedule.decay_steps=2", "only schedule.kind: warmup_stable_decay");
    refuse("model.num_attention_heads=6", "config.yaml:2: model.hidden_size is 32");
    refuse("model.num_key_value_heads=3", "config.yaml:5: model.num_attention_heads is 4");
    refuse("model.hidden_size=12", "command line: model.head_dim is 3");
    refuse("device=abacus", "device");
    refuse("run_dir=~/runs/mine", "begins with ~");
}

/* Overrides of everything that changes a number of the run; each must be refused at resume under its own name. */
static void test_match_names_the_key(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "model.hidden_size=64",
        "model.num_hidden_layers=5",
        "model.rope_theta=5000",
        "model.attention_bias=true",
        "model.rope_scaling.type=llama3",
        "model.rope_scaling.factor=2",
        "data.sequence_length=20",
        "data.document_mask=false",
        "data.shuffle=false",
        "layer_dropout.rate=0.3",
        "layer_dropout.depth=linear",
        "layer_dropout.time=exp",
        "layer_dropout.falling=true",
        "layer_dropout.rescale=true",
        "early_exit.enabled=false",
        "early_exit.scale=0.4",
        "early_exit.weights=uniform",
        "early_exit.layers=[1, 2]",
        "early_exit.curriculum=none",
        "early_exit.rotation=2",
        "training.steps=25",
        "training.micro_batch_size=2",
        "training.global_batch_size=3",
        "optimizer.learning_rate=0.02",
        "optimizer.clip_norm=0",
        "schedule.kind=linear",
        "seed=2",
        "precision=bf16",
    };
    ls_train_config saved, config;
    read_with(&saved, "threads=2");
    char *text = ls_config_write_text(&saved, ls_train_fields, ls_train_field_count);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        read_with(&config, changes[i]);
        char *key = ls_text_copy(changes[i], strcspn(changes[i], "="));
        expect_failure(ls_train_config_match(&config, text, "old.h5"), LS_BAD_INPUT, key);
        free(key);
        ls_train_config_free(&config);
    }
    static const char *const free_choices[] = {"threads=1",         "checkpoint.every=7",   "evaluation.every=3",
                                               "log_every=5",       "device=reference",     "training.recompute=true",
                                               "checkpoint.keep=9", "evaluation.batches=1", "seed=1"};
    for (size_t i = 0; i < sizeof free_choices / sizeof free_choices[0]; i++) {
        read_with(&config, free_choices[i]);
        expect_ok(ls_train_config_match(&config, text, "old.h5"));
        ls_train_config_free(&config);
    }
    free(text);
    ls_train_config_free(&saved);
}

/* The resolved file reads back as the same run. */
static void test_round_trip(void **state)
{
    (void)state;
    ls_train_config config, again;
    run_fixture_config(&config, &fixture, "run",
                       (const char *const[]){"early_exit.layers=0::2", "early_exit.weights=inverse_sqrt",
                                             "optimizer.learning_rate=0.0123456789", "schedule.kind=linear", NULL});
    char *text = ls_config_write_text(&config, ls_train_fields, ls_train_field_count);
    char *path = run_fixture_path(&fixture, "resolved.yaml");
    expect_ok(ls_file_write_atomic(path, text, strlen(text)));
    expect_ok(ls_train_config_read(&again, path, NULL, 0));
    expect_ok(ls_train_config_match(&again, text, "resolved.yaml"));
    assert_string_equal(again.run_dir, config.run_dir);
    assert_true(again.early_exit.layers.slice);
    ls_train_config_free(&again);
    ls_train_config_free(&config);
    free(path);
    free(text);
}

/* recipe.md's table, run by run. */
static void test_published_configs(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int layers;
        double rate;
        ls_shape time;
        double scale;
        int64_t rotation;
        double learning_rate;
    } rows[] = {
        {"scratch-1.5b", 24, 0.1, LS_SHAPE_EXP, 0.2, 23, 8e-4},
        {"scratch-llama2-7b", 32, 0.2, LS_SHAPE_EXP, 0.2, 31, 8e-4},
        {"continual-llama2-7b", 32, 0.1, LS_SHAPE_UNIFORM, 0.2, 8, 3e-5},
        {"continual-llama2-13b", 40, 0.1, LS_SHAPE_UNIFORM, 0.1, 39, 2e-5},
        {"continual-llama3-8b", 32, 0.1, LS_SHAPE_UNIFORM, 0.1, 8, 3e-5},
        {"finetune-llama1-7b-code", 32, 0.1, LS_SHAPE_UNIFORM, 1.0, 16, 1e-4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ls_train_config config;
        char *path = ls_text_format(LS_CONFIGS "/%s.yaml", rows[i].name);
        expect_ok(ls_train_config_read(&config, path, NULL, 0));
        const ls_recipe recipe = ls_train_config_recipe(&config);
        assert_int_equal(recipe.layers, rows[i].layers);
        assert_true(recipe.rate == rows[i].rate && recipe.scale == rows[i].scale);
        assert_int_equal(recipe.time_shape, rows[i].time);
        assert_int_equal(recipe.depth_shape, LS_SHAPE_EXP);
        assert_int_equal(recipe.weighting, LS_EXIT_PAPER);
        assert_int_equal(recipe.curriculum, LS_CURRICULUM_ROTATIONAL);
        assert_int_equal(recipe.rotation, rows[i].rotation);
        assert_true(recipe.exit_layers.all && !recipe.rescale);
        assert_true(config.optimizer.learning_rate == rows[i].learning_rate);
        ls_train_config_free(&config);
        free(path);
    }
    static const char *const others[] = {"tiny", "python-small", "continual-smollm2-135m"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ls_train_config config;
        char *path = ls_text_format(LS_CONFIGS "/%s.yaml", others[i]);
        expect_ok(ls_train_config_read(&config, path, NULL, 0));
        ls_train_config_free(&config);
        free(path);
    }
}

/* The paper's values for TOPv2, at the exits of every sixth layer. */
static void test_fine_tuning_config(void **state)
{
    (void)state;
    ls_train_config config;
    expect_ok(ls_train_config_read(&config, LS_CONFIGS "/finetune.yaml", NULL, 0));
    const ls_recipe recipe = ls_train_config_recipe(&config);
    assert_true(recipe.rate == 0.2 && recipe.scale == 1.0 && config.optimizer.learning_rate == 1e-4);
    assert_int_equal(recipe.time_shape, LS_SHAPE_UNIFORM);
    assert_int_equal(recipe.weighting, LS_EXIT_PAPER);
    assert_int_equal(recipe.curriculum, LS_CURRICULUM_GRADUAL);
    assert_true(recipe.exit_layers.slice && recipe.exit_layers.start == 5 && recipe.exit_layers.step == 6);
    ls_train_config_free(&config);
}

/* No key without an explanation. */
static void test_reference(void **state)
{
    (void)state;
    for (int i = 0; i < ls_train_field_count; i++) assert_true(strlen(ls_train_fields[i].help) >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_derived_values),     cmocka_unit_test(test_time_shape_default),
        cmocka_unit_test(test_refusals),           cmocka_unit_test(test_match_names_the_key),
        cmocka_unit_test(test_round_trip),         cmocka_unit_test(test_published_configs),
        cmocka_unit_test(test_fine_tuning_config), cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

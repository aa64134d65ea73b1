/* Models in HDF5: what is written comes back, and what cannot be read is refused in one sentence. */
#include "fixture.h"

#include "model/model_file.h"
#include "tests/core/core_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char checkpoint[] = "model.h5"; /* in the scratch folder */

static void write_checkpoint(const trial *t, const char *path)
{
    hid_t file;
    assert_ok(ls_hdf5_create(&file, path, "checkpoint"));
    assert_ok(ls_model_config_write(file, &t->model.config));
    assert_ok(ls_parameters_write(file, "parameters", &t->model.table, NULL, t->master));
    assert_ok(ls_hdf5_write_text(file, "tokenizer", "bytes"));
    assert_ok(ls_hdf5_close(file, path));
}

static int set_up(void **state)
{
    static trial t;
    if (check_enter_scratch(state) != 0) return -1;
    ls_model_config config = small_config(3, false);
    config.attention_bias = true;
    config.rope_scaling = (ls_rope_scaling){LS_ROPE_LLAMA3, 32.0, 1.5, 4.25, 96};
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 1, 4);
    write_checkpoint(&t, checkpoint);
    *state = &t;
    return 0;
}

static int tear_down(void **state)
{
    trial_destroy(*state);
    return check_leave_scratch(state);
}

static void round_trip(void **state)
{
    trial *t = *state;
    for (int dtype = LS_F32; dtype <= LS_BF16; dtype++) {
        ls_model model;
        char *tokenizer;
        assert_ok(ls_model_load(&model, &tokenizer, &t->exec, checkpoint, (ls_dtype)dtype));
        assert_string_equal(tokenizer, "bytes");
        assert_true(ls_model_config_equal_shape(&model.config, &t->model.config));
        assert_true(model.config.rope_theta == t->model.config.rope_theta);
        assert_true(model.config.rms_norm_eps == t->model.config.rms_norm_eps);
        assert_true(model.config.initializer_range == t->model.config.initializer_range);
        assert_int_equal(model.config.max_position_embeddings, t->model.config.max_position_embeddings);
        assert_true(model.config.attention_bias);
        assert_int_equal(model.config.rope_scaling.type, LS_ROPE_LLAMA3);
        assert_true(model.config.rope_scaling.factor == 32.0);
        assert_true(model.config.rope_scaling.low_freq_factor == 1.5);
        assert_true(model.config.rope_scaling.high_freq_factor == 4.25);
        assert_int_equal(model.config.rope_scaling.original_max_position_embeddings, 96);
        /* Padding included: it is zero on both sides. */
        const size_t bytes = (size_t)model.table.elements * ls_dtype_size(model.dtype);
        void *expected = malloc(bytes);
        t->exec.ops->convert(&t->exec, expected, model.dtype, t->master, LS_F32, model.table.elements);
        assert_true(same_bits(model.weights, expected, bytes));
        free(expected);
        free(tokenizer);
        ls_model_destroy(&model);
    }
}

static void parameters_round_trip(void **state)
{
    trial *t = *state;
    hid_t file;
    ls_model_config config;
    assert_ok(ls_hdf5_open(&file, checkpoint, "checkpoint"));
    assert_ok(ls_model_config_read(file, checkpoint, &config));
    assert_false(config.tie_word_embeddings);
    float *block = calloc((size_t)t->model.table.elements, sizeof *block);
    assert_ok(ls_parameters_read(file, checkpoint, "parameters", &t->model.table, NULL, block));
    assert_true(same_bits(block, t->master, sizeof *block * (size_t)t->model.table.elements));
    free(block);
    assert_true(H5Fclose(file) >= 0);
}

static ls_status load(trial *t, const char *path)
{
    ls_model model;
    char *tokenizer;
    const ls_status status = ls_model_load(&model, &tokenizer, &t->exec, path, LS_F32);
    if (status == LS_OK) {
        ls_model_destroy(&model);
        free(tokenizer);
    } else {
        assert_null(tokenizer);
        assert_null(model.weights);
    }
    return status;
}

/* Opens a fresh copy of the checkpoint for vandalism. */
static hid_t open_copy(trial *t, char *path, size_t size, const char *name)
{
    (void)snprintf(path, size, "%s", name);
    write_checkpoint(t, path);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static void missing_parts_are_refused(void **state)
{
    trial *t = *state;
    char path[64];
    static const struct {
        const char *link, *sentence;
    } cases[] = {
        {"parameters/model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"},
        {"parameters/lm_head.weight", "lm_head.weight"},
        {"parameters/model.layers.2.self_attn.k_proj.bias", "model.layers.2.self_attn.k_proj.bias"},
        {"model", "/model"},
        {"tokenizer", "tokenizer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const hid_t file = open_copy(t, path, sizeof path, "missing.h5");
        assert_true(H5Ldelete(file, cases[i].link, H5P_DEFAULT) >= 0);
        assert_true(H5Fclose(file) >= 0);
        assert_fails(load(t, path), LS_BAD_INPUT, cases[i].sentence);
    }
    const hid_t file = open_copy(t, path, sizeof path, "attribute.h5");
    const hid_t group = H5Gopen2(file, "model", H5P_DEFAULT);
    assert_true(H5Adelete(group, "rope_theta") >= 0);
    assert_true(H5Gclose(group) >= 0 && H5Fclose(file) >= 0);
    assert_fails(load(t, path), LS_BAD_INPUT, "rope_theta");
}

/* A file from before there were these options has no attributes of theirs. */
static void older_files_load(void **state)
{
    (void)state;
    char path[64];
    const ls_model_config config = small_config(2, true);
    trial old;
    trial_create(&old, LS_DEVICE_REFERENCE, LS_F32, &config, 1, 4);
    const hid_t file = open_copy(&old, path, sizeof path, "older.h5");
    const hid_t group = H5Gopen2(file, "model", H5P_DEFAULT);
    assert_true(H5Adelete(group, "attention_bias") >= 0 && H5Adelete(group, "rope_scaling_type") >= 0);
    assert_true(H5Gclose(group) >= 0 && H5Fclose(file) >= 0);
    ls_model model;
    char *tokenizer;
    assert_ok(ls_model_load(&model, &tokenizer, &old.exec, path, LS_F32));
    assert_false(model.config.attention_bias);
    assert_int_equal(model.config.rope_scaling.type, LS_ROPE_PLAIN);
    assert_true(same_bits(model.weights, old.master, sizeof(float) * (size_t)model.table.elements));
    free(tokenizer);
    ls_model_destroy(&model);
    trial_destroy(&old);
}

/* A vector of another length, a matrix that is transposed, a shape that does not work at all. */
static void wrong_shapes_are_refused(void **state)
{
    trial *t = *state;
    char path[64];
    const float values[20 * 12] = {0};
    hid_t file = open_copy(t, path, sizeof path, "shape.h5");
    assert_true(H5Ldelete(file, "parameters/model.norm.weight", H5P_DEFAULT) >= 0);
    assert_ok(ls_hdf5_write_array(file, "parameters/model.norm.weight", H5T_NATIVE_FLOAT, 13, 0, values));
    assert_true(H5Fclose(file) >= 0);
    assert_fails(load(t, path), LS_BAD_INPUT, "model.norm.weight");

    file = open_copy(t, path, sizeof path, "transposed.h5");
    assert_true(H5Ldelete(file, "parameters/model.layers.2.mlp.gate_proj.weight", H5P_DEFAULT) >= 0);
    assert_ok(
        ls_hdf5_write_array(file, "parameters/model.layers.2.mlp.gate_proj.weight", H5T_NATIVE_FLOAT, 12, 20, values));
    assert_true(H5Fclose(file) >= 0);
    assert_fails(load(t, path), LS_BAD_INPUT, "gate_proj");

    trial odd = *t;
    odd.model.config.num_key_value_heads = 3;
    file = open_copy(&odd, path, sizeof path, "heads.h5");
    assert_true(H5Fclose(file) >= 0);
    assert_fails(load(t, path), LS_BAD_INPUT, "num_key_value_heads");
}

static void other_files_are_refused(void **state)
{
    trial *t = *state;
    char path[64];
    hid_t file = open_copy(t, path, sizeof path, "cut.h5");
    assert_true(H5Fclose(file) >= 0);
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(truncate(path, about.st_size / 2), 0);
    assert_fails(load(t, path), LS_BAD_INPUT, "cut.h5");

    (void)snprintf(path, sizeof path, "text.h5");
    FILE *text = fopen(path, "w");
    (void)fputs("not a model\n", text);
    (void)fclose(text);
    assert_fails(load(t, path), LS_BAD_INPUT, "text.h5");

    (void)snprintf(path, sizeof path, "tokens.h5");
    assert_ok(ls_hdf5_create(&file, path, "tokens"));
    assert_ok(ls_hdf5_close(file, path));
    assert_fails(load(t, path), LS_BAD_INPUT, "tokens");

    (void)snprintf(path, sizeof path, "nowhere.h5");
    assert_fails(load(t, path), LS_IO, "nowhere.h5");
}

static void empty_file(const char *run, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/checkpoints/%s", run, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fclose(file);
}

static void newest_checkpoint(void **state)
{
    (void)state;
    static const char run[] = "run", inner[] = "run/checkpoints";
    char *found;
    assert_int_equal(mkdir(run, 0700), 0);
    assert_fails(ls_checkpoint_find(&found, run), LS_IO, "without checkpoints");
    assert_int_equal(mkdir(inner, 0700), 0);
    empty_file(run, "step-.h5");
    empty_file(run, "step-00000900.h5.partial");
    empty_file(run, "notes.h5");
    assert_fails(ls_checkpoint_find(&found, run), LS_IO, "no checkpoint");
    empty_file(run, "step-00000020.h5");
    empty_file(run, "step-00000100.h5");
    empty_file(run, "step-9.h5"); /* by number, not by spelling */
    assert_ok(ls_checkpoint_find(&found, run));
    assert_string_equal(found, "run/checkpoints/step-00000100.h5");
    free(found);
    assert_ok(ls_checkpoint_find(&found, checkpoint));
    assert_string_equal(found, checkpoint);
    free(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(parameters_round_trip),
        cmocka_unit_test(older_files_load),
        cmocka_unit_test(missing_parts_are_refused),
        cmocka_unit_test(wrong_shapes_are_refused),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(newest_checkpoint),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

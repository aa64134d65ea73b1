/* A config's shape and schedule as JSON, see inspect.h. */
#include "train/inspect.h"

#include "core/file.h"
#include "core/text.h"
#include "train/background_save.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_STEPS = 5 };

/* The type, and what it uses. */
static void add_rope_scaling(cJSON *shape, const ls_rope_scaling *scaling)
{
    cJSON *object = cJSON_AddObjectToObject(shape, "rope_scaling");
    (void)cJSON_AddStringToObject(object, "type", ls_rope_type_names[scaling->type]);
    if (scaling->type == LS_ROPE_PLAIN) return;
    (void)cJSON_AddNumberToObject(object, "factor", scaling->factor);
    if (scaling->type != LS_ROPE_LLAMA3) return;
    (void)cJSON_AddNumberToObject(object, "low_freq_factor", scaling->low_freq_factor);
    (void)cJSON_AddNumberToObject(object, "high_freq_factor", scaling->high_freq_factor);
    (void)cJSON_AddNumberToObject(object, "original_max_position_embeddings",
                                  (double)scaling->original_max_position_embeddings);
}

ls_status ls_inspect_add_model(cJSON *document, const ls_model_config *model)
{
    cJSON *shape = cJSON_AddObjectToObject(document, "model");
#define ADD(field) (void)cJSON_AddNumberToObject(shape, #field, (double)model->field)
    ADD(hidden_size);
    ADD(intermediate_size);
    ADD(num_hidden_layers);
    ADD(num_attention_heads);
    ADD(num_key_value_heads);
    ADD(head_dim);
    ADD(vocab_size);
    ADD(max_position_embeddings);
    ADD(rope_theta);
    ADD(rms_norm_eps);
    ADD(initializer_range);
#undef ADD
    (void)cJSON_AddBoolToObject(shape, "tie_word_embeddings", model->tie_word_embeddings);
    (void)cJSON_AddBoolToObject(shape, "attention_bias", model->attention_bias);
    add_rope_scaling(shape, &model->rope_scaling);
    if (model->vocab_size == 0) {
        (void)cJSON_ReplaceItemInObject(shape, "vocab_size", cJSON_CreateNull());
        (void)cJSON_AddNullToObject(document, "parameters");
        return LS_OK;
    }
    ls_parameter_table table;
    LS_TRY(ls_parameter_table_create(&table, model));
    (void)cJSON_AddNumberToObject(document, "parameters", (double)table.parameters);
    ls_parameter_table_destroy(&table);
    return LS_OK;
}

static ls_status add_step(cJSON *schedule, const ls_train_config *config, int64_t step, double *values)
{
    const ls_recipe recipe = ls_train_config_recipe(config);
    const ls_schedule rate = ls_train_config_schedule(config);
    if (step < 0 || step >= recipe.steps)
        return LS_FAIL(LS_BAD_INPUT, "--steps: %lld is not a step of the run, which counts 0..%lld", (long long)step,
                       (long long)recipe.steps - 1);
    cJSON *row = cJSON_CreateObject();
    (void)cJSON_AddItemToArray(schedule, row);
    (void)cJSON_AddNumberToObject(row, "step", (double)step);
    (void)cJSON_AddNumberToObject(row, "learning_rate", ls_schedule_rate(&rate, step));
    for (int l = 0; l < recipe.layers; l++) values[l] = ls_recipe_dropout_rate(&recipe, l, step);
    (void)cJSON_AddItemToObject(row, "dropout_rate", cJSON_CreateDoubleArray(values, recipe.layers));
    ls_recipe_exit_weights(&recipe, step, values);
    (void)cJSON_AddItemToObject(row, "exit_weight", cJSON_CreateDoubleArray(values, recipe.layers));
    return LS_OK;
}

/* The start, the quarters, the end. Quarters may all meet the same exits of a rotation, so each moves on by one step
 * more. Returns how many. */
static int default_steps(int64_t out[DEFAULT_STEPS], const ls_train_config *config)
{
    const int64_t last = config->training.steps - 1, quarter = (last + 1) / 4;
    const int64_t turn = config->early_exit.curriculum == LS_CURRICULUM_ROTATIONAL ? 1 : 0;
    int count = 0;
    out[count++] = 0;
    for (int64_t i = 1; i < 4; i++) {
        const int64_t step = i * (quarter + turn);
        if (step > out[count - 1] && step < last) out[count++] = step;
    }
    if (last > 0) out[count++] = last;
    return count;
}

ls_status ls_inspect_add_schedule(cJSON *document, const ls_train_config *config, const ls_inspect_steps *steps)
{
    int64_t chosen[DEFAULT_STEPS];
    const ls_inspect_steps defaults = {.steps = chosen, .count = default_steps(chosen, config)};
    const ls_inspect_steps *shown = steps->count > 0 ? steps : &defaults;
    const int64_t tokens = config->training.global_batch_size * config->data.sequence_length;
    (void)cJSON_AddNumberToObject(document, "layers", (double)config->model.num_hidden_layers);
    (void)cJSON_AddNumberToObject(document, "steps", (double)config->training.steps);
    (void)cJSON_AddNumberToObject(document, "tokens_per_step", (double)tokens);
    cJSON *schedule = cJSON_AddArrayToObject(document, "schedule");
    double *values = ls_text_memory(NULL, sizeof *values * (size_t)config->model.num_hidden_layers);
    ls_status status = LS_OK;
    for (int i = 0; status == LS_OK && i < shown->count; i++)
        status = add_step(schedule, config, shown->steps[i], values);
    free(values);
    return status;
}

/* The vocabulary of a token file that is there; without one it stays as the config says. */
ls_status ls_inspect_ask_token_file(ls_train_config *config)
{
    if (config->data.tokens == NULL || !ls_file_exists(config->data.tokens)) return LS_OK;
    ls_token_file tokens;
    LS_TRY(ls_token_file_open(&tokens, config->data.tokens));
    const ls_status status = ls_train_config_set_vocabulary(config, &tokens);
    ls_token_file_close(&tokens);
    return status;
}

static ls_status describe(cJSON *document, ls_train_config *config, const ls_inspect_steps *steps)
{
    LS_TRY(ls_inspect_ask_token_file(config));
    (void)cJSON_AddStringToObject(document, "kind", "config");
    if (config->run_dir != NULL) (void)cJSON_AddStringToObject(document, "run_dir", config->run_dir);
    LS_TRY(ls_inspect_add_model(document, &config->model));
    return ls_inspect_add_schedule(document, config, steps);
}

ls_status ls_inspect_config(cJSON **out, const char *path, const char *const *overrides, int override_count,
                            const ls_inspect_steps *steps)
{
    ls_train_config config;
    LS_TRY(ls_train_config_read(&config, path, overrides, override_count));
    *out = cJSON_CreateObject();
    const ls_status status = describe(*out, &config, steps);
    ls_train_config_free(&config);
    return status;
}

/* Adds `bytes` of `what` to the blocks and the total of `memory`; blocks of one name count together. */
static void add_block(cJSON *memory, const char *what, size_t bytes)
{
    cJSON *total = cJSON_GetObjectItemCaseSensitive(memory, "total");
    cJSON *blocks = cJSON_GetObjectItemCaseSensitive(memory, "blocks"), *block;
    cJSON_SetNumberValue(total, total->valuedouble + (double)bytes);
    cJSON_ArrayForEach(block, blocks)
    {
        if (strcmp(cJSON_GetObjectItemCaseSensitive(block, "what")->valuestring, what) != 0) continue;
        cJSON *known = cJSON_GetObjectItemCaseSensitive(block, "bytes");
        cJSON_SetNumberValue(known, known->valuedouble + (double)bytes);
        return;
    }
    block = cJSON_CreateObject();
    (void)cJSON_AddItemToArray(blocks, block);
    (void)cJSON_AddStringToObject(block, "what", what);
    (void)cJSON_AddNumberToObject(block, "bytes", (double)bytes);
}

static cJSON *add_memory(cJSON *document, const char *key)
{
    cJSON *memory = cJSON_AddObjectToObject(document, key);
    (void)cJSON_AddNumberToObject(memory, "total", 0);
    (void)cJSON_AddArrayToObject(memory, "blocks");
    return memory;
}

static ls_status describe_memory(cJSON *document, ls_train_config *config, int processes)
{
    ls_exec counted;
    int64_t saved;
    LS_TRY(ls_inspect_ask_token_file(config));
    if (config->model.vocab_size == 0)
        return LS_FAIL(LS_BAD_INPUT, "the vocabulary is not known: set model.vocab_size, or data.tokens to a file that "
                                     "is there");
    LS_TRY(ls_model_config_check(&config->model));
    LS_TRY(ls_trainer_plan(&counted, &saved, config, processes));
    (void)cJSON_AddStringToObject(document, "kind", "memory");
    (void)cJSON_AddStringToObject(document, "device", ls_device_names[config->device]);
    (void)cJSON_AddStringToObject(document, "precision", ls_precision_names[config->precision]);
    (void)cJSON_AddNumberToObject(document, "processes", processes);
    cJSON *memory = add_memory(document, "memory");
    cJSON *host =
        config->checkpoint.background || counted.pinned_bytes > 0 ? add_memory(document, "host_memory") : NULL;
    for (int i = 0; i < counted.block_count; i++)
        add_block(counted.blocks[i].pinned ? host : memory, counted.blocks[i].what, counted.blocks[i].bytes);
    if (config->checkpoint.background)
        add_block(host, "a copy of the run for saving in the background", ls_background_save_bytes_of(saved));
    return LS_OK;
}

ls_status ls_inspect_memory(cJSON **out, const char *path, const char *const *overrides, int override_count,
                            int processes)
{
    ls_train_config config;
    LS_TRY(ls_train_config_read(&config, path, overrides, override_count));
    *out = cJSON_CreateObject();
    const ls_status status = describe_memory(*out, &config, processes);
    ls_train_config_free(&config);
    return status;
}

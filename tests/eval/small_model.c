/* Weights, models and token files for the tests of eval/. */
#include "small_model.h"

#include "core/random.h"
#include "data/token_writer.h"

#include <stdlib.h>
#include <string.h>

static ls_model_config small_config(int64_t layers, int64_t vocabulary)
{
    ls_model_config config = {.hidden_size = SMALL_HIDDEN,
                              .intermediate_size = 72,
                              .num_hidden_layers = layers,
                              .num_attention_heads = 4,
                              .num_key_value_heads = 2,
                              .head_dim = 12,
                              .vocab_size = vocabulary,
                              .max_position_embeddings = SMALL_CONTEXT,
                              .rope_theta = 10000.0,
                              .rms_norm_eps = 1e-5,
                              .initializer_range = 0.25};
    assert_int_equal(ls_model_config_check(&config), LS_OK);
    return config;
}

static void scale_rows(float *weight, int64_t count, float factor)
{
    for (int64_t i = 0; i < count; i++) weight[i] *= factor;
}

/* fp32 weights, each drawn by its own name and place. [table->elements] */
static float *make_weights(const ls_parameter_table *table, const ls_model_config *config)
{
    float *block = calloc((size_t)table->elements, sizeof *block);
    for (int e = 0; e < table->count; e++) {
        const ls_parameter *entry = &table->entries[e];
        uint32_t name = 2166136261u;
        for (const char *c = entry->name; *c != '\0'; c++) name = (name ^ (unsigned char)*c) * 16777619u;
        const float spread = strcmp(entry->name, "lm_head.weight") == 0 ? 0.5f : entry->is_embedding ? 1.0f : 0.25f;
        for (int64_t i = 0; i < entry->rows * entry->cols; i++)
            block[entry->offset + i] =
                entry->is_norm ? 1.0f : spread * (float)ls_random_normal(1, LS_STREAM_TEST, name, (uint32_t)i, 0);
    }
    const int64_t C = config->hidden_size, F = config->intermediate_size;
    for (int64_t l = 2; l < config->num_hidden_layers; l++) {
        scale_rows(block + table->layers[l].attention_out, C * C, 0.15f);
        scale_rows(block + table->layers[l].down, C * F, 0.15f);
    }
    return block;
}

void small_model_open(small_model *out, ls_device device, ls_dtype dtype, int64_t layers, int64_t vocabulary,
                      int threads, int64_t capacity)
{
    const ls_model_config config = small_config(layers, vocabulary);
    assert_int_equal(ls_exec_create(&out->exec, device, threads), LS_OK);
    assert_int_equal(ls_model_create(&out->model, &out->exec, &config, dtype), LS_OK);
    const int64_t elements = out->model.table.elements;
    const size_t bytes = sizeof(float) * (size_t)elements;
    float *block = make_weights(&out->model.table, &config);
    void *there;
    assert_int_equal(ls_exec_allocate(&out->exec, &there, bytes, "weights"), LS_OK);
    assert_int_equal(ls_exec_upload(&out->exec, there, block, bytes), LS_OK);
    out->exec.ops->convert(&out->exec, out->model.weights, dtype, there, LS_F32, elements);
    ls_exec_free(&out->exec, there, bytes);
    free(block);
    assert_int_equal(ls_decoder_create(&out->decoder, &out->model, capacity, SMALL_MOST_DRAFT), LS_OK);
}

void small_model_close(small_model *small)
{
    ls_decoder_destroy(small->decoder);
    ls_model_destroy(&small->model);
    ls_exec_destroy(&small->exec);
}

static void add_document(ls_token_writer *writer, ls_split split, uint32_t number, int64_t length)
{
    int32_t *tokens = calloc((size_t)length, sizeof *tokens);
    for (int64_t i = 0; i < length; i++)
        tokens[i] = (int32_t)ls_random_below(2, LS_STREAM_TEST, number, (uint32_t)i, 1, BYTES_END_OF_TEXT);
    assert_int_equal(ls_token_writer_add(writer, split, tokens, length), LS_OK);
    free(tokens);
}

void token_file_create(ls_token_file *out, const char *path, const int64_t *lengths, int count)
{
    ls_tokenizer *tokenizer = NULL;
    ls_token_writer *writer = NULL;
    assert_int_equal(ls_tokenizer_open(&tokenizer, "bytes"), LS_OK);
    assert_int_equal(ls_token_writer_create(&writer, path, tokenizer), LS_OK);
    add_document(writer, LS_SPLIT_TRAIN, 0, 20);
    for (int i = 0; i < count; i++) add_document(writer, LS_SPLIT_VALIDATION, (uint32_t)i + 1, lengths[i]);
    assert_int_equal(ls_token_writer_commit(writer, "test"), LS_OK);
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
    assert_int_equal(ls_token_file_open(out, path), LS_OK);
}

static void add_record(ls_token_writer *writer, ls_split split, uint32_t number, int64_t given, int64_t learnt)
{
    const int64_t length = given + learnt;
    int32_t *tokens = calloc((size_t)length, sizeof *tokens);
    uint8_t *targets = calloc((size_t)length, sizeof *targets);
    for (int64_t i = 0; i < length; i++) {
        tokens[i] = (int32_t)ls_random_below(2, LS_STREAM_TEST, number, (uint32_t)i, 1, BYTES_END_OF_TEXT);
        targets[i] = i >= given;
    }
    assert_int_equal(ls_token_writer_add_record(writer, split, tokens, targets, length), LS_OK);
    free(tokens);
    free(targets);
}

void record_file_create(ls_token_file *out, const char *path, const int64_t *given, const int64_t *learnt, int count)
{
    ls_tokenizer *tokenizer = NULL;
    ls_token_writer *writer = NULL;
    assert_int_equal(ls_tokenizer_open(&tokenizer, "bytes"), LS_OK);
    assert_int_equal(ls_token_writer_create_records(&writer, path, tokenizer), LS_OK);
    add_record(writer, LS_SPLIT_TRAIN, 0, 10, 10);
    for (int i = 0; i < count; i++) add_record(writer, LS_SPLIT_VALIDATION, (uint32_t)i + 1, given[i], learnt[i]);
    assert_int_equal(ls_token_writer_commit(writer, "test"), LS_OK);
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
    assert_int_equal(ls_token_file_open(out, path), LS_OK);
}

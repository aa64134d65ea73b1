/* The parameter table: names, shapes and offsets of the one block, and the initial weights. */
#include "model/parameters.h"

#include "core/random.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ENTRIES_PER_LAYER 13

enum { PLAIN = 0, NORM, EMBEDDING, BIAS };

static void align(ls_parameter_table *table, int64_t elements)
{
    table->elements = (table->elements + elements - 1) / elements * elements;
}

static void begin_group(ls_parameter_table *table) { align(table, LS_PARAMETER_ALIGNMENT); }

/* Appends an entry right after the previous one; returns its offset. */
__attribute__((format(printf, 6, 7))) static int64_t add(ls_parameter_table *table, int layer, int kind, int64_t rows,
                                                         int64_t cols, const char *format, ...)
{
    ls_parameter *entry = &table->entries[table->count++];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(entry->name, sizeof entry->name, format, arguments);
    va_end(arguments);
    entry->layer = layer;
    entry->rows = rows;
    entry->cols = cols;
    entry->offset = table->elements;
    entry->is_norm = kind == NORM;
    entry->is_bias = kind == BIAS;
    entry->is_embedding = kind == EMBEDDING;
    table->elements += rows * cols;
    table->parameters += rows * cols;
    return entry->offset;
}

static void add_layer(ls_parameter_table *table, const ls_model_config *config, int l)
{
    const int64_t C = config->hidden_size, F = config->intermediate_size, D = config->head_dim;
    const int64_t H = config->num_attention_heads, G = config->num_key_value_heads;
    ls_layer_offsets *layer = &table->layers[l];
    layer->input_norm = add(table, l, NORM, C, 1, "model.layers.%d.input_layernorm.weight", l);
    begin_group(table);
    layer->qkv = add(table, l, PLAIN, H * D, C, "model.layers.%d.self_attn.q_proj.weight", l);
    (void)add(table, l, PLAIN, G * D, C, "model.layers.%d.self_attn.k_proj.weight", l);
    (void)add(table, l, PLAIN, G * D, C, "model.layers.%d.self_attn.v_proj.weight", l);
    layer->qkv_bias = layer->attention_out_bias = -1;
    if (config->attention_bias) {
        begin_group(table);
        layer->qkv_bias = add(table, l, BIAS, H * D, 1, "model.layers.%d.self_attn.q_proj.bias", l);
        (void)add(table, l, BIAS, G * D, 1, "model.layers.%d.self_attn.k_proj.bias", l);
        (void)add(table, l, BIAS, G * D, 1, "model.layers.%d.self_attn.v_proj.bias", l);
        begin_group(table);
        layer->attention_out_bias = add(table, l, BIAS, C, 1, "model.layers.%d.self_attn.o_proj.bias", l);
    }
    begin_group(table);
    layer->attention_out = add(table, l, PLAIN, C, H * D, "model.layers.%d.self_attn.o_proj.weight", l);
    begin_group(table);
    layer->post_norm = add(table, l, NORM, C, 1, "model.layers.%d.post_attention_layernorm.weight", l);
    begin_group(table);
    layer->gate_up = add(table, l, PLAIN, F, C, "model.layers.%d.mlp.gate_proj.weight", l);
    (void)add(table, l, PLAIN, F, C, "model.layers.%d.mlp.up_proj.weight", l);
    begin_group(table);
    layer->down = add(table, l, PLAIN, C, F, "model.layers.%d.mlp.down_proj.weight", l);
}

ls_status ls_parameter_table_create(ls_parameter_table *out, const ls_model_config *config)
{
    return ls_parameter_table_create_for(out, config, 1);
}

ls_status ls_parameter_table_create_for(ls_parameter_table *out, const ls_model_config *config, int shards)
{
    const int64_t L = config->num_hidden_layers, C = config->hidden_size, V = config->vocab_size;
    const int64_t whole = (int64_t)LS_PARAMETER_ALIGNMENT * shards;
    *out = (ls_parameter_table){.layer_count = (int)L};
    out->entries = calloc((size_t)(ENTRIES_PER_LAYER * L + 3), sizeof *out->entries);
    out->layers = calloc((size_t)L, sizeof *out->layers);
    if (out->entries == NULL || out->layers == NULL) {
        ls_parameter_table_destroy(out);
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the table of %lld layers", (long long)L);
    }
    out->embedding = add(out, -1, EMBEDDING, V, C, "model.embed_tokens.weight");
    for (int l = 0; l < (int)L; l++) {
        align(out, whole);
        add_layer(out, config, l);
    }
    align(out, whole);
    out->final_norm = add(out, -1, NORM, C, 1, "model.norm.weight");
    out->head = out->embedding;
    if (!config->tie_word_embeddings) {
        begin_group(out);
        out->head = add(out, -1, PLAIN, V, C, "lm_head.weight");
    }
    align(out, whole);
    return LS_OK;
}

int64_t ls_parameter_part(const ls_parameter_table *table, int part)
{
    if (part > table->layer_count) return table->elements;
    if (part == table->layer_count) return table->final_norm;
    return part == LS_PART_EMBEDDING ? table->embedding : table->layers[part].input_norm;
}

void ls_parameter_table_destroy(ls_parameter_table *table)
{
    free(table->entries);
    free(table->layers);
    *table = (ls_parameter_table){0};
}

/* Whether the entry is the last matrix of a residual branch: o_proj or down_proj. */
static bool ends_branch(const ls_parameter *entry, const ls_parameter_table *table)
{
    if (entry->layer < 0) return false;
    const ls_layer_offsets *layer = &table->layers[entry->layer];
    return entry->offset == layer->attention_out || entry->offset == layer->down;
}

void ls_parameter_initialize(float *values, const ls_parameter_table *table, int number, const ls_model_config *config,
                             uint64_t seed)
{
    const ls_parameter *entry = &table->entries[number];
    const double branch_scale = 1.0 / sqrt(2.0 * (double)config->num_hidden_layers);
    const double deviation =
        entry->is_bias ? 0.0 : config->initializer_range * (ends_branch(entry, table) ? branch_scale : 1.0);
    const int64_t count = entry->rows * entry->cols;
#pragma omp parallel for schedule(static)
    for (int64_t e = 0; e < count; e++)
        values[e] = entry->is_norm
                        ? 1.0f
                        : (float)(deviation * ls_random_normal(seed, LS_STREAM_INITIAL_WEIGHTS, (uint32_t)number,
                                                               (uint32_t)e, (uint32_t)((uint64_t)e >> 32)));
}

ls_status ls_parameters_initialize(ls_exec *exec, float *block, const ls_parameter_table *table,
                                   const ls_model_config *config, uint64_t seed)
{
    ls_parameter_window window;
    LS_TRY(ls_parameter_window_open(&window, exec, block, table));
    ls_status status = LS_OK;
    for (int i = 0; i < table->count && status == LS_OK; i++) {
        ls_parameter_initialize(ls_parameter_window_at(&window, &table->entries[i]), table, i, config, seed);
        status = ls_parameter_window_put(&window, &table->entries[i]);
    }
    ls_parameter_window_close(&window);
    return status;
}

/* ---- the host's view --------------------------------------------------------------------------------------------- */

static size_t entry_bytes(const ls_parameter *entry) { return sizeof(float) * (size_t)(entry->rows * entry->cols); }

ls_status ls_parameter_window_open(ls_parameter_window *out, ls_exec *exec, float *block,
                                   const ls_parameter_table *table)
{
    size_t largest = 0;
    *out = (ls_parameter_window){.exec = exec, .block = block};
    if (exec == NULL || exec->memory->host) return LS_OK;
    for (int i = 0; i < table->count; i++)
        if (entry_bytes(&table->entries[i]) > largest) largest = entry_bytes(&table->entries[i]);
    out->staging = malloc(largest);
    if (out->staging == NULL)
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory to copy parameters from and to the device");
    return LS_OK;
}

void ls_parameter_window_close(ls_parameter_window *window) { free(window->staging); }

float *ls_parameter_window_at(const ls_parameter_window *window, const ls_parameter *entry)
{
    return window->staging != NULL ? window->staging : window->block + entry->offset;
}

ls_status ls_parameter_window_put(const ls_parameter_window *window, const ls_parameter *entry)
{
    if (window->staging == NULL) return LS_OK;
    return ls_exec_upload(window->exec, window->block + entry->offset, window->staging, entry_bytes(entry));
}

ls_status ls_parameter_window_get(const ls_parameter_window *window, const ls_parameter *entry)
{
    if (window->staging == NULL) return window->exec == NULL ? LS_OK : ls_exec_status(window->exec);
    return ls_exec_download(window->exec, window->staging, window->block + entry->offset, entry_bytes(entry));
}

/* Reading weights wherever they are, see weight_source.h. */
#include "model/weight_source.h"

#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "data/tokenizer.h"
#include "model/model_file.h"
#include "model/stored_tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const ls_kept_names[LS_KEPT_FILES] = {"config.json", "generation_config.json", "tokenizer_config.json",
                                                  "special_tokens_map.json", "chat_template.jinja"};

bool ls_weight_source_is_folder(const char *path)
{
    char *config = ls_file_join(path, ls_kept_names[LS_KEPT_CONFIG]);
    const bool found = ls_file_exists(config);
    free(config);
    return found;
}

int64_t ls_parameter_file_cols(const ls_parameter *entry) { return entry->is_norm || entry->is_bias ? 0 : entry->cols; }

int64_t ls_weight_source_rows(const ls_parameter *entry)
{
    const int64_t row = entry->cols * (int64_t)sizeof(float), rows = LS_SOURCE_PIECE / row;
    return rows < 1 ? 1 : rows < entry->rows ? rows : entry->rows;
}

size_t ls_weight_source_piece(const ls_parameter_table *table)
{
    int64_t most = 0;
    for (int i = 0; i < table->count; i++) {
        const ls_parameter *entry = &table->entries[i];
        const int64_t bytes = ls_weight_source_rows(entry) * entry->cols * (int64_t)sizeof(float);
        if (bytes > most) most = bytes;
    }
    return (size_t)most;
}

/* ---- Hugging Face folders ---------------------------------------------------------------------------------------- */

static char *shape_text(const ls_safetensor *tensor)
{
    ls_text text = {0};
    ls_text_addf(&text, "[");
    for (int i = 0; i < tensor->rank; i++)
        ls_text_addf(&text, "%s%lld", i == 0 ? "" : ", ", (long long)tensor->shape[i]);
    ls_text_addf(&text, "]");
    return text.bytes;
}

static ls_status check_tensor(ls_weight_source *source, int number)
{
    const ls_parameter *entry = &source->table.entries[number];
    const ls_safetensor *tensor = ls_safetensors_find(&source->folder, entry->name);
    const int64_t cols = ls_parameter_file_cols(entry);
    if (tensor == NULL) return LS_FAIL(LS_BAD_INPUT, "%s lacks the tensor %s", source->path, entry->name);
    if (!tensor->is_float)
        return LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has the dtype %s; only F32, F16 and BF16 are read",
                       source->folder.files[tensor->file], entry->name, tensor->dtype);
    const bool fits = tensor->rank == (cols == 0 ? 1 : 2) && tensor->shape[0] == entry->rows &&
                      (cols == 0 || tensor->shape[1] == cols);
    if (!fits) {
        char *is = shape_text(tensor);
        char *wanted = cols == 0 ? ls_text_format("[%lld]", (long long)entry->rows)
                                 : ls_text_format("[%lld, %lld]", (long long)entry->rows, (long long)cols);
        const ls_status status =
            LS_FAIL(LS_BAD_INPUT, "%s: the tensor %s has the shape %s, where config.json asks for %s",
                    source->folder.files[tensor->file], entry->name, is, wanted);
        free(is);
        free(wanted);
        return status;
    }
    source->types[number] = tensor->type;
    return LS_OK;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* A head beside a tied embedding: transformers uses the embedding. */
static ls_status check_tied_head(const ls_weight_source *source, const ls_safetensor *head)
{
    const ls_safetensor *embedding = ls_safetensors_find(&source->folder, "model.embed_tokens.weight");
    bool same = head->bytes == embedding->bytes && strcmp(head->dtype, embedding->dtype) == 0;
    const uint64_t piece = (uint64_t)LS_SOURCE_PIECE;
    char *buffer = ls_text_memory(NULL, 2 * (size_t)piece);
    ls_status status = LS_OK;
    for (uint64_t at = 0; same && at < head->bytes && status == LS_OK; at += piece) {
        const uint64_t count = head->bytes - at < piece ? head->bytes - at : piece;
        status = ls_safetensors_read(&source->folder, head, at, count, buffer);
        if (status == LS_OK) status = ls_safetensors_read(&source->folder, embedding, at, count, buffer + piece);
        same = status != LS_OK || memcmp(buffer, buffer + piece, (size_t)count) == 0;
    }
    free(buffer);
    if (status == LS_OK && !same)
        ls_log_warning("%s: lm_head.weight is ignored: tie_word_embeddings is true, and it is not the embedding",
                       source->path);
    return status;
}

/* Tensors beyond those of the table: buffers that older versions of transformers saved, and a tied head. */
static ls_status check_extra(const ls_weight_source *source)
{
    int t = 0;
    const ls_parameter_table *table = &source->table;
    const char **names = ls_text_memory(NULL, sizeof *names * (size_t)table->count);
    for (int i = 0; i < table->count; i++) names[i] = table->entries[i].name;
    ls_status status = LS_OK;
    for (int64_t i = 0; i < source->folder.count && status == LS_OK; i++) {
        const ls_safetensor *tensor = &source->folder.tensors[i];
        bool known = ends_with(tensor->name, ".rotary_emb.inv_freq");
        for (int n = 0; n < table->count && !known; n++, t = (t + 1) % table->count)
            known = strcmp(names[t], tensor->name) == 0;
        if (known) continue;
        if (source->config.tie_word_embeddings && strcmp(tensor->name, "lm_head.weight") == 0)
            status = check_tied_head(source, tensor);
        else
            status = LS_FAIL(LS_BAD_INPUT, "%s holds the tensor %s, which a model of this config.json does not have%s",
                             source->folder.files[tensor->file], tensor->name,
                             ends_with(tensor->name, "_proj.bias") && !source->config.attention_bias
                                 ? " (attention_bias is false)"
                                 : "");
    }
    free(names);
    return status;
}

static ls_status read_kept_file(ls_weight_source *source, int number)
{
    char *path = ls_file_join(source->path, ls_kept_names[number]);
    size_t length;
    ls_status status = LS_OK;
    if (ls_file_exists(path)) status = ls_file_read(&source->kept[number], &length, path);
    if (status == LS_OK && source->kept[number] != NULL && strlen(source->kept[number]) != length)
        status = LS_FAIL(LS_BAD_INPUT, "%s holds a NUL byte", path);
    free(path);
    return status;
}

static ls_status read_folder_config(ls_weight_source *source)
{
    char *path = ls_file_join(source->path, ls_kept_names[LS_KEPT_CONFIG]);
    ls_status status = LS_OK;
    for (int i = 0; i < LS_KEPT_FILES && status == LS_OK; i++) status = read_kept_file(source, i);
    if (status == LS_OK) {
        const char *text = source->kept[LS_KEPT_CONFIG];
        status = ls_huggingface_config_read(&source->config, NULL, text, strlen(text), path);
    }
    free(path);
    return status;
}

static ls_status read_folder_tokenizer(ls_weight_source *source, const char *other)
{
    ls_tokenizer *tokenizer;
    LS_TRY(ls_tokenizer_open(&tokenizer, other == NULL ? source->path : other));
    const char *text = ls_tokenizer_text(tokenizer);
    const long long size = (long long)ls_tokenizer_vocab_size(tokenizer), model = source->config.vocab_size;
    source->tokenizer = ls_text_copy(text, strlen(text));
    ls_tokenizer_free(tokenizer);
    if (size <= model) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT,
                   "%s: its tokenizer has %lld entries, its model only %lld (vocab_size in config.json): they do not "
                   "belong together",
                   source->path, size, model);
}

static ls_status open_folder(ls_weight_source *source, const char *tokenizer)
{
    LS_TRY(read_folder_config(source));
    LS_TRY(ls_safetensors_open(&source->folder, source->path));
    LS_TRY(ls_parameter_table_create(&source->table, &source->config));
    source->types = ls_text_memory(NULL, sizeof *source->types * (size_t)source->table.count);
    for (int i = 0; i < source->table.count; i++) LS_TRY(check_tensor(source, i));
    LS_TRY(check_extra(source));
    return read_folder_tokenizer(source, tokenizer);
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

/* The dataset of a parameter; close it with ls_stored_tensor_close. */
static ls_status open_dataset(ls_stored_tensor *out, const ls_weight_source *source, int number, char name[160])
{
    const ls_parameter *entry = &source->table.entries[number];
    (void)snprintf(name, 160, "parameters/%s", entry->name);
    return ls_stored_tensor_open(out, source->file, source->path, name, entry->rows, ls_parameter_file_cols(entry));
}

static ls_status open_checkpoint(ls_weight_source *source)
{
    char name[160];
    LS_TRY(ls_hdf5_open(&source->file, source->path, "checkpoint"));
    LS_TRY(ls_model_config_read(source->file, source->path, &source->config));
    LS_TRY(ls_hdf5_read_text(source->file, source->path, "tokenizer", &source->tokenizer));
    LS_TRY(ls_parameter_table_create(&source->table, &source->config));
    source->types = ls_text_memory(NULL, sizeof *source->types * (size_t)source->table.count);
    for (int i = 0; i < source->table.count; i++) {
        ls_stored_tensor tensor;
        LS_TRY(open_dataset(&tensor, source, i, name));
        source->types[i] = tensor.type;
        ls_stored_tensor_close(&tensor);
    }
    if (H5Lexists(source->file, "huggingface", H5P_DEFAULT) <= 0) return LS_OK;
    for (int i = 0; i < LS_KEPT_FILES; i++) {
        (void)snprintf(name, sizeof name, "huggingface/%s", ls_kept_names[i]);
        if (H5Lexists(source->file, name, H5P_DEFAULT) > 0)
            LS_TRY(ls_hdf5_read_text(source->file, source->path, name, &source->kept[i]));
    }
    return LS_OK;
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

ls_status ls_weight_source_open(ls_weight_source *out, const char *path, const char *tokenizer)
{
    *out = (ls_weight_source){.file = H5I_INVALID_HID, .is_folder = ls_weight_source_is_folder(path)};
    ls_status status = LS_OK;
    if (out->is_folder)
        out->path = ls_text_copy(path, strlen(path));
    else
        status = ls_checkpoint_find(&out->path, path);
    if (status == LS_OK) status = out->is_folder ? open_folder(out, tokenizer) : open_checkpoint(out);
    if (status != LS_OK) ls_weight_source_close(out);
    return status;
}

void ls_weight_source_close(ls_weight_source *source)
{
    if (source->file >= 0) (void)H5Fclose(source->file);
    ls_safetensors_close(&source->folder);
    ls_parameter_table_destroy(&source->table);
    for (int i = 0; i < LS_KEPT_FILES; i++) free(source->kept[i]);
    free(source->types);
    free(source->tokenizer);
    free(source->path);
    *source = (ls_weight_source){.file = H5I_INVALID_HID};
}

ls_status ls_weight_source_read(const ls_weight_source *source, int entry, int64_t first_row, int64_t rows, void *out)
{
    const ls_parameter *parameter = &source->table.entries[entry];
    if (source->is_folder) {
        const uint64_t row = (uint64_t)parameter->cols * ls_stored_type_size(source->types[entry]);
        return ls_safetensors_read(&source->folder, ls_safetensors_find(&source->folder, parameter->name),
                                   row * (uint64_t)first_row, row * (uint64_t)rows, out);
    }
    ls_stored_tensor tensor;
    char name[160];
    LS_TRY(open_dataset(&tensor, source, entry, name));
    const ls_status status = ls_stored_tensor_read(&tensor, first_row, rows, out);
    ls_stored_tensor_close(&tensor);
    return status;
}

ls_status ls_weight_source_read_float(const ls_weight_source *source, int entry, int64_t first_row, int64_t rows,
                                      float *out, void *scratch)
{
    const ls_stored_type type = source->types[entry];
    if (type == LS_STORED_F32) return ls_weight_source_read(source, entry, first_row, rows, out);
    LS_TRY(ls_weight_source_read(source, entry, first_row, rows, scratch));
    ls_stored_to_float(out, scratch, type, rows * source->table.entries[entry].cols);
    return LS_OK;
}

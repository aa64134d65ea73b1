/* A Hugging Face folder from a model: safetensors, and the texts beside them. */
#include "core/file.h"
#include "core/json.h"
#include "core/text.h"
#include "model/export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Buffers that weights pass through, and how far they are. */
typedef struct copying {
    const ls_export *self;
    void *buffer, *scratch; /* [ls_weight_source_piece] */
    ls_progress *progress;
} copying;

static ls_stored_type type_of(const ls_export *self, int number)
{
    return self->type < 0 ? self->source.types[number] : (ls_stored_type)self->type;
}

ls_stored_type ls_export_type(const ls_export *self)
{
    const ls_parameter_table *table = &self->source.table;
    for (int i = 0; i < table->count; i++)
        if (table->entries[i].layer >= 0 && table->entries[i].cols > 1) return type_of(self, i);
    return LS_STORED_F32;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static ls_status put(FILE *file, const char *path, const void *bytes, size_t count)
{
    errno = 0;
    if (fwrite(bytes, 1, count, file) == count) return LS_OK;
    return LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(errno));
}

static ls_status copy_parameter(copying *c, int number, FILE *file, const char *path)
{
    const ls_weight_source *source = &c->self->source;
    const ls_parameter *entry = &source->table.entries[number];
    const ls_stored_type type = type_of(c->self, number);
    const int64_t most = ls_weight_source_rows(entry);
    for (int64_t row = 0; row < entry->rows; row += most) {
        const int64_t rows = entry->rows - row < most ? entry->rows - row : most;
        const int64_t bytes = rows * entry->cols * (int64_t)ls_stored_type_size(type);
        const void *values;
        LS_TRY(ls_weight_source_read_as(source, number, row, rows, type, c->buffer, c->scratch, &values));
        LS_TRY(put(file, path, values, (size_t)bytes));
        LS_TRY(ls_progress_add(c->progress, bytes));
    }
    return LS_OK;
}

static int number_of(const ls_parameter_table *table, const char *name)
{
    int number = 0;
    while (strcmp(table->entries[number].name, name) != 0) number++;
    return number;
}

static ls_status write_tensors(copying *c, const ls_safetensor_entry *entries, int count, FILE *file, const char *path)
{
    size_t length;
    char *header = ls_safetensors_header(entries, count, &length);
    ls_status status = put(file, path, header, length);
    free(header);
    for (int i = 0; i < count && status == LS_OK; i++)
        status = copy_parameter(c, number_of(&c->self->source.table, entries[i].name), file, path);
    return status;
}

/* Parameters first..first+count-1 of the table as one file. */
static ls_status write_shard(copying *c, int first, int count, const char *path)
{
    const ls_parameter_table *table = &c->self->source.table;
    ls_safetensor_entry *entries = ls_text_memory(NULL, sizeof *entries * (size_t)count);
    for (int i = 0; i < count; i++) {
        const ls_parameter *entry = &table->entries[first + i];
        entries[i] =
            (ls_safetensor_entry){entry->name, type_of(c->self, first + i), entry->rows, ls_parameter_file_cols(entry)};
    }
    ls_safetensors_sort(entries, count);
    FILE *file = fopen(path, "wbxe");
    ls_status status = LS_OK;
    if (file == NULL) {
        status = LS_FAIL(LS_IO, "cannot create %s: %s", path, ls_file_reason(errno));
    } else {
        status = write_tensors(c, entries, count, file, path);
        errno = 0;
        if (fclose(file) != 0 && status == LS_OK)
            status = LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(errno));
    }
    free(entries);
    return status;
}

/* Parameters of the shard that begins with `first`: at least one. */
static int shard_count(const ls_export *self, int first)
{
    const ls_parameter_table *table = &self->source.table;
    int64_t bytes = 0;
    int count = 0;
    for (int i = first; i < table->count; i++, count++) {
        const ls_parameter *entry = &table->entries[i];
        bytes += entry->rows * entry->cols * (int64_t)ls_stored_type_size(type_of(self, i));
        if (count > 0 && bytes > self->shard_size) break;
    }
    return count;
}

static ls_status write_text(const char *folder, const char *name, const char *text)
{
    char *path = ls_file_join(folder, name);
    FILE *file = fopen(path, "wbxe");
    ls_status status = LS_OK;
    if (file == NULL) status = LS_FAIL(LS_IO, "cannot create %s: %s", path, ls_file_reason(errno));
    if (file != NULL) {
        status = put(file, path, text, strlen(text));
        errno = 0;
        if (fclose(file) != 0 && status == LS_OK)
            status = LS_FAIL(LS_IO, "cannot write %s: %s", path, ls_file_reason(errno));
    }
    free(path);
    return status;
}

/* Writes the shards, and into `map` which of them holds each tensor. */
static ls_status write_shards(copying *c, const char *folder, int shards, cJSON *map)
{
    const ls_parameter_table *table = &c->self->source.table;
    ls_status status = LS_OK;
    int first = 0;
    for (int shard = 0; shard < shards && status == LS_OK; shard++) {
        const int count = shard_count(c->self, first);
        char *name = shards == 1 ? ls_text_format("model.safetensors")
                                 : ls_text_format("model-%05d-of-%05d.safetensors", shard + 1, shards);
        char *path = ls_file_join(folder, name);
        status = write_shard(c, first, count, path);
        for (int i = 0; i < count; i++) (void)cJSON_AddStringToObject(map, table->entries[first + i].name, name);
        free(path);
        free(name);
        first += count;
    }
    return status;
}

static ls_status write_weights(copying *c, const char *folder)
{
    int shards = 0;
    for (int first = 0; first < c->self->source.table.count; first += shard_count(c->self, first)) shards++;
    cJSON *index = cJSON_CreateObject();
    cJSON *about = cJSON_AddObjectToObject(index, "metadata");
    (void)cJSON_AddNumberToObject(about, "total_size", (double)ls_weight_source_bytes(&c->self->source, c->self->type));
    ls_status status = write_shards(c, folder, shards, cJSON_AddObjectToObject(index, "weight_map"));
    if (status == LS_OK && shards > 1) {
        char *text = cJSON_Print(index);
        status = write_text(folder, "model.safetensors.index.json", text == NULL ? "" : text);
        cJSON_free(text);
    }
    cJSON_Delete(index);
    return status;
}

/* ---- texts ------------------------------------------------------------------------------------------------------- */

char *ls_export_token_text(const ls_export *self, int64_t id)
{
    size_t length;
    if (id < 0 || id > INT32_MAX) return NULL;
    const char *bytes = ls_tokenizer_token_text(self->tokenizer, (int32_t)id, &length);
    return length == 0 ? NULL : ls_text_valid_utf8(bytes, length);
}

static ls_status write_configs(const ls_export *self, const char *folder)
{
    char *const *kept = self->source.kept;
    char *bos = ls_export_token_text(self, self->ids.bos), *eos = ls_export_token_text(self, self->ids.eos);
    char *texts[LS_KEPT_FILES] = {
        ls_huggingface_config_write(&self->source.config, &self->ids, ls_export_type(self), kept[LS_KEPT_CONFIG]),
        kept[LS_KEPT_GENERATION] == NULL ? ls_huggingface_generation_write(&self->ids) : NULL,
        kept[LS_KEPT_TOKENIZER] == NULL
            ? ls_huggingface_tokenizer_config_write(bos, eos, self->source.config.max_position_embeddings)
            : NULL};
    ls_status status = LS_OK;
    for (int i = 0; i < LS_KEPT_FILES && status == LS_OK; i++) {
        const char *text = texts[i] != NULL ? texts[i] : kept[i];
        if (text != NULL) status = write_text(folder, ls_kept_names[i], text);
    }
    for (int i = 0; i < LS_KEPT_FILES; i++) free(texts[i]);
    free(bos);
    free(eos);
    return status;
}

ls_status ls_export_folder(const ls_export *self, const char *folder, ls_progress *progress)
{
    const size_t piece = ls_weight_source_piece(&self->source.table);
    copying c = {.self = self, .buffer = malloc(piece), .scratch = malloc(piece), .progress = progress};
    char *tokenizer = ls_export_tokenizer_text(self);
    ls_status status = c.buffer == NULL || c.scratch == NULL
                           ? LS_FAIL(LS_NO_MEMORY, "not enough memory to copy weights through")
                           : write_configs(self, folder);
    if (status == LS_OK) status = write_text(folder, "tokenizer.json", tokenizer);
    if (status == LS_OK) status = write_weights(&c, folder);
    free(tokenizer);
    free(c.buffer);
    free(c.scratch);
    return status;
}

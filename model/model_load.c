/* A model for inference, read from wherever its weights are: ls_model_load of model_file.h. */
#include "core/text.h"
#include "model/model_file.h"
#include "model/weight_source.h"

#include <stdlib.h>
#include <string.h>

/* What the weights pass through: stored type, fp32, fp32 in the exec's memory. */
typedef struct staging {
    void *stored;
    float *values;
    void *device;
    size_t bytes; /* of each */
} staging;

static ls_status load_parameter(const ls_model *model, const ls_weight_source *source, int number, const staging *at)
{
    ls_exec *exec = model->exec;
    const ls_parameter *entry = &model->table.entries[number];
    const int64_t most = ls_weight_source_rows(entry);
    for (int64_t row = 0; row < entry->rows; row += most) {
        const int64_t rows = entry->rows - row < most ? entry->rows - row : most, count = rows * entry->cols;
        const size_t place = (size_t)(entry->offset + row * entry->cols) * ls_dtype_size(model->dtype);
        LS_TRY(ls_weight_source_read_float(source, number, row, rows, at->values, at->stored));
        LS_TRY(ls_exec_upload(exec, at->device, at->values, sizeof(float) * (size_t)count));
        exec->ops->convert(exec, (unsigned char *)model->weights + place, model->dtype, at->device, LS_F32, count);
        LS_TRY(ls_exec_failed(exec));
    }
    return LS_OK;
}

/* A few rows at a time: the fp32 copy never exists whole. */
static ls_status read_weights(ls_model *model, const ls_weight_source *source)
{
    staging at = {.bytes = ls_weight_source_piece(&model->table)};
    at.stored = malloc(at.bytes);
    at.values = malloc(at.bytes);
    ls_status status = at.stored == NULL || at.values == NULL
                           ? LS_FAIL(LS_NO_MEMORY, "cannot get memory to read the weights through")
                           : LS_OK;
    if (status == LS_OK) status = ls_exec_allocate(model->exec, &at.device, at.bytes, "reading the weights");
    for (int i = 0; i < model->table.count && status == LS_OK; i++) status = load_parameter(model, source, i, &at);
    if (status == LS_OK) status = ls_exec_status(model->exec);
    if (at.device != NULL) ls_exec_free(model->exec, at.device, at.bytes);
    free(at.values);
    free(at.stored);
    return status;
}

ls_status ls_model_load(ls_model *out, char **tokenizer, ls_exec *exec, const char *path, ls_dtype dtype)
{
    ls_weight_source source;
    *out = (ls_model){0};
    *tokenizer = NULL;
    LS_TRY(ls_weight_source_open(&source, path, NULL));
    ls_status status = ls_model_create(out, exec, &source.config, dtype);
    if (status == LS_OK) {
        status = read_weights(out, &source);
        if (status != LS_OK) ls_model_destroy(out);
    }
    if (status == LS_OK) *tokenizer = ls_text_copy(source.tokenizer, strlen(source.tokenizer));
    ls_weight_source_close(&source);
    return status;
}

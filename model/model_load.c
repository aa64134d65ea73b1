/* A model for inference, read from a file: ls_model_load of model_file.h. */
#include "model/model_file.h"

#include <stdlib.h>

static size_t largest_parameter_bytes(const ls_parameter_table *table)
{
    int64_t largest = 0;
    for (int i = 0; i < table->count; i++) {
        const int64_t count = table->entries[i].rows * table->entries[i].cols;
        if (count > largest) largest = count;
    }
    return (size_t)largest * sizeof(float);
}

/* One parameter at a time through staging buffers, the host's and the exec's: the fp32 copy never exists whole. */
static ls_status read_weights(ls_model *model, hid_t file, const char *path)
{
    ls_exec *exec = model->exec;
    const size_t bytes = largest_parameter_bytes(&model->table);
    void *staging = NULL, *values = malloc(bytes);
    ls_status status = values == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory to read the weights through") : LS_OK;
    if (status == LS_OK) status = ls_exec_allocate(exec, &staging, bytes, "reading the weights");
    if (status != LS_OK) goto done;
    for (int i = 0; i < model->table.count; i++) {
        const ls_parameter *entry = &model->table.entries[i];
        const int64_t count = entry->rows * entry->cols;
        LS_TRY_GOTO(ls_parameter_read(file, path, "parameters", entry, values), done);
        LS_TRY_GOTO(ls_exec_upload(exec, staging, values, sizeof(float) * (size_t)count), done);
        unsigned char *out = (unsigned char *)model->weights + (size_t)entry->offset * ls_dtype_size(model->dtype);
        exec->ops->convert(exec, out, model->dtype, staging, LS_F32, count);
        LS_TRY_GOTO(ls_exec_failed(exec), done);
    }
    status = ls_exec_status(exec);
done:
    ls_exec_free(exec, staging, bytes);
    free(values);
    return status;
}

static ls_status load_from(ls_model *out, char **tokenizer, ls_exec *exec, hid_t file, const char *path, ls_dtype dtype)
{
    ls_model_config config;
    LS_TRY(ls_model_config_read(file, path, &config));
    LS_TRY(ls_hdf5_read_text(file, path, "tokenizer", tokenizer));
    ls_status status = ls_model_create(out, exec, &config, dtype);
    if (status == LS_OK) {
        status = read_weights(out, file, path);
        if (status != LS_OK) ls_model_destroy(out);
    }
    if (status != LS_OK) {
        free(*tokenizer);
        *tokenizer = NULL;
    }
    return status;
}

ls_status ls_model_load(ls_model *out, char **tokenizer, ls_exec *exec, const char *path, ls_dtype dtype)
{
    char *found;
    hid_t file;
    *out = (ls_model){0};
    *tokenizer = NULL;
    LS_TRY(ls_checkpoint_find(&found, path));
    ls_status status = ls_hdf5_open(&file, found, "checkpoint");
    if (status == LS_OK) {
        status = load_from(out, tokenizer, exec, file, found, dtype);
        (void)H5Fclose(file);
    }
    free(found);
    return status;
}

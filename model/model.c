/* Allocates a model: the weight block in compute type and the rotation tables. */
#include "model/model.h"

#include "model/rotation.h"

#include <math.h>
#include <stdlib.h>

static size_t weight_bytes(const ls_model *model)
{
    return (size_t)model->table.elements * ls_dtype_size(model->dtype);
}

static size_t rope_bytes(const ls_model *model)
{
    return sizeof(float) * (size_t)(model->config.max_position_embeddings * (model->config.head_dim / 2));
}

/* Row p, column i: cosine and sine of the angle of pair i at position p, which is rounded to fp32 (rotation.h). */
static void fill_rope(const ls_model_config *config, float *cosine, float *sine)
{
    const int64_t half = config->head_dim / 2;
    float frequency[LS_HEAD_DIM_MAX / 2];
    ls_rotation_frequencies(frequency, config);
    for (int64_t p = 0; p < config->max_position_embeddings; p++)
        for (int64_t i = 0; i < half; i++) {
            const float angle = (float)p * frequency[i];
            cosine[p * half + i] = (float)cos((double)angle);
            sine[p * half + i] = (float)sin((double)angle);
        }
}

static ls_status upload_rope(const ls_model *model)
{
    const size_t bytes = rope_bytes(model);
    float *tables = malloc(2 * bytes);
    if (tables == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the rotation tables");
    float *sine = tables + bytes / sizeof *tables;
    fill_rope(&model->config, tables, sine);
    ls_status status = ls_exec_upload(model->exec, model->rope_cos, tables, bytes);
    if (status == LS_OK) status = ls_exec_upload(model->exec, model->rope_sin, sine, bytes);
    free(tables);
    return status;
}

ls_status ls_model_create(ls_model *out, ls_exec *exec, const ls_model_config *config, ls_dtype dtype)
{
    return ls_model_create_for(out, exec, config, dtype, 1);
}

ls_status ls_model_create_for(ls_model *out, ls_exec *exec, const ls_model_config *config, ls_dtype dtype,
                              int processes)
{
    ls_status status;
    void *block;
    *out = (ls_model){.exec = exec, .config = *config, .dtype = dtype};
    LS_TRY(ls_parameter_table_create_for(&out->table, config, processes));
    LS_TRY_GOTO(ls_exec_allocate(exec, &out->weights, weight_bytes(out), "the weights"), fail);
    LS_TRY_GOTO(ls_exec_allocate(exec, &block, rope_bytes(out), "the rotation tables"), fail);
    out->rope_cos = block;
    LS_TRY_GOTO(ls_exec_allocate(exec, &block, rope_bytes(out), "the rotation tables"), fail);
    out->rope_sin = block;
    LS_TRY_GOTO(upload_rope(out), fail);
    return LS_OK;
fail:
    ls_model_destroy(out);
    return status;
}

void ls_model_destroy(ls_model *model)
{
    if (model->exec == NULL) return;
    if (model->weights != NULL) ls_exec_free(model->exec, model->weights, weight_bytes(model));
    if (model->rope_cos != NULL) ls_exec_free(model->exec, model->rope_cos, rope_bytes(model));
    if (model->rope_sin != NULL) ls_exec_free(model->exec, model->rope_sin, rope_bytes(model));
    ls_parameter_table_destroy(&model->table);
    *model = (ls_model){0};
}

const void *ls_model_weight(const ls_model *model, int64_t offset)
{
    return (const unsigned char *)model->weights + (size_t)offset * ls_dtype_size(model->dtype);
}

double ls_model_training_flops_per_token(const ls_model_config *config, int64_t T)
{
    const double C = (double)config->hidden_size, F = (double)config->intermediate_size;
    const double H = (double)config->num_attention_heads, G = (double)config->num_key_value_heads;
    const double D = (double)config->head_dim, L = (double)config->num_hidden_layers;
    const double block = (H + 2.0 * G) * D * C + C * H * D + 3.0 * F * C;
    const double head = (double)config->vocab_size * C;
    return 6.0 * (L * block + head) + 6.0 * (double)T * H * D * L;
}

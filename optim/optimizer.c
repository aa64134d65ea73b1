/* AdamW over the parameter block, as loops over the table.
 *
 * Blocks are walked in runs of neighbouring parameters that share their decay; the zero padding between parameters
 * belongs to a run and stays zero, as its weights and gradients are. Called by train/trainer.c. */
#include "optim/optimizer.h"

#include <math.h>
#include <string.h>

static size_t block_bytes(const ls_optimizer *optimizer)
{
    return sizeof(float) * (size_t)optimizer->model->table.elements;
}

ls_status ls_optimizer_create(ls_optimizer *out, ls_model *model, const ls_optimizer_options *options)
{
    memset(out, 0, sizeof *out);
    out->options = *options;
    out->model = model;
    struct {
        void *memory;
        float **place;
        const char *what;
    } blocks[] = {
        {NULL, &out->moment1, "the first moments"},
        {NULL, &out->moment2, "the second moments"},
        {NULL, &out->gradients, "the gradients"},
        {NULL, &out->master, "the master weights"},
    };
    const size_t own = model->dtype == LS_F32 ? 3 : 4;
    for (size_t i = 0; i < own; i++) {
        const ls_status status = ls_exec_allocate(model->exec, &blocks[i].memory, block_bytes(out), blocks[i].what);
        if (status != LS_OK) {
            ls_optimizer_destroy(out);
            return status;
        }
        *blocks[i].place = blocks[i].memory;
    }
    if (own == 3) out->master = model->weights;
    void *squares;
    const ls_status status = ls_exec_allocate(model->exec, &squares, sizeof *out->squares, "the gradient norm");
    out->squares = squares;
    if (status != LS_OK) ls_optimizer_destroy(out);
    return status;
}

void ls_optimizer_destroy(ls_optimizer *optimizer)
{
    if (optimizer->model == NULL) return;
    ls_exec *exec = optimizer->model->exec;
    const size_t bytes = block_bytes(optimizer);
    if (optimizer->master != optimizer->model->weights) ls_exec_free(exec, optimizer->master, bytes);
    ls_exec_free(exec, optimizer->squares, sizeof *optimizer->squares);
    ls_exec_free(exec, optimizer->gradients, bytes);
    ls_exec_free(exec, optimizer->moment2, bytes);
    ls_exec_free(exec, optimizer->moment1, bytes);
    memset(optimizer, 0, sizeof *optimizer);
}

void ls_optimizer_publish(ls_optimizer *optimizer)
{
    ls_model *model = optimizer->model;
    if (model->dtype == LS_F32) return;
    model->exec->ops->convert(model->exec, model->weights, model->dtype, optimizer->master, LS_F32,
                              model->table.elements);
}

ls_status ls_optimizer_initialize(ls_optimizer *optimizer, uint64_t seed)
{
    ls_model *model = optimizer->model;
    LS_TRY(ls_parameters_initialize(model->exec, optimizer->master, &model->table, &model->config, seed));
    ls_optimizer_publish(optimizer);
    return ls_exec_status(model->exec);
}

/* In pieces, so that little memory is needed when things have gone wrong already. */
ls_status ls_optimizer_gradient_finite(const ls_optimizer *optimizer, const ls_parameter *entry, bool *finite)
{
    enum { PIECE = 4096 };
    float values[PIECE];
    const float *gradient = optimizer->gradients + entry->offset;
    const int64_t count = entry->rows * entry->cols;
    *finite = true;
    for (int64_t first = 0; first < count && *finite; first += PIECE) {
        const int64_t here = count - first < PIECE ? count - first : PIECE;
        LS_TRY(ls_exec_download(optimizer->model->exec, values, gradient + first, sizeof(float) * (size_t)here));
        for (int64_t i = 0; i < here; i++) *finite = *finite && isfinite(values[i]);
    }
    return LS_OK;
}

static const char *first_not_finite(const ls_optimizer *optimizer)
{
    const ls_parameter_table *table = &optimizer->model->table;
    for (int i = 0; i < table->count; i++) {
        bool finite;
        if (ls_optimizer_gradient_finite(optimizer, &table->entries[i], &finite) != LS_OK) break;
        if (!finite) return table->entries[i].name;
    }
    return "an unnamed parameter";
}

static double entry_decay(const ls_optimizer_options *options, const ls_parameter *entry)
{
    if (entry->is_norm || entry->is_bias || (entry->is_embedding && !options->decay_embeddings)) return 0.0;
    return options->weight_decay;
}

/* Updates elements start..end-1. */
static void update_run(ls_optimizer *optimizer, const ls_adamw_step *step, int64_t start, int64_t end)
{
    ls_model *model = optimizer->model;
    unsigned char *weights = model->weights;
    model->exec->ops->adamw(model->exec, optimizer->master + start, optimizer->moment1 + start,
                            optimizer->moment2 + start, optimizer->gradients + start,
                            weights + (size_t)start * ls_dtype_size(model->dtype), model->dtype, step, end - start);
}

ls_status ls_optimizer_step(ls_optimizer *optimizer, double learning_rate, double *gradient_norm)
{
    ls_model *model = optimizer->model;
    const ls_parameter_table *table = &model->table;
    const ls_optimizer_options *options = &optimizer->options;
    double squares = 0.0;
    model->exec->ops->sum_of_squares(model->exec, optimizer->squares, optimizer->gradients, table->elements);
    LS_TRY(ls_exec_status(model->exec));
    LS_TRY(ls_exec_download(model->exec, &squares, optimizer->squares, sizeof squares));
    *gradient_norm = sqrt(squares);
    if (!isfinite(*gradient_norm))
        return LS_FAIL(LS_NOT_FINITE, "the gradient of %s is not finite", first_not_finite(optimizer));

    const bool clip = options->clip_norm > 0.0 && *gradient_norm > options->clip_norm;
    const double update = (double)++optimizer->updates;
    ls_adamw_step step = {
        .learning_rate = (float)learning_rate,
        .beta1 = (float)options->beta1,
        .beta2 = (float)options->beta2,
        .epsilon = (float)options->epsilon,
        .gradient_scale = clip ? (float)(options->clip_norm / *gradient_norm) : 1.0f,
        .bias_correction1 = (float)(1.0 - pow(options->beta1, update)),
        .bias_correction2 = (float)(1.0 - pow(options->beta2, update)),
    };
    int64_t start = 0;
    for (int i = 0; i < table->count; i++) {
        const double decay = entry_decay(options, &table->entries[i]);
        const bool last = i + 1 == table->count;
        if (!last && entry_decay(options, &table->entries[i + 1]) == decay) continue;
        const int64_t end = last ? table->elements : table->entries[i + 1].offset;
        step.weight_decay = (float)decay;
        update_run(optimizer, &step, start, end);
        start = end;
    }
    return ls_exec_failed(model->exec);
}

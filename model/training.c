/* A whole pass: embedding, blocks, exits and back. The plan is executed, never questioned. */
#include "model/training.h"

#include "model/activations.h"
#include "model/block.h"
#include "model/exit_head.h"

#include <math.h>
#include <stdlib.h>

struct ls_training {
    const ls_model *model;
    ls_activations activations;
    ls_backward_watch watch;
    double *sums; /* [L] on the host */
};

/* Lets the device set aside what the largest pass wants: everybody survives, every exit is on. */
static ls_status rehearse(ls_training *training, int64_t B, int64_t T);

ls_status ls_training_create(ls_training **out, const ls_model *model, int64_t B, int64_t T, bool recompute)
{
    *out = NULL;
    ls_training *training = calloc(1, sizeof *training);
    if (training == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for training");
    training->model = model;
    training->sums = calloc((size_t)model->config.num_hidden_layers, sizeof *training->sums);
    ls_status status = training->sums == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for the losses") : LS_OK;
    if (status == LS_OK) status = ls_activations_create(&training->activations, model, B, T, recompute);
    if (status != LS_OK) {
        free(training->sums);
        free(training);
        return status;
    }
    if (ls_exec_rehearse_begin(model->exec)) {
        status = rehearse(training, B, T);
        const ls_status ended = ls_exec_rehearse_end(model->exec);
        if (status == LS_OK) status = ended;
        if (status != LS_OK) {
            ls_training_destroy(training);
            return status;
        }
    }
    *out = training;
    return LS_OK;
}

void ls_training_destroy(ls_training *training)
{
    if (training == NULL) return;
    ls_activations_destroy(&training->activations, training->model->exec);
    free(training->sums);
    free(training);
}

void ls_training_watch(ls_training *training, ls_backward_watch watch) { training->watch = watch; }

size_t ls_training_bytes(const ls_training *training)
{
    return training->activations.tensor_bytes + training->activations.list_bytes;
}

static ls_block_pass block_pass(const ls_training *training, const ls_batch *batch, const ls_step_plan *plan, int layer)
{
    return (ls_block_pass){.model = training->model,
                           .activations = &training->activations,
                           .layer = layer,
                           .T = batch->T,
                           .scale = plan->residual_scale[layer]};
}

/* The highest exit that is on, -1 when none is: blocks above it have no part in the loss. */
static int top_exit(const ls_step_plan *plan)
{
    int top = plan->layers - 1;
    while (top >= 0 && !(plan->exit_weight[top] > 0.0f)) top--;
    return top;
}

static void forward(const ls_training *training, const ls_batch *batch, const ls_step_plan *plan)
{
    const ls_model *model = training->model;
    const ls_activations *a = &training->activations;
    /* Slots 0..B-1 are the first B slabs, so the embedding's rows land in them as they come. */
    model->exec->ops->embedding_forward(model->exec, a->residual, a->tokens,
                                        ls_model_weight(model, model->table.embedding), model->dtype,
                                        batch->B * batch->T, model->config.vocab_size, model->config.hidden_size);
    const int top = top_exit(plan);
    for (int l = 0; l <= top; l++) {
        ls_block_pass pass = block_pass(training, batch, plan, l);
        pass.entered = a->survivors[l].as_below;
        pass.enters_next = l < top && a->survivors[l + 1].as_below;
        ls_block_forward(&pass);
    }
}

/* The block whose saved tensors the forward pass left last in the buffers that recomputation shares. */
static int newest_block(const ls_activations *a, const ls_step_plan *plan)
{
    int newest = top_exit(plan);
    while (newest >= 0 && a->survivors[newest].count == 0) newest--;
    return newest;
}

static int lowest_exit(const ls_step_plan *plan)
{
    int l = 0;
    while (l < plan->layers && !(plan->exit_weight[l] > 0.0f)) l++;
    return l;
}

static void tell(const ls_training *training, int part)
{
    if (training->watch.complete != NULL) training->watch.complete(training->watch.context, part);
}

void ls_training_tell(const ls_training *training, const ls_step_plan *plan)
{
    for (int l = plan->layers - 1; l >= 0; l--) {
        if (l == lowest_exit(plan)) tell(training, plan->layers);
        tell(training, l);
    }
    tell(training, LS_PART_EMBEDDING);
}

/* The first element of a part's gradients. */
static float *place_of(const ls_training *training, float *gradients, int part)
{
    if (training->watch.place != NULL) return training->watch.place(training->watch.context, part);
    return gradients + ls_parameter_part(&training->model->table, part);
}

static void exit_backward(const ls_training *training, float *gradients, int layer, float scale)
{
    const ls_parameter_table *table = &training->model->table;
    ls_exit_gradients places = {.norm = place_of(training, gradients, table->layer_count)};
    places.head = table->head == table->embedding ? place_of(training, gradients, LS_PART_EMBEDDING)
                                                  : places.norm + (table->head - table->final_norm);
    ls_exit_head_run(training->model, &training->activations, &places, layer, scale);
}

/* From the top down: exit l adds its gradient with respect to x[l+1], then block l turns it into that of x[l]. A sample
 * dropped in l keeps its gradient as it is, as its residual did. */
static void backward(const ls_training *training, float *gradients, const ls_batch *batch, const ls_step_plan *plan,
                     double target_count)
{
    const ls_model *model = training->model;
    const ls_activations *a = &training->activations;
    const int64_t rows = batch->B * batch->T, C = model->config.hidden_size;
    const int newest = newest_block(a, plan);
    ls_exec_clear(model->exec, a->dresidual, rows * C);
    for (int l = plan->layers - 1; l > top_exit(plan); l--) tell(training, l);
    for (int l = top_exit(plan); l >= 0; l--) {
        const ls_block_pass pass = block_pass(training, batch, plan, l);
        if (plan->exit_weight[l] > 0.0f)
            exit_backward(training, gradients, l, (float)((double)plan->exit_weight[l] / target_count));
        if (l == lowest_exit(plan)) tell(training, plan->layers);
        if (a->recompute && l != newest) ls_block_recompute(&pass);
        ls_block_backward(&pass, place_of(training, gradients, l));
        tell(training, l);
    }
    model->exec->ops->embedding_backward(model->exec, place_of(training, gradients, LS_PART_EMBEDDING), a->dresidual,
                                         a->tokens, rows, model->config.vocab_size, C);
    tell(training, LS_PART_EMBEDDING);
}

/* The first exit with a bad loss is named: it stands nearest to where the trouble began. */
static ls_status collect_losses(const double *sums, double *exit_loss, const ls_step_plan *plan)
{
    ls_status status = LS_OK;
    for (int l = 0; l < plan->layers; l++) {
        if (!(plan->exit_weight[l] > 0.0f)) continue;
        exit_loss[l] = *sums++;
        if (!isfinite(exit_loss[l]) && status == LS_OK)
            status = LS_FAIL(LS_NOT_FINITE, "the loss of the exit at layer %d is %s", l,
                             isnan(exit_loss[l]) ? "not a number" : "infinite");
    }
    return status;
}

ls_status ls_training_issue(ls_training *training, double *sums, float *gradients, const ls_batch *batch,
                            const ls_step_plan *plan, double target_count)
{
    const ls_model *model = training->model;
    const ls_exit_rows *rows = &training->activations.rows;
    if (!(target_count > 0.0)) return LS_FAIL(LS_BAD_INPUT, "the batch has no target tokens");
    LS_TRY(ls_activations_prepare(&training->activations, model, batch, plan));
    forward(training, batch, plan);
    if (gradients != NULL || training->watch.place != NULL)
        backward(training, gradients, batch, plan, target_count);
    else
        for (int l = 0; l < plan->layers; l++)
            if (plan->exit_weight[l] > 0.0f) ls_exit_head_run(model, &training->activations, NULL, l, 0.0f);
    model->exec->ops->row_sums(model->exec, sums, rows->losses, rows->exits, rows->padded);
    return ls_exec_failed(model->exec);
}

ls_status ls_training_run(ls_training *training, double *exit_loss, float *gradients, const ls_batch *batch,
                          const ls_step_plan *plan, double target_count)
{
    ls_exec *exec = training->model->exec;
    double *sums = training->activations.rows.sums;
    LS_TRY(ls_training_issue(training, sums, gradients, batch, plan, target_count));
    LS_TRY(ls_exec_download(exec, training->sums, sums, sizeof *sums * (size_t)plan->layers));
    LS_TRY(ls_exec_failed(exec));
    return collect_losses(training->sums, exit_loss, plan);
}

ls_status ls_training_row_losses(ls_training *training, float *losses)
{
    const ls_exit_rows *rows = &training->activations.rows;
    for (int e = 0; e < rows->exits; e++)
        LS_TRY(ls_exec_download(training->model->exec, losses + e * rows->count, rows->losses + e * rows->padded,
                                sizeof *losses * (size_t)rows->count));
    return ls_exec_failed(training->model->exec);
}

static ls_status rehearse(ls_training *training, int64_t B, int64_t T)
{
    const ls_model *model = training->model;
    ls_step_plan plan;
    LS_TRY(ls_step_plan_create(&plan, (int)model->config.num_hidden_layers, (int)B));
    ls_step_plan_set_plain(&plan);
    for (int l = 0; l < plan.layers; l++) plan.exit_weight[l] = 1.0f;
    int32_t *tokens = calloc((size_t)(B * T), sizeof *tokens);
    ls_status status = tokens == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for a rehearsal") : LS_OK;
    const ls_batch batch = {.B = B, .T = T, .tokens = tokens, .targets = tokens};
    if (status == LS_OK) status = ls_activations_prepare(&training->activations, model, &batch, &plan);
    if (status == LS_OK) {
        forward(training, &batch, &plan);
        backward(training, training->activations.dresidual, &batch, &plan, 1.0); /* no gradient is written */
        status = ls_exec_failed(model->exec);
    }
    free(tokens);
    ls_step_plan_destroy(&plan);
    return status;
}

/* The exit head in row chunks: see exit_head.h. */
#include "model/exit_head.h"

/* Rows first .. first+count-1 of the lists. Padding rows (no target) share the products but not the norm's backward,
 * which wants each row once; they come last, so `real` of the rows are to be differentiated. */
static void run_chunk(const ls_model *model, const ls_activations *a, const ls_exit_gradients *gradients, int layer,
                      float gradient_scale, int64_t first, int64_t count)
{
    ls_exec *exec = model->exec;
    const ls_backend *ops = exec->ops;
    const ls_dtype dtype = model->dtype, logits_dtype = gradients == NULL ? LS_F32 : dtype;
    const int64_t C = model->config.hidden_size, V = model->config.vocab_size;
    const int64_t left = a->rows.count - first, real = left < count ? left : count;
    const int32_t *slot = a->rows.slot[layer] + first;
    const void *norm = ls_model_weight(model, model->table.final_norm);
    const void *head = ls_model_weight(model, model->table.head);

    /* logits[count,V] = normed[count,C] head[V,C]^T */
    ops->rmsnorm_forward(exec, a->head_normed, a->head_rstd, a->residual, slot, norm, dtype, count, 1, C,
                         (float)model->config.rms_norm_eps);
    ops->matmul(exec, a->logits, logits_dtype, a->head_normed, head, dtype, count, V, C, LS_TRANSPOSE_B);
    ops->cross_entropy(exec, a->rows.loss[layer] + first, a->logits, a->rows.target + first, logits_dtype,
                       gradients == NULL ? 0.0f : gradient_scale, count, V);
    if (gradients == NULL) return;
    /* dhead[V,C] += dlogits[count,V]^T normed[count,C];  dnormed[count,C] = dlogits[count,V] head[V,C] */
    ops->matmul(exec, gradients->head, LS_F32, a->logits, a->head_normed, dtype, V, C, count,
                LS_TRANSPOSE_A | LS_ACCUMULATE);
    ops->matmul(exec, a->head_dnormed, dtype, a->logits, head, dtype, count, C, V, 0);
    ops->rmsnorm_backward(exec, a->dresidual, gradients->norm, a->head_dnormed, a->residual, slot,
                          a->rows.sample + first, a->head_rstd, norm, dtype, real, 1, C);
}

void ls_exit_head_run(const ls_model *model, const ls_activations *a, const ls_exit_gradients *gradients, int layer,
                      float gradient_scale)
{
    /* A weight too small for fp32 leaves no gradient; the cross-entropy would leave the logits standing. */
    if (gradient_scale == 0.0f) gradients = NULL;
    /* Where only the loss is wanted the logits stay fp32, in the same memory: fewer rows at a time. */
    const int64_t chunk = gradients == NULL && model->dtype == LS_BF16 ? a->rows.chunk / 2 : a->rows.chunk;
    for (int64_t first = 0; first < a->rows.padded; first += chunk) {
        const int64_t left = a->rows.padded - first;
        run_chunk(model, a, gradients, layer, gradient_scale, first, left < chunk ? left : chunk);
    }
}

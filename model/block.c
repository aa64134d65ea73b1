/* One transformer block: see block.h. Every product says its equation; shapes are in activations.h. */
#include "model/block.h"

#include <math.h>

/* The names that every step below uses. */
typedef struct block_view {
    ls_exec *exec;
    const ls_backend *ops;
    const ls_model *model;
    const ls_activations *act;
    const ls_saved_block *saved;
    const ls_survivors *who;
    const ls_layer_offsets *at;
    ls_dtype dtype;
    const int32_t *positions, *first_key; /* [B,T], or NULL where they say nothing */
    int64_t n, T, R, C, F, D, H, G, QKV;  /* R = n*T, QKV = (H+2G)*D */
    float attention_scale, epsilon, scale;
    bool entered, enters_next;
} block_view;

static block_view view_of(const ls_block_pass *pass)
{
    const ls_model_config *config = &pass->model->config;
    const ls_survivors *who = &pass->activations->survivors[pass->layer];
    return (block_view){
        .exec = pass->model->exec,
        .ops = pass->model->exec->ops,
        .model = pass->model,
        .act = pass->activations,
        .saved = &pass->activations->blocks[pass->layer],
        .who = who,
        .at = &pass->model->table.layers[pass->layer],
        .dtype = pass->model->dtype,
        .positions = pass->activations->renumbered ? pass->activations->positions : NULL,
        .first_key = pass->activations->documents ? pass->activations->first_key : NULL,
        .n = who->count,
        .T = pass->T,
        .R = who->count * pass->T,
        .C = config->hidden_size,
        .F = config->intermediate_size,
        .D = config->head_dim,
        .H = config->num_attention_heads,
        .G = config->num_key_value_heads,
        .QKV = (config->num_attention_heads + 2 * config->num_key_value_heads) * config->head_dim,
        .attention_scale = (float)(1.0 / sqrt((double)config->head_dim)),
        .epsilon = (float)config->rms_norm_eps,
        .scale = pass->scale,
        .entered = pass->entered,
        .enters_next = pass->enters_next,
    };
}

static const void *weight(const block_view *v, int64_t offset) { return ls_model_weight(v->model, offset); }

/* out[R,N] = x[R,K] W[N,K]^T */
static void project(const block_view *v, void *out, const void *x, int64_t offset, int64_t N, int64_t K)
{
    v->ops->matmul(v->exec, out, v->dtype, x, weight(v, offset), v->dtype, v->R, N, K, LS_TRANSPOSE_B);
}

/* out[R,N] = x[R,K] W[N,K]^T + b[N]; bias < 0: the model has none */
static void project_with_bias(const block_view *v, void *out, const void *x, int64_t offset, int64_t bias, int64_t N,
                              int64_t K)
{
    if (bias < 0)
        project(v, out, x, offset, N, K);
    else
        v->ops->matmul_bias(v->exec, out, x, weight(v, offset), weight(v, bias), v->dtype, v->R, N, K, LS_TRANSPOSE_B);
}

/* Of the layer's gradients, those of the weights at `offset`. */
static float *gradient(const block_view *v, float *gradients, int64_t offset)
{
    return gradients + (offset - v->at->input_norm);
}

/* db[N] += sum of dout[R,N] over rows */
static void add_bias_backward(const block_view *v, float *gradients, const void *dout, int64_t offset, int64_t N)
{
    if (offset >= 0) v->ops->bias_backward(v->exec, gradient(v, gradients, offset), dout, v->dtype, v->R, N);
}

/* dW[N,K] += dout[R,N]^T x[R,K];  dx[R,K] = dout[R,N] W[N,K] */
static void project_backward_weight(const block_view *v, float *gradients, const void *dout, const void *x,
                                    int64_t offset, int64_t N, int64_t K)
{
    v->ops->matmul(v->exec, gradient(v, gradients, offset), LS_F32, dout, x, v->dtype, N, K, v->R,
                   LS_TRANSPOSE_A | LS_ACCUMULATE);
}

static void project_backward_input(const block_view *v, void *dx, const void *dout, int64_t offset, int64_t N,
                                   int64_t K)
{
    v->ops->matmul(v->exec, dx, v->dtype, dout, weight(v, offset), v->dtype, v->R, K, N, 0);
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

static void attention_forward(const block_view *v)
{
    const ls_saved_block *s = v->saved;
    if (!v->entered)
        v->ops->rmsnorm_forward(v->exec, s->normed1, s->rstd1, v->act->residual, v->who->in_slot,
                                weight(v, v->at->input_norm), v->dtype, v->n, v->T, v->C, v->epsilon);
    project_with_bias(v, s->qkv, s->normed1, v->at->qkv, v->at->qkv_bias, v->QKV, v->C);
    v->ops->rope(v->exec, s->qkv, v->model->rope_cos, v->model->rope_sin, v->positions, v->who->sample, v->dtype, 0,
                 v->n, v->T, v->H, v->G, v->D);
    v->ops->attention_forward(v->exec, s->attention, s->lse, s->qkv, v->first_key, v->who->sample, v->dtype,
                              v->attention_scale, v->n, v->T, v->H, v->G, v->D);
    project_with_bias(v, v->act->y, s->attention, v->at->attention_out, v->at->attention_out_bias, v->C, v->H * v->D);
    v->ops->residual_add_rmsnorm(v->exec, v->act->residual, s->normed2, s->rstd2, v->who->mid_slot, v->who->in_slot,
                                 v->act->y, weight(v, v->at->post_norm), v->dtype, v->scale, v->n, v->T, v->C,
                                 v->epsilon);
}

static void gate_up_forward(const block_view *v)
{
    project(v, v->saved->gate_up, v->saved->normed2, v->at->gate_up, 2 * v->F, v->C);
}

static void down_forward(const block_view *v)
{
    v->ops->swiglu_forward(v->exec, v->act->act, v->saved->gate_up, v->dtype, v->R, v->F);
    project(v, v->act->y, v->act->act, v->at->down, v->C, v->F);
    if (!v->enters_next) {
        v->ops->residual_add(v->exec, v->act->residual, v->who->out_slot, v->who->mid_slot, v->act->y, v->dtype,
                             v->scale, v->n, v->T, v->C);
        return;
    }
    const ls_saved_block *next = v->saved + 1; /* of the next layer, as v->at + 1 */
    v->ops->residual_add_rmsnorm(v->exec, v->act->residual, next->normed1, next->rstd1, v->who->out_slot,
                                 v->who->mid_slot, v->act->y, weight(v, v->at[1].input_norm), v->dtype, v->scale, v->n,
                                 v->T, v->C, v->epsilon);
}

void ls_block_forward(const ls_block_pass *pass)
{
    const block_view v = view_of(pass);
    if (v.n == 0) return;
    attention_forward(&v);
    gate_up_forward(&v);
    down_forward(&v);
}

void ls_block_recompute(const ls_block_pass *pass)
{
    const block_view v = view_of(pass);
    if (v.n == 0) return;
    attention_forward(&v);
    gate_up_forward(&v);
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* x' = a + s * Wdown . swiglu(gate_up): dgate_up takes the place of gate_up, d/dx' becomes d/da. */
static void mlp_backward(const block_view *v, float *gradients)
{
    const ls_saved_block *s = v->saved;
    void *const dy = v->act->y, *const act = v->act->act, *const dnormed = v->act->dnormed;
    v->ops->gather_cast(v->exec, dy, v->act->dresidual, v->who->sample, v->dtype, v->scale, v->n, v->T, v->C);
    project_backward_input(v, act, dy, v->at->down, v->C, v->F);
    v->ops->swiglu_backward(v->exec, s->gate_up, act, act, s->gate_up, v->dtype, v->R, v->F);
    project_backward_weight(v, gradients, dy, act, v->at->down, v->C, v->F);
    project_backward_weight(v, gradients, s->gate_up, s->normed2, v->at->gate_up, 2 * v->F, v->C);
    project_backward_input(v, dnormed, s->gate_up, v->at->gate_up, 2 * v->F, v->C);
    v->ops->rmsnorm_backward(v->exec, v->act->dresidual, gradient(v, gradients, v->at->post_norm), dnormed,
                             v->act->residual, v->who->mid_slot, v->who->sample, s->rstd2, weight(v, v->at->post_norm),
                             v->dtype, v->n, v->T, v->C);
}

/* a = x + s * (Wo . attention(rope(Wqkv . norm1(x) + bqkv)) + bo): d/da becomes d/dx. */
static void attention_backward(const block_view *v, float *gradients)
{
    const ls_saved_block *s = v->saved;
    void *const dy = v->act->y, *const dattention = v->act->dattention, *const dqkv = v->act->dqkv;
    void *const dnormed = v->act->dnormed;
    v->ops->gather_cast(v->exec, dy, v->act->dresidual, v->who->sample, v->dtype, v->scale, v->n, v->T, v->C);
    add_bias_backward(v, gradients, dy, v->at->attention_out_bias, v->C);
    project_backward_weight(v, gradients, dy, s->attention, v->at->attention_out, v->C, v->H * v->D);
    project_backward_input(v, dattention, dy, v->at->attention_out, v->C, v->H * v->D);
    v->ops->attention_backward(v->exec, dqkv, dattention, s->qkv, s->attention, s->lse, v->first_key, v->who->sample,
                               v->dtype, v->attention_scale, v->n, v->T, v->H, v->G, v->D);
    v->ops->rope(v->exec, dqkv, v->model->rope_cos, v->model->rope_sin, v->positions, v->who->sample, v->dtype, 1, v->n,
                 v->T, v->H, v->G, v->D);
    add_bias_backward(v, gradients, dqkv, v->at->qkv_bias, v->QKV);
    project_backward_weight(v, gradients, dqkv, s->normed1, v->at->qkv, v->QKV, v->C);
    project_backward_input(v, dnormed, dqkv, v->at->qkv, v->QKV, v->C);
    v->ops->rmsnorm_backward(v->exec, v->act->dresidual, gradient(v, gradients, v->at->input_norm), dnormed,
                             v->act->residual, v->who->in_slot, v->who->sample, s->rstd1, weight(v, v->at->input_norm),
                             v->dtype, v->n, v->T, v->C);
}

void ls_block_backward(const ls_block_pass *pass, float *gradients)
{
    const block_view v = view_of(pass);
    if (v.n == 0) return;
    mlp_backward(&v, gradients);
    attention_backward(&v, gradients);
}

/* A range of layers over the key/value cache: see decode.h.
 *
 * Up to LS_DECODE_ROWS rows go through matmul_rows, whose rows do not depend on each other; more (prefill) through the
 * full product, which is faster and may round otherwise. Logits always go by matmul_rows. Everything but the hidden
 * states and the token list lies in one block. */
#include "model/decode.h"

#include "core/memory.h"

#include <math.h>
#include <stdlib.h>

struct ls_decode {
    const ls_model *model;
    int64_t capacity, max_rows;
    /* compute type */
    void **key_cache;   /* [L] of [G,capacity,D] */
    void **value_cache; /* [L] of [G,capacity,D] */
    void *normed;       /* [max_rows,C] */
    void *qkv;          /* [max_rows,(H+2G)*D] */
    void *attention;    /* [max_rows,H*D] */
    void *branch;       /* [max_rows,C] */
    void *gate_up;      /* [max_rows,2F] */
    void *act;          /* [max_rows,F] */
    int32_t *tokens;    /* [max_rows] */
    int32_t *slot;      /* [1] the hidden states are one slab of R rows: slot 0 */
    void *block;
    size_t bytes;
};

static void lay_out(ls_decode *d, ls_arena *arena)
{
    const ls_model_config *config = &d->model->config;
    const size_t element = ls_dtype_size(d->model->dtype), R = (size_t)d->max_rows * element;
    const size_t C = (size_t)config->hidden_size, F = (size_t)config->intermediate_size;
    const size_t D = (size_t)config->head_dim, H = (size_t)config->num_attention_heads;
    const size_t G = (size_t)config->num_key_value_heads, cache = G * (size_t)d->capacity * D * element;
    for (int64_t l = 0; l < config->num_hidden_layers; l++) {
        d->key_cache[l] = ls_arena_take(arena, cache);
        d->value_cache[l] = ls_arena_take(arena, cache);
    }
    d->normed = ls_arena_take(arena, R * C);
    d->qkv = ls_arena_take(arena, R * (H + 2 * G) * D);
    d->attention = ls_arena_take(arena, R * H * D);
    d->branch = ls_arena_take(arena, R * C);
    d->gate_up = ls_arena_take(arena, R * 2 * F);
    d->act = ls_arena_take(arena, R * F);
    d->tokens = LS_TAKE(arena, int32_t, d->max_rows);
    d->slot = LS_TAKE(arena, int32_t, 1);
}

static ls_status allocate(ls_decode *d)
{
    const size_t L = (size_t)d->model->config.num_hidden_layers;
    d->key_cache = calloc(L, sizeof *d->key_cache);
    d->value_cache = calloc(L, sizeof *d->value_cache);
    if (d->key_cache == NULL || d->value_cache == NULL)
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the key/value cache");
    ls_arena measure = ls_arena_measure();
    lay_out(d, &measure);
    LS_TRY(ls_exec_allocate(d->model->exec, &d->block, measure.used, "the key/value cache"));
    d->bytes = measure.used;
    ls_arena arena = ls_arena_over(d->block, d->bytes);
    lay_out(d, &arena);
    return LS_OK;
}

/* Lets the device set aside what the last positions want, for a few rows and for many. */
static ls_status rehearse(ls_decode *decode);

ls_status ls_decode_create(ls_decode **out, const ls_model *model, int64_t capacity, int64_t max_rows)
{
    *out = NULL;
    const int64_t longest = model->config.max_position_embeddings;
    if (capacity < 1 || capacity > longest)
        return LS_FAIL(LS_BAD_INPUT, "%lld positions were asked for; this model's context holds 1 to %lld",
                       (long long)capacity, (long long)longest);
    if (max_rows < 1) return LS_FAIL(LS_BAD_INPUT, "decoding needs at least one row at a time");
    ls_decode *decode = calloc(1, sizeof *decode);
    if (decode == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for decoding");
    decode->model = model;
    decode->capacity = capacity;
    /* The logits' groups use the same buffers, so at least as many rows as a group has. */
    decode->max_rows = max_rows < LS_DECODE_ROWS ? LS_DECODE_ROWS : max_rows;
    ls_status status = allocate(decode);
    if (status == LS_OK && ls_exec_rehearse_begin(model->exec)) {
        status = rehearse(decode);
        const ls_status ended = ls_exec_rehearse_end(model->exec);
        if (status == LS_OK) status = ended;
    }
    if (status != LS_OK) {
        ls_decode_destroy(decode);
        return status;
    }
    *out = decode;
    return LS_OK;
}

void ls_decode_destroy(ls_decode *decode)
{
    if (decode == NULL) return;
    if (decode->block != NULL) ls_exec_free(decode->model->exec, decode->block, decode->bytes);
    free(decode->key_cache);
    free(decode->value_cache);
    free(decode);
}

static ls_status check_rows(const ls_decode *decode, int64_t R)
{
    if (R < 0 || R > decode->max_rows)
        return LS_FAIL(LS_INTERNAL, "%lld rows in one call, made for %lld", (long long)R, (long long)decode->max_rows);
    return LS_OK;
}

ls_status ls_decode_embed(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R)
{
    const ls_model *model = decode->model;
    LS_TRY(check_rows(decode, R));
    for (int64_t r = 0; r < R; r++)
        if (tokens[r] < 0 || tokens[r] >= model->config.vocab_size)
            return LS_FAIL(LS_BAD_INPUT, "token id %d is outside the model's vocabulary of %lld", (int)tokens[r],
                           (long long)model->config.vocab_size);
    LS_TRY(ls_exec_upload(model->exec, decode->tokens, tokens, sizeof *tokens * (size_t)R));
    return ls_decode_embed_there(decode, hidden, decode->tokens, R);
}

ls_status ls_decode_embed_there(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R)
{
    const ls_model *model = decode->model;
    model->exec->ops->embedding_forward(model->exec, hidden, tokens, ls_model_weight(model, model->table.embedding),
                                        model->dtype, R, model->config.vocab_size, model->config.hidden_size);
    return ls_exec_failed(model->exec);
}

/* out[R,N] = x[R,K] W[N,K]^T */
static void project(const ls_decode *d, void *out, const void *x, int64_t offset, int64_t R, int64_t N, int64_t K)
{
    ls_exec *exec = d->model->exec;
    const ls_dtype dtype = d->model->dtype;
    const void *weight = ls_model_weight(d->model, offset);
    if (R <= LS_DECODE_ROWS)
        exec->ops->matmul_rows(exec, out, dtype, x, weight, dtype, R, N, K);
    else
        exec->ops->matmul(exec, out, dtype, x, weight, dtype, R, N, K, LS_TRANSPOSE_B);
}

/* out[R,N] = x[R,K] W[N,K]^T + b[N]; bias < 0: the model has none. Many rows round once, as in training; few, whose
 * rows do not depend on each other, round the product first. */
static void project_with_bias(const ls_decode *d, void *out, const void *x, int64_t offset, int64_t bias, int64_t R,
                              int64_t N, int64_t K)
{
    ls_exec *exec = d->model->exec;
    const ls_dtype dtype = d->model->dtype;
    if (bias >= 0 && R > LS_DECODE_ROWS) {
        exec->ops->matmul_bias(exec, out, x, ls_model_weight(d->model, offset), ls_model_weight(d->model, bias), dtype,
                               R, N, K, LS_TRANSPOSE_B);
        return;
    }
    project(d, out, x, offset, R, N, K);
    if (bias >= 0) exec->ops->bias_add(exec, out, ls_model_weight(d->model, bias), dtype, R, N);
}

static void norm(const ls_decode *d, const float *hidden, int64_t offset, int64_t R)
{
    const ls_model *model = d->model;
    model->exec->ops->rmsnorm_forward(model->exec, d->normed, NULL, hidden, d->slot, ls_model_weight(model, offset),
                                      model->dtype, 1, R, model->config.hidden_size, (float)model->config.rms_norm_eps);
}

static void add_branch(const ls_decode *d, float *hidden, int64_t R)
{
    const ls_model *model = d->model;
    model->exec->ops->residual_add(model->exec, hidden, d->slot, d->slot, d->branch, model->dtype, 1.0f, 1, R,
                                   model->config.hidden_size);
}

/* The same and the norm of the sum, in one pass. */
static void add_branch_and_norm(const ls_decode *d, float *hidden, int64_t offset, int64_t R)
{
    const ls_model *model = d->model;
    model->exec->ops->residual_add_rmsnorm(model->exec, hidden, d->normed, NULL, d->slot, d->slot, d->branch,
                                           ls_model_weight(model, offset), model->dtype, 1.0f, 1, R,
                                           model->config.hidden_size, (float)model->config.rms_norm_eps);
}

/* From norm1(hidden) in d->normed on; leaves that of the next layer there unless this is the last one. */
static void run_block(const ls_decode *d, float *hidden, int layer, bool last, const int32_t *base, int64_t start,
                      int64_t R)
{
    const ls_model *model = d->model;
    const ls_model_config *config = &model->config;
    const ls_layer_offsets *at = &model->table.layers[layer];
    ls_exec *exec = model->exec;
    const int64_t C = config->hidden_size, F = config->intermediate_size, D = config->head_dim;
    const int64_t H = config->num_attention_heads, G = config->num_key_value_heads;
    void *const keys = d->key_cache[layer], *const values = d->value_cache[layer];

    project_with_bias(d, d->qkv, d->normed, at->qkv, at->qkv_bias, R, (H + 2 * G) * D, C);
    exec->ops->rope_append(exec, d->qkv, keys, values, model->rope_cos, model->rope_sin, model->dtype, base, start, R,
                           H, G, D, d->capacity);
    exec->ops->attention_cached(exec, d->attention, d->qkv, keys, values, model->dtype, (float)(1.0 / sqrt((double)D)),
                                base, start, R, H, G, D, d->capacity);
    project_with_bias(d, d->branch, d->attention, at->attention_out, at->attention_out_bias, R, C, H * D);
    add_branch_and_norm(d, hidden, at->post_norm, R);

    project(d, d->gate_up, d->normed, at->gate_up, R, 2 * F, C);
    exec->ops->swiglu_forward(exec, d->act, d->gate_up, model->dtype, R, F);
    project(d, d->branch, d->act, at->down, R, C, F);
    if (last)
        add_branch(d, hidden, R);
    else
        add_branch_and_norm(d, hidden, at[1].input_norm, R);
}

ls_status ls_decode_layers(ls_decode *decode, float *hidden, int first_layer, int last_layer, const int32_t *base,
                           int64_t start, int64_t R)
{
    LS_TRY(check_rows(decode, R));
    if (first_layer < 0 || last_layer > decode->model->config.num_hidden_layers)
        return LS_FAIL(LS_INTERNAL, "layers %d to %d of a model of %lld", first_layer, last_layer,
                       (long long)decode->model->config.num_hidden_layers);
    if (start < 0 || start > decode->capacity - R)
        return LS_FAIL(LS_BAD_INPUT, "positions up to %lld do not fit a context of %lld", (long long)(start + R),
                       (long long)decode->capacity);
    if (R == 0 || first_layer >= last_layer) return ls_exec_failed(decode->model->exec);
    norm(decode, hidden, decode->model->table.layers[first_layer].input_norm, R);
    for (int l = first_layer; l < last_layer; l++) run_block(decode, hidden, l, l + 1 == last_layer, base, start, R);
    return ls_exec_failed(decode->model->exec);
}

ls_status ls_decode_logits(ls_decode *decode, float *logits, const float *hidden, int64_t R)
{
    const ls_model *model = decode->model;
    const int64_t C = model->config.hidden_size, V = model->config.vocab_size;
    const void *head = ls_model_weight(model, model->table.head);
    for (int64_t first = 0; first < R; first += LS_DECODE_ROWS) {
        const int64_t rows = R - first < LS_DECODE_ROWS ? R - first : LS_DECODE_ROWS;
        norm(decode, hidden + first * C, model->table.final_norm, rows);
        model->exec->ops->matmul_rows(model->exec, logits + first * V, LS_F32, decode->normed, head, model->dtype, rows,
                                      V, C);
    }
    return ls_exec_failed(model->exec);
}

static ls_status rehearse(ls_decode *decode)
{
    float *const nobody = decode->normed; /* nothing is written */
    const int64_t rows[] = {LS_DECODE_ROWS, decode->max_rows};
    for (int i = 0; i < 2; i++) {
        const int64_t R = rows[i] < decode->capacity ? rows[i] : decode->capacity;
        LS_TRY(ls_decode_layers(decode, nobody, 0, 1, NULL, decode->capacity - R, R));
        LS_TRY(ls_decode_logits(decode, nobody, nobody, R));
    }
    return LS_OK;
}

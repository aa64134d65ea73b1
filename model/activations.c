/* Layout of a training pass's buffers, and the lists of one pass. */
#include "model/activations.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

/* The last chunk's rows are padded to a multiple of this, so that batches with a few targets more or less share
 * products of one shape. */
#define ROW_UNIT 64

/* Rows of an exit head's chunk: about 512 keep the products busy, and reading and writing the head's gradient once a
 * chunk stays below a tenth of the time; with a large vocabulary fewer, so that the logits stay near 64 MiB (one
 * chunk's logits pass through memory four times, and they are the largest buffer there is); never below 16, where the
 * head's weights would be read for next to nothing. */
static int64_t rows_per_chunk(const ls_model *model, int64_t rows)
{
    const int64_t fit = ((int64_t)64 << 20) / (model->config.vocab_size * (int64_t)ls_dtype_size(model->dtype));
    const int64_t wanted = fit < 16 ? 16 : fit > 512 ? 512 : fit / 16 * 16;
    return wanted < rows ? wanted : rows;
}

static int64_t round_up_rows(int64_t rows) { return (rows + ROW_UNIT - 1) / ROW_UNIT * ROW_UNIT; }

/* Whole chunks, and a last one that is rounded up but no longer than a chunk: it is never padding alone. */
static int64_t padded_rows(int64_t count, int64_t chunk)
{
    const int64_t last = round_up_rows(count % chunk);
    return count - count % chunk + (last < chunk ? last : chunk) * (count % chunk > 0);
}

static int64_t slot_count(const ls_activations *a, int64_t L) { return a->B * (a->recompute ? L + 2 : 2 * L + 1); }

static void lay_out_saved(ls_saved_block *saved, const ls_model_config *config, size_t element, int64_t rows,
                          ls_arena *arena)
{
    const size_t R = (size_t)rows * element, C = (size_t)config->hidden_size, F = (size_t)config->intermediate_size;
    const size_t D = (size_t)config->head_dim, H = (size_t)config->num_attention_heads;
    const size_t G = (size_t)config->num_key_value_heads;
    saved->normed1 = ls_arena_take(arena, R * C);
    saved->rstd1 = LS_TAKE(arena, float, rows);
    saved->qkv = ls_arena_take(arena, R * (H + 2 * G) * D);
    saved->attention = ls_arena_take(arena, R * H * D);
    saved->lse = LS_TAKE(arena, float, (size_t)rows *H);
    saved->normed2 = ls_arena_take(arena, R * C);
    saved->rstd2 = LS_TAKE(arena, float, rows);
    saved->gate_up = ls_arena_take(arena, R * 2 * F);
}

static void lay_out_tensors(ls_activations *a, const ls_model *model, ls_arena *arena)
{
    const ls_model_config *config = &model->config;
    const int64_t L = config->num_hidden_layers, rows = a->B * a->T, chunk = a->rows.chunk;
    const size_t element = ls_dtype_size(model->dtype), R = (size_t)rows * element, P = (size_t)chunk * element;
    const size_t C = (size_t)config->hidden_size, F = (size_t)config->intermediate_size;
    const size_t D = (size_t)config->head_dim, H = (size_t)config->num_attention_heads;
    const size_t G = (size_t)config->num_key_value_heads, V = (size_t)config->vocab_size;
    a->residual = LS_TAKE(arena, float, (size_t)(slot_count(a, L) * a->T) * C);
    a->dresidual = LS_TAKE(arena, float, (size_t)rows *C);
    for (int64_t l = 0; l < L; l++) {
        if (l > 0 && a->recompute)
            a->blocks[l] = a->blocks[0];
        else
            lay_out_saved(&a->blocks[l], config, element, rows, arena);
    }
    a->y = ls_arena_take(arena, R * C);
    a->dnormed = ls_arena_take(arena, R * C);
    a->dattention = ls_arena_take(arena, R * H * D);
    a->dqkv = ls_arena_take(arena, R * (H + 2 * G) * D);
    a->act = ls_arena_take(arena, R * F);
    a->logits = ls_arena_take(arena, P * V);
    a->head_normed = ls_arena_take(arena, P * C);
    a->head_dnormed = ls_arena_take(arena, P * C);
    a->head_rstd = LS_TAKE(arena, float, chunk);
}

static void lay_out_lists(ls_activations *a, int64_t L, ls_arena *arena)
{
    const int64_t rows = a->B * a->T, padded = padded_rows(rows, a->rows.chunk);
    a->tokens = LS_TAKE(arena, int32_t, rows);
    a->first_key = LS_TAKE(arena, int32_t, rows);
    a->positions = LS_TAKE(arena, int32_t, rows);
    a->rows.sample = LS_TAKE(arena, int32_t, padded);
    a->rows.target = LS_TAKE(arena, int32_t, padded);
    for (int64_t l = 0; l < L; l++) {
        ls_survivors *survivors = &a->survivors[l];
        survivors->sample = LS_TAKE(arena, int32_t, a->B);
        survivors->in_slot = LS_TAKE(arena, int32_t, a->B);
        survivors->mid_slot = LS_TAKE(arena, int32_t, a->B);
        survivors->out_slot = LS_TAKE(arena, int32_t, a->B);
    }
    a->rows.slots = LS_TAKE(arena, int32_t, L * padded);
    a->rows.losses = LS_TAKE(arena, float, L *padded);
    a->rows.sums = LS_TAKE(arena, double, L);
}

static ls_status allocate_blocks(ls_activations *a, const ls_model *model)
{
    const int64_t L = model->config.num_hidden_layers;
    ls_arena measure = ls_arena_measure();
    lay_out_tensors(a, model, &measure);
    a->tensor_bytes = measure.used;
    measure = ls_arena_measure();
    lay_out_lists(a, L, &measure);
    a->list_bytes = measure.used;
    LS_TRY(ls_exec_allocate(model->exec, &a->tensor_block, a->tensor_bytes, "the activations"));
    LS_TRY(ls_exec_allocate(model->exec, &a->list_block, a->list_bytes, "the index lists of a step"));
    ls_arena arena = ls_arena_over(a->tensor_block, a->tensor_bytes);
    lay_out_tensors(a, model, &arena);
    arena = ls_arena_over(a->list_block, a->list_bytes);
    lay_out_lists(a, L, &arena);
    a->host_lists = calloc(1, a->list_bytes);
    return a->host_lists == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for the index lists of a step") : LS_OK;
}

ls_status ls_activations_create(ls_activations *out, const ls_model *model, int64_t B, int64_t T, bool recompute)
{
    const size_t L = (size_t)model->config.num_hidden_layers;
    *out = (ls_activations){.B = B, .T = T, .recompute = recompute};
    if (B < 1 || T < 1 || T > model->config.max_position_embeddings)
        return LS_FAIL(LS_BAD_INPUT,
                       "a batch of %lld samples of %lld tokens does not fit the model: samples must be at least 1, "
                       "tokens from 1 to max_position_embeddings (%lld)",
                       (long long)B, (long long)T, (long long)model->config.max_position_embeddings);
    if (B > INT32_MAX || slot_count(out, (int64_t)L) > INT32_MAX / T - 1)
        return LS_FAIL(LS_BAD_INPUT,
                       "a micro-batch of %lld samples of %lld tokens is too large; use gradient "
                       "accumulation over smaller ones",
                       (long long)B, (long long)T);
    out->rows.chunk = rows_per_chunk(model, round_up_rows(B * T));
    out->blocks = calloc(L, sizeof *out->blocks);
    out->survivors = calloc(L, sizeof *out->survivors);
    out->current_slot = calloc((size_t)B, sizeof *out->current_slot);
    out->rows.slot = calloc(L, sizeof *out->rows.slot);
    out->rows.loss = calloc(L, sizeof *out->rows.loss);
    ls_status status = LS_OK;
    if (out->blocks == NULL || out->survivors == NULL || out->current_slot == NULL || out->rows.slot == NULL ||
        out->rows.loss == NULL)
        status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for the activations' table");
    else
        status = allocate_blocks(out, model);
    if (status != LS_OK) ls_activations_destroy(out, model->exec);
    return status;
}

void ls_activations_destroy(ls_activations *a, ls_exec *exec)
{
    if (a->tensor_block != NULL) ls_exec_free(exec, a->tensor_block, a->tensor_bytes);
    if (a->list_block != NULL) ls_exec_free(exec, a->list_block, a->list_bytes);
    free(a->host_lists);
    free(a->blocks);
    free(a->survivors);
    free(a->current_slot);
    free(a->rows.slot);
    free(a->rows.loss);
    *a = (ls_activations){0};
}

/* ---- the lists of one pass --------------------------------------------------------------------------------------- */

/* Where the host's copy of a list is. */
static int32_t *host(const ls_activations *a, const int32_t *list)
{
    return (int32_t *)a->host_lists + (list - (const int32_t *)a->list_block);
}

static ls_status copy_tokens(ls_activations *a, const ls_model *model, const ls_batch *batch)
{
    const int64_t rows = batch->B * batch->T, V = model->config.vocab_size;
    int32_t *tokens = host(a, a->tokens), *first_key = host(a, a->first_key), *positions = host(a, a->positions);
    a->documents = a->renumbered = false;
    for (int64_t r = 0; r < rows; r++) {
        const int32_t token = batch->tokens[r], target = batch->targets[r];
        if (token < 0 || token >= V || target < -1 || target >= V)
            return LS_FAIL(LS_BAD_INPUT, "token id %d is outside the model's vocabulary of %lld",
                           token < 0 || token >= V ? (int)token : (int)target, (long long)V);
        tokens[r] = token;
        const int32_t first = batch->first_key == NULL ? 0 : batch->first_key[r], t = (int32_t)(r % batch->T);
        const int32_t position = batch->positions == NULL ? t : batch->positions[r];
        if (first < (t == 0 ? 0 : first_key[r - 1]) || first > t || position < 0 ||
            position >= model->config.max_position_embeddings)
            return LS_FAIL(LS_BAD_INPUT, "position %d of a sample is numbered %d and attends from %d on", (int)t,
                           (int)position, (int)first);
        first_key[r] = first;
        positions[r] = position;
        a->documents = a->documents || first != 0;
        a->renumbered = a->renumbered || position != t;
    }
    return LS_OK;
}

static void list_targets(ls_activations *a, const ls_batch *batch)
{
    ls_exit_rows *rows = &a->rows;
    int32_t *sample = host(a, rows->sample), *target = host(a, rows->target);
    rows->count = 0;
    for (int64_t r = 0; r < batch->B * batch->T; r++)
        if (batch->targets[r] >= 0) {
            sample[rows->count] = (int32_t)r;
            target[rows->count++] = batch->targets[r];
        }
    rows->padded = padded_rows(rows->count, rows->chunk);
    for (int64_t i = rows->count; i < rows->padded; i++) {
        sample[i] = sample[0];
        target[i] = -1;
    }
}

/* Hands the survivors of layer l their slots; next is the first free one. */
static ls_status assign_slots(ls_activations *a, const ls_step_plan *plan, int l, int32_t *next)
{
    ls_survivors *survivors = &a->survivors[l];
    int32_t *sample = host(a, survivors->sample), *in_slot = host(a, survivors->in_slot);
    int32_t *mid_slot = host(a, survivors->mid_slot), *out_slot = host(a, survivors->out_slot);
    const int32_t *chosen = plan->survivors + (int64_t)l * plan->samples;
    const int32_t n = plan->survivor_count[l];
    if (n < 0 || n > plan->samples) return LS_FAIL(LS_INTERNAL, "the plan has %d survivors in layer %d", (int)n, l);
    /* Recomputation shares the slabs after attention: the B slots after the embedding output. */
    const int32_t mid = a->recompute ? plan->samples : *next;
    const int32_t out = a->recompute ? *next : *next + n;
    survivors->count = n;
    survivors->as_below = n > 0 && l > 0 && n == plan->survivor_count[l - 1] &&
                          memcmp(chosen, chosen - plan->samples, sizeof *chosen * (size_t)n) == 0;
    for (int32_t j = 0; j < n; j++) {
        const int32_t b = chosen[j];
        if (b < 0 || b >= plan->samples || (j > 0 && b <= chosen[j - 1]))
            return LS_FAIL(LS_INTERNAL, "the plan's survivors of layer %d are not ascending sample numbers", l);
        sample[j] = b;
        in_slot[j] = a->current_slot[b];
        mid_slot[j] = mid + j;
        out_slot[j] = out + j;
        a->current_slot[b] = out + j;
    }
    *next = out + n;
    return LS_OK;
}

static void list_exit_slots(ls_activations *a, int l, int64_t T)
{
    ls_exit_rows *rows = &a->rows;
    rows->slot[l] = rows->slots + rows->exits * rows->padded;
    rows->loss[l] = rows->losses + rows->exits * rows->padded;
    rows->exits++;
    const int32_t *sample = host(a, rows->sample);
    int32_t *slot = host(a, rows->slot[l]);
    for (int64_t i = 0; i < rows->padded; i++) {
        const int64_t b = sample[i] / T, t = sample[i] % T;
        slot[i] = (int32_t)(a->current_slot[b] * T + t);
    }
}

/* All lists but the losses, in one piece. */
static ls_status upload_lists(const ls_activations *a, ls_exec *exec)
{
    const int32_t *end = a->rows.slots + a->rows.exits * a->rows.padded;
    const size_t bytes = (size_t)((const unsigned char *)end - (const unsigned char *)a->list_block);
    return ls_exec_upload(exec, a->list_block, a->host_lists, bytes);
}

ls_status ls_activations_prepare(ls_activations *a, const ls_model *model, const ls_batch *batch,
                                 const ls_step_plan *plan)
{
    const int L = (int)model->config.num_hidden_layers;
    if (batch->B < 0 || batch->B > a->B || batch->T < 0 || batch->T > a->T || plan->layers != L ||
        plan->samples != batch->B)
        return LS_FAIL(LS_INTERNAL, "batch [%lld,%lld] and plan [%d,%d] do not fit buffers for [%lld,%lld], %d layers",
                       (long long)batch->B, (long long)batch->T, plan->layers, plan->samples, (long long)a->B,
                       (long long)a->T, L);
    LS_TRY(copy_tokens(a, model, batch));
    list_targets(a, batch);
    a->rows.exits = 0;
    for (int32_t b = 0; b < batch->B; b++) a->current_slot[b] = b;
    int32_t next = (int32_t)(a->recompute ? 2 * batch->B : batch->B);
    for (int l = 0; l < L; l++) {
        LS_TRY(assign_slots(a, plan, l, &next));
        if (plan->exit_weight[l] > 0.0f) list_exit_slots(a, l, batch->T);
    }
    return upload_lists(a, model->exec);
}

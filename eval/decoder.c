#include "eval/decoder.h"

#include "core/clock.h"
#include "core/interrupt.h"
#include "core/memory.h"
#include "core/random.h"
#include "eval/prompt_lookup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PREFILL_ROWS 512

const char *const ls_decode_mode_names[] = {"autoregressive", "early-exit", "self-speculative", "prompt-lookup", NULL};

/* What a draw is for; a position never uses one twice within the round that decides it. */
enum { DRAW_DRAFT = 0, DRAW_ACCEPT = 1, DRAW_FULL = 2 };

struct ls_decoder {
    const ls_model *model;
    ls_decode *decode;
    int64_t capacity, prefill_rows;
    int max_draft;
    /* In the backend's memory: */
    void *device_block;
    size_t device_bytes;
    float *hidden;      /* [prefill_rows, C] */
    float *exit_states; /* [max_draft + 1, C], the exit-query cache */
    float *logits;      /* [LS_DECODE_ROWS, V] */
    /* In ours: */
    void *host_block;
    size_t host_bytes;
    double *draft_probability; /* [max_draft, V], q; its pages are touched only when sampling */
    double *probability;       /* [V], p */
    float *host_logits;        /* [LS_DECODE_ROWS, V], what the host has of `logits` */
    ls_candidate *scratch;     /* [V] */
    int32_t *text;             /* [capacity] prompt and new tokens; all but the last are in the cache between rounds */
    int32_t *draft;            /* [max_draft] */
    int64_t length;            /* of text */
    const ls_decode_options *options; /* of the generation under way */
};

static void lay_out_device(ls_decoder *decoder, ls_arena *arena)
{
    const int64_t C = decoder->model->config.hidden_size, V = decoder->model->config.vocab_size;
    decoder->hidden = LS_TAKE(arena, float, decoder->prefill_rows *C);
    decoder->exit_states = LS_TAKE(arena, float, (decoder->max_draft + 1) * C);
    decoder->logits = LS_TAKE(arena, float, LS_DECODE_ROWS *V);
}

static void lay_out_host(ls_decoder *decoder, ls_arena *arena)
{
    const int64_t V = decoder->model->config.vocab_size;
    decoder->draft_probability = LS_TAKE(arena, double, decoder->max_draft *V);
    decoder->probability = LS_TAKE(arena, double, V);
    decoder->host_logits = LS_TAKE(arena, float, LS_DECODE_ROWS *V);
    decoder->scratch = LS_TAKE(arena, ls_candidate, V);
    decoder->text = LS_TAKE(arena, int32_t, decoder->capacity);
    decoder->draft = LS_TAKE(arena, int32_t, decoder->max_draft);
}

static ls_status allocate(ls_decoder *decoder)
{
    ls_arena arena = ls_arena_measure();
    lay_out_device(decoder, &arena);
    decoder->device_bytes = arena.used;
    LS_TRY(ls_exec_allocate(decoder->model->exec, &decoder->device_block, arena.used, "decoding"));
    arena = ls_arena_over(decoder->device_block, decoder->device_bytes);
    lay_out_device(decoder, &arena);

    arena = ls_arena_measure();
    lay_out_host(decoder, &arena);
    decoder->host_bytes = arena.used;
    LS_TRY(ls_memory_map(&decoder->host_block, arena.used, "sampling"));
    arena = ls_arena_over(decoder->host_block, decoder->host_bytes);
    lay_out_host(decoder, &arena);
    return LS_OK;
}

ls_status ls_decoder_create(ls_decoder **out, const ls_model *model, int64_t capacity, int max_draft)
{
    *out = NULL;
    ls_decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a decoder");
    decoder->model = model;
    decoder->capacity = capacity < 1 ? 1 : capacity;
    decoder->prefill_rows = decoder->capacity < PREFILL_ROWS ? decoder->capacity : PREFILL_ROWS;
    decoder->max_draft = max_draft < 1 ? 1 : max_draft;
    if (decoder->max_draft > decoder->capacity) decoder->max_draft = (int)decoder->capacity;
    const int64_t rows = decoder->prefill_rows > LS_DECODE_ROWS ? decoder->prefill_rows : LS_DECODE_ROWS;
    ls_status status = allocate(decoder);
    if (status == LS_OK) status = ls_decode_create(&decoder->decode, model, decoder->capacity, rows);
    if (status != LS_OK) {
        ls_decoder_destroy(decoder);
        return status;
    }
    *out = decoder;
    return LS_OK;
}

void ls_decoder_destroy(ls_decoder *decoder)
{
    if (decoder == NULL) return;
    if (decoder->decode != NULL) ls_decode_destroy(decoder->decode);
    if (decoder->device_block != NULL) ls_exec_free(decoder->model->exec, decoder->device_block, decoder->device_bytes);
    ls_memory_unmap(decoder->host_block, decoder->host_bytes);
    free(decoder);
}

ls_status ls_decode_options_check(const ls_decode_options *options, int64_t layers)
{
    const bool exits = options->mode == LS_DECODE_EARLY_EXIT || options->mode == LS_DECODE_SELF_SPECULATIVE;
    const bool drafts = options->mode == LS_DECODE_SELF_SPECULATIVE || options->mode == LS_DECODE_PROMPT_LOOKUP;
    if (exits && layers < 2)
        return LS_FAIL(LS_BAD_INPUT, "a model of one layer has no earlier exit; decode it autoregressively");
    if (exits && (options->exit_layer < 1 || options->exit_layer >= layers))
        return LS_FAIL(LS_BAD_INPUT, "exit layer %d is not in 1..%lld (the model has %lld layers)", options->exit_layer,
                       (long long)layers - 1, (long long)layers);
    if (drafts && options->draft_tokens < 1)
        return LS_FAIL(LS_BAD_INPUT, "%d draft tokens; a round must draft at least 1", options->draft_tokens);
    if (!(options->draft_confidence >= 0.0 && options->draft_confidence <= 1.0))
        return LS_FAIL(LS_BAD_INPUT, "the draft confidence is %g; it is a probability, 0 to 1",
                       options->draft_confidence);
    if (options->max_new_tokens < 0)
        return LS_FAIL(LS_BAD_INPUT, "%lld new tokens; give 1 or more", (long long)options->max_new_tokens);
    return ls_sampling_check(&options->sampling);
}

static ls_status check_prompt(const ls_decoder *decoder, const int32_t *prompt, int64_t count)
{
    if (count < 1) return LS_FAIL(LS_BAD_INPUT, "the prompt is empty");
    if (count > decoder->capacity)
        return LS_FAIL(LS_BAD_INPUT, "the prompt is %lld tokens long, more than the context of %lld", (long long)count,
                       (long long)decoder->capacity);
    const int64_t V = decoder->model->config.vocab_size;
    for (int64_t i = 0; i < count; i++)
        if (prompt[i] < 0 || prompt[i] >= V)
            return LS_FAIL(LS_BAD_INPUT, "prompt token %lld is id %d, beyond the model's vocabulary of %lld",
                           (long long)i, prompt[i], (long long)V);
    return LS_OK;
}

static int layers_in_use(const ls_decoder *decoder)
{
    return decoder->options->mode == LS_DECODE_EARLY_EXIT ? decoder->options->exit_layer
                                                          : (int)decoder->model->config.num_hidden_layers;
}

/* All but the last token of the text enter the cache. *stopped: a signal came. */
static ls_status prefill(ls_decoder *decoder, bool *stopped)
{
    for (int64_t start = 0; start < decoder->length - 1; start += decoder->prefill_rows) {
        const int64_t left = decoder->length - 1 - start;
        const int64_t R = left < decoder->prefill_rows ? left : decoder->prefill_rows;
        LS_TRY(ls_decode_embed(decoder->decode, decoder->hidden, decoder->text + start, R));
        LS_TRY(ls_decode_layers(decoder->decode, decoder->hidden, 0, layers_in_use(decoder), start, R));
        *stopped = ls_interrupt_requested();
        if (*stopped) return LS_OK;
    }
    return ls_exec_status(decoder->model->exec);
}

/* logits of hidden [R,C], R <= LS_DECODE_ROWS, to host_logits. */
static ls_status read_logits(ls_decoder *decoder, const float *hidden, int64_t R)
{
    const size_t bytes = sizeof(float) * (size_t)(R * decoder->model->config.vocab_size);
    LS_TRY(ls_decode_logits(decoder->decode, decoder->logits, hidden, R));
    LS_TRY(ls_exec_status(decoder->model->exec));
    return ls_exec_download(decoder->model->exec, decoder->host_logits, decoder->logits, bytes);
}

static double draw(const ls_decoder *decoder, int64_t position, uint32_t purpose)
{
    return ls_random_uniform(decoder->options->sampling.seed, LS_STREAM_SAMPLING, (uint32_t)position, purpose, 0);
}

static ls_status check_finite(const float *logits, int32_t token)
{
    if (isfinite(logits[token])) return LS_OK;
    return LS_FAIL(LS_NOT_FINITE,
                   "the model's logits are not finite; its weights are damaged or overflow this precision");
}

/* The token of `position`, greedy or drawn; `probability` [V] is left with its distribution when drawn. */
static ls_status pick(ls_decoder *decoder, int32_t *token, double *probability, const float *logits, int64_t position,
                      uint32_t purpose)
{
    const ls_sampling *sampling = &decoder->options->sampling;
    const int64_t V = decoder->model->config.vocab_size;
    *token = ls_argmax(logits, V);
    LS_TRY(check_finite(logits, *token));
    if (!(sampling->temperature > 0.0)) return LS_OK;
    ls_distribution(probability, logits, V, sampling, decoder->scratch);
    *token = ls_draw(probability, V, draw(decoder, position, purpose));
    return LS_OK;
}

/* Fills the exit-query cache with *rows states and decoder->draft with *drafted tokens, at most `limit`. The last state
 * is that of the last drafted token, computed without logits, unless drafting stopped by itself: at end of text nothing
 * may follow, and below the wanted confidence the state is there already. */
static ls_status draft_by_layers(ls_decoder *decoder, int limit, int *drafted, int64_t *rows)
{
    const int64_t C = decoder->model->config.hidden_size, V = decoder->model->config.vocab_size;
    const ls_decode_options *options = decoder->options;
    const int64_t start = decoder->length - 1;
    const int32_t *token = decoder->text + start;
    *drafted = 0;
    for (int i = 0;; i++) {
        float *state = decoder->exit_states + i * C;
        LS_TRY(ls_decode_embed(decoder->decode, state, token, 1));
        LS_TRY(ls_decode_layers(decoder->decode, state, 0, options->exit_layer, start + i, 1));
        *rows = i + 1;
        if (i == limit) return LS_OK;
        LS_TRY(read_logits(decoder, state, 1));
        const float *logits = decoder->host_logits;
        if (options->draft_confidence > 0.0 &&
            ls_softmax_at(logits, V, ls_argmax(logits, V)) < options->draft_confidence)
            return LS_OK;
        LS_TRY(
            pick(decoder, decoder->draft + i, decoder->draft_probability + i * V, logits, start + 1 + i, DRAW_DRAFT));
        *drafted = i + 1;
        token = decoder->draft + i;
        if (*token == options->end_of_text) return LS_OK;
    }
}

/* The same for drafts copied from the text: their distributions are certainties, their states mere embeddings. */
static ls_status draft_by_lookup(ls_decoder *decoder, int limit, int *drafted, int64_t *rows)
{
    const int64_t C = decoder->model->config.hidden_size, V = decoder->model->config.vocab_size;
    *drafted = ls_prompt_lookup(decoder->draft, limit, decoder->text, decoder->length);
    for (int i = 0; i < *drafted; i++) {
        if (decoder->draft[i] == decoder->options->end_of_text) *drafted = i + 1;
        if (!(decoder->options->sampling.temperature > 0.0)) continue;
        memset(decoder->draft_probability + i * V, 0, sizeof(double) * (size_t)V);
        decoder->draft_probability[i * V + decoder->draft[i]] = 1.0;
    }
    const bool ended = *drafted > 0 && decoder->draft[*drafted - 1] == decoder->options->end_of_text;
    *rows = *drafted + (ended ? 0 : 1);
    LS_TRY(ls_decode_embed(decoder->decode, decoder->exit_states, decoder->text + decoder->length - 1, 1));
    for (int64_t first = 1; first < *rows; first += LS_DECODE_ROWS) {
        const int64_t R = *rows - first < LS_DECODE_ROWS ? *rows - first : LS_DECODE_ROWS;
        LS_TRY(ls_decode_embed(decoder->decode, decoder->exit_states + first * C, decoder->draft + first - 1, R));
    }
    return LS_OK;
}

/* What the full model makes of row i: the token that stands after it, and whether that is the drafted one. */
static ls_status decide(ls_decoder *decoder, int32_t *token, bool *agreed, const float *logits, int64_t i, int drafted)
{
    const int64_t V = decoder->model->config.vocab_size, position = decoder->length;
    const ls_sampling *sampling = &decoder->options->sampling;
    const bool sampled = sampling->temperature > 0.0;
    *agreed = false;
    if (i >= drafted || !sampled) {
        LS_TRY(pick(decoder, token, decoder->probability, logits, position, DRAW_FULL));
        *agreed = i < drafted && *token == decoder->draft[i];
        return LS_OK;
    }
    LS_TRY(check_finite(logits, ls_argmax(logits, V)));
    const double *q = decoder->draft_probability + i * V;
    ls_distribution(decoder->probability, logits, V, sampling, decoder->scratch);
    *token = decoder->draft[i];
    *agreed = ls_accept_draft(decoder->probability, q, *token, draw(decoder, position, DRAW_ACCEPT));
    if (*agreed) return LS_OK;
    ls_residual_distribution(decoder->probability, q, V);
    *token = ls_draw(decoder->probability, V, draw(decoder, position, DRAW_FULL));
    return LS_OK;
}

/* Runs the rows' states through layers first_layer.. and appends to the text what stands. Rows go in groups that are
 * bitwise independent of their number; a group after a rejection is never run. */
static ls_status verify(ls_decoder *decoder, int first_layer, int64_t rows, int drafted, int *accepted)
{
    const int64_t C = decoder->model->config.hidden_size, V = decoder->model->config.vocab_size;
    const int64_t start = decoder->length - 1;
    *accepted = 0;
    for (int64_t first = 0; first < rows; first += LS_DECODE_ROWS) {
        const int64_t R = rows - first < LS_DECODE_ROWS ? rows - first : LS_DECODE_ROWS;
        float *state = decoder->exit_states + first * C;
        LS_TRY(ls_decode_layers(decoder->decode, state, first_layer, layers_in_use(decoder), start + first, R));
        LS_TRY(read_logits(decoder, state, R));
        for (int64_t r = 0; r < R; r++) {
            int32_t token;
            bool agreed;
            LS_TRY(decide(decoder, &token, &agreed, decoder->host_logits + r * V, first + r, drafted));
            decoder->text[decoder->length++] = token;
            if (!agreed) return LS_OK;
            ++*accepted;
        }
    }
    return LS_OK;
}

/* One round: at least one token, at most `remaining`. */
static ls_status run_round(ls_decoder *decoder, int64_t remaining, int *drafted, int *accepted)
{
    const ls_decode_options *options = decoder->options;
    /* The full model adds a token of its own, so one draft fewer than there is room for. */
    const int64_t room = remaining - 1 < decoder->max_draft ? remaining - 1 : decoder->max_draft;
    const int limit = options->draft_tokens < room ? options->draft_tokens : (int)room;
    int64_t rows = 1;
    *drafted = 0;
    switch (options->mode) {
    case LS_DECODE_SELF_SPECULATIVE:
        LS_TRY(draft_by_layers(decoder, limit, drafted, &rows));
        return verify(decoder, options->exit_layer, rows, *drafted, accepted);
    case LS_DECODE_PROMPT_LOOKUP:
        LS_TRY(draft_by_lookup(decoder, limit, drafted, &rows));
        return verify(decoder, 0, rows, *drafted, accepted);
    default:
        LS_TRY(ls_decode_embed(decoder->decode, decoder->exit_states, decoder->text + decoder->length - 1, 1));
        return verify(decoder, 0, rows, 0, accepted);
    }
}

/* Rounds until something ends the text. tokens: the caller's buffer. */
static ls_status decode_text(ls_decoder *decoder, ls_decode_result *result, ls_decode_listener *listener, void *context)
{
    const ls_decode_options *options = decoder->options;
    for (;;) {
        const int64_t wanted = options->max_new_tokens - result->count;
        const int64_t space = decoder->capacity - decoder->length;
        const int64_t remaining = wanted < space ? wanted : space;
        result->finish_reason = wanted <= 0 ? "length" : space <= 0 ? "context" : "interrupted";
        if (remaining <= 0 || ls_interrupt_requested()) return LS_OK;

        const int64_t before = decoder->length;
        int drafted, accepted;
        const double start = ls_seconds_now();
        LS_TRY(run_round(decoder, remaining, &drafted, &accepted));
        result->decode_seconds += ls_seconds_now() - start;

        const int64_t emitted = decoder->length - before;
        const int32_t *fresh = decoder->text + before;
        memcpy(result->tokens + result->count, fresh, sizeof *fresh * (size_t)emitted);
        result->count += emitted;
        result->drafted += drafted;
        result->accepted += accepted;
        result->rounds++;
        if (listener != NULL) listener(context, fresh, (int)emitted, accepted);
        if (fresh[emitted - 1] == options->end_of_text) {
            result->finish_reason = "end_of_text";
            return LS_OK;
        }
    }
}

ls_status ls_decoder_generate(ls_decoder *decoder, ls_decode_result *result, int32_t *tokens, const int32_t *prompt,
                              int64_t prompt_count, const ls_decode_options *options, ls_decode_listener *listener,
                              void *context)
{
    *result = (ls_decode_result){.tokens = tokens, .finish_reason = "interrupted"};
    LS_TRY(ls_decode_options_check(options, decoder->model->config.num_hidden_layers));
    LS_TRY(check_prompt(decoder, prompt, prompt_count));
    decoder->options = options;
    memcpy(decoder->text, prompt, sizeof *prompt * (size_t)prompt_count);
    decoder->length = prompt_count;

    bool stopped = false;
    const double start = ls_seconds_now();
    LS_TRY(prefill(decoder, &stopped));
    result->prefill_seconds = ls_seconds_now() - start;
    if (stopped) return LS_OK;
    return decode_text(decoder, result, listener, context);
}

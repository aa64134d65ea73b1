#include "eval/decoder.h"

#include "core/clock.h"
#include "core/interrupt.h"
#include "core/memory.h"
#include "eval/prompt_lookup.h"
#include "eval/round_graphs.h"

#include <stdlib.h>
#include <string.h>

#define PREFILL_ROWS 512

const char *const ls_decode_mode_names[] = {"autoregressive", "early-exit", "self-speculative", "prompt-lookup", NULL};

struct ls_decoder {
    const ls_model *model;
    ls_decode *decode;
    int64_t capacity, prefill_rows;
    int max_draft;
    /* In the backend's memory: */
    void *device_block;
    size_t device_bytes;
    float *hidden;             /* [prefill_rows, C] */
    float *exit_states;        /* [max_draft + 1, C], the exit-query cache */
    float *logits;             /* [LS_DECODE_ROWS, V] */
    double *draft_probability; /* [max_draft, V], q; its pages are touched only when sampling */
    ls_round *round;           /* with max_draft + 2 tokens */
    /* In ours: */
    void *host_block;
    size_t host_bytes;
    ls_round *known; /* the round as it begins and as it ends */
    int32_t *text;   /* [capacity] prompt and new tokens; all but the last are in the cache between rounds */
    int64_t length;  /* of text */
    const ls_decode_options *options; /* of the generation under way */
    ls_round_graphs graphs;
};

static size_t round_bytes(int64_t tokens) { return sizeof(ls_round) + sizeof(int32_t) * (size_t)tokens; }

static void lay_out_device(ls_decoder *decoder, ls_arena *arena)
{
    const int64_t C = decoder->model->config.hidden_size, V = decoder->model->config.vocab_size;
    decoder->hidden = LS_TAKE(arena, float, decoder->prefill_rows *C);
    decoder->exit_states = LS_TAKE(arena, float, (decoder->max_draft + 1) * C);
    decoder->logits = LS_TAKE(arena, float, LS_DECODE_ROWS *V);
    decoder->draft_probability = LS_TAKE(arena, double, decoder->max_draft *V);
    decoder->round = ls_arena_take(arena, round_bytes(decoder->max_draft + 2));
}

static void lay_out_host(ls_decoder *decoder, ls_arena *arena)
{
    decoder->known = ls_arena_take(arena, round_bytes(decoder->max_draft + 2));
    decoder->text = LS_TAKE(arena, int32_t, decoder->capacity);
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
    LS_TRY(ls_memory_map(&decoder->host_block, arena.used, "the text"));
    arena = ls_arena_over(decoder->host_block, decoder->host_bytes);
    lay_out_host(decoder, &arena);
    return LS_OK;
}

/* Lets the device set aside what judging a full group of rows wants. */
static ls_status rehearse(ls_decoder *decoder)
{
    ls_exec *exec = decoder->model->exec;
    if (!ls_exec_rehearse_begin(exec)) return LS_OK;
    const ls_sampling any = {.temperature = 1.0, .top_p = 1.0};
    exec->ops->accept_drafts(exec, decoder->round, decoder->draft_probability, decoder->logits, &any, 0, LS_DECODE_ROWS,
                             decoder->model->config.vocab_size);
    return ls_exec_rehearse_end(exec);
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
    if (status == LS_OK) status = rehearse(decoder);
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
    ls_round_graphs_forget(&decoder->graphs, decoder->model->exec);
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
        LS_TRY(ls_decode_layers(decoder->decode, decoder->hidden, 0, layers_in_use(decoder), NULL, start, R));
        *stopped = ls_interrupt_requested();
        if (*stopped) return LS_OK;
    }
    return ls_exec_status(decoder->model->exec);
}

/* ---- a round, on the device ---------------------------------------------------------------------------------------
 *
 * A round is issued whole, as many rows as it may need, without a look at what comes out; what follows a stop is run
 * for nothing and ignored. Positions count from the round's own, so that what is issued does not depend on where the
 * text has grown to. Only where the device's memory is the host's own is the state looked at on the way, and what
 * would be for nothing left out. */

static const ls_round *seen(const ls_decoder *decoder)
{
    return decoder->model->exec->memory->host ? decoder->round : NULL;
}

/* `drafted` tokens stand in known->token[1..] already. */
static ls_status begin_round(ls_decoder *decoder, int drafted, bool ended)
{
    ls_round *known = decoder->known;
    *known = (ls_round){.position = (int32_t)(decoder->length - 1),
                        .drafted = drafted,
                        .stopped = ended ? LS_ROUND_ENDED : LS_ROUND_OPEN};
    known->token[0] = decoder->text[decoder->length - 1];
    return ls_exec_upload(decoder->model->exec, decoder->round, known, round_bytes(drafted + 1));
}

/* Fills the exit-query cache with *rows states and the round with at most `limit` drafts. The last state is that of the
 * last drafted token, computed without logits, unless drafting stopped by itself: at end of text nothing may follow,
 * and below the wanted confidence the state is there already. */
static ls_status draft_by_layers(ls_decoder *decoder, int limit, int64_t *rows)
{
    const int64_t C = decoder->model->config.hidden_size, V = decoder->model->config.vocab_size;
    const ls_decode_options *options = decoder->options;
    const ls_round *const state = seen(decoder);
    ls_exec *exec = decoder->model->exec;
    for (int i = 0;; i++) {
        float *hidden = decoder->exit_states + i * C;
        LS_TRY(ls_decode_embed_there(decoder->decode, hidden, decoder->round->token + i, 1));
        LS_TRY(ls_decode_layers(decoder->decode, hidden, 0, options->exit_layer, &decoder->round->position, i, 1));
        *rows = i + 1;
        if (i == limit) return LS_OK;
        LS_TRY(ls_decode_logits(decoder->decode, decoder->logits, hidden, 1));
        exec->ops->draft_token(exec, decoder->round, decoder->draft_probability + i * V, decoder->logits,
                               &options->sampling, options->draft_confidence, options->end_of_text, V);
        if (state != NULL && state->stopped != LS_ROUND_OPEN) return ls_exec_failed(exec);
    }
}

/* Runs the rows' states through layers first_layer.. and lets the full model judge them. Rows go in groups that are
 * bitwise independent of their number. q: the drafts' distributions. */
static ls_status verify(ls_decoder *decoder, int first_layer, int64_t rows, const double *q)
{
    const int64_t C = decoder->model->config.hidden_size, V = decoder->model->config.vocab_size;
    const ls_round *const state = seen(decoder);
    ls_exec *exec = decoder->model->exec;
    for (int64_t first = 0; first < rows; first += LS_DECODE_ROWS) {
        const int64_t R = rows - first < LS_DECODE_ROWS ? rows - first : LS_DECODE_ROWS;
        float *hidden = decoder->exit_states + first * C;
        LS_TRY(ls_decode_layers(decoder->decode, hidden, first_layer, layers_in_use(decoder), &decoder->round->position,
                                first, R));
        LS_TRY(ls_decode_logits(decoder->decode, decoder->logits, hidden, R));
        exec->ops->accept_drafts(exec, decoder->round, q, decoder->logits, &decoder->options->sampling, first, R, V);
        if (state != NULL && state->decided) break;
    }
    return ls_exec_failed(exec);
}

/* Reads the round back, which waits for it, and appends to the text what stands. */
static ls_status end_round(ls_decoder *decoder, int limit)
{
    ls_exec *exec = decoder->model->exec;
    const ls_round *known = decoder->known;
    LS_TRY(ls_exec_download(exec, decoder->known, decoder->round, round_bytes(limit + 2)));
    LS_TRY(ls_exec_failed(exec));
    if (known->not_finite)
        return LS_FAIL(LS_NOT_FINITE,
                       "the model's logits are not finite; its weights are damaged or overflow this precision");
    LS_ASSERT(known->count >= 1 && known->count <= limit + 1);
    memcpy(decoder->text + decoder->length, known->token + 1, sizeof(int32_t) * (size_t)known->count);
    decoder->length += known->count;
    return LS_OK;
}

static ls_status issue_speculation(void *context, const ls_round_shape *shape)
{
    ls_decoder *decoder = context;
    int64_t rows = 1;
    LS_TRY(draft_by_layers(decoder, (int)shape->rows - 1, &rows));
    const ls_round *const state = seen(decoder);
    if (state != NULL && state->stopped == LS_ROUND_ENDED) rows = state->drafted; /* its own state is not there */
    return verify(decoder, shape->exit_layer, rows, decoder->draft_probability);
}

/* Drafts that are there already, or none: certainties, whose states are mere embeddings. */
static ls_status issue_rows(void *context, const ls_round_shape *shape)
{
    ls_decoder *decoder = context;
    LS_TRY(ls_decode_embed_there(decoder->decode, decoder->exit_states, decoder->round->token, shape->rows));
    return verify(decoder, 0, shape->rows, NULL);
}

/* Issues the round's ops one by one or, where the device has recorded their like, in one go. */
static ls_status issue(ls_decoder *decoder, ls_issue_round *ops, int64_t rows)
{
    const ls_decode_options *options = decoder->options;
    const ls_round_shape shape = {.mode = options->mode,
                                  .exit_layer = options->exit_layer,
                                  .rows = rows,
                                  .draft_confidence = options->draft_confidence,
                                  .end_of_text = options->end_of_text,
                                  .sampling = options->sampling};
    return ls_round_graphs_run(&decoder->graphs, decoder->model->exec, &shape, ops, decoder);
}

static ls_status speculate(ls_decoder *decoder, int limit)
{
    LS_TRY(begin_round(decoder, 0, false));
    return issue(decoder, issue_speculation, limit + 1);
}

static ls_status look_up(ls_decoder *decoder, int limit)
{
    int32_t *const draft = decoder->known->token + 1;
    const int32_t end_of_text = decoder->options->end_of_text;
    int drafted = ls_prompt_lookup(draft, limit, decoder->text, decoder->length);
    for (int i = 0; i < drafted; i++)
        if (draft[i] == end_of_text) drafted = i + 1;
    const bool ended = drafted > 0 && draft[drafted - 1] == end_of_text;
    LS_TRY(begin_round(decoder, drafted, ended));
    return issue(decoder, issue_rows, drafted + (ended ? 0 : 1));
}

static ls_status step(ls_decoder *decoder)
{
    LS_TRY(begin_round(decoder, 0, false));
    return issue(decoder, issue_rows, 1);
}

/* One round: at least one token, at most `remaining`. */
static ls_status run_round(ls_decoder *decoder, int64_t remaining)
{
    const ls_decode_options *options = decoder->options;
    /* The full model adds a token of its own, so one draft fewer than there is room for. */
    const int64_t room = remaining - 1 < decoder->max_draft ? remaining - 1 : decoder->max_draft;
    const int most = options->draft_tokens < room ? options->draft_tokens : (int)room;
    switch (options->mode) {
    case LS_DECODE_SELF_SPECULATIVE:
        LS_TRY(speculate(decoder, most));
        return end_round(decoder, most);
    case LS_DECODE_PROMPT_LOOKUP:
        LS_TRY(look_up(decoder, most));
        return end_round(decoder, most);
    default:
        LS_TRY(step(decoder));
        return end_round(decoder, 0);
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
        const double start = ls_seconds_now();
        LS_TRY(run_round(decoder, remaining));
        result->decode_seconds += ls_seconds_now() - start;

        const int64_t emitted = decoder->length - before;
        const int32_t *fresh = decoder->text + before;
        memcpy(result->tokens + result->count, fresh, sizeof *fresh * (size_t)emitted);
        result->count += emitted;
        result->drafted += decoder->known->drafted;
        result->accepted += decoder->known->accepted;
        result->rounds++;
        const bool stopped = listener != NULL && !listener(context, fresh, (int)emitted, decoder->known->accepted);
        const bool ended = fresh[emitted - 1] == options->end_of_text;
        if (ended || stopped) {
            result->finish_reason = ended ? "end_of_text" : "stopped";
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

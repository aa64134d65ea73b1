/* Generation: autoregressive, early-exit, self-speculative (Elhoushi et al. 2024, section 4.3), and prompt lookup, on
 * one code path.
 *
 * One round of self-speculation, cache length n, newest token not yet in the cache:
 *   draft   up to d tokens with layers [0,E); their hidden states leaving layer E-1 go to the exit-query cache
 *   verify  the last drafted token through [0,E), then all d+1 saved states through [E,L) in one pass
 *   accept  the longest agreeing prefix and the full model's next token; positions beyond it are simply written again
 * Layers below E never run twice for a position of a round. Greedy output equals autoregressive greedy output token for
 * token; sampled output has the same distribution (Leviathan et al. 2023: accept with min(1, p/q), else draw from
 * max(p-q, 0)). Prompt lookup drafts by copying what followed the last occurrence of the newest n-gram. */
#ifndef LS_EVAL_DECODER_H
#define LS_EVAL_DECODER_H

#include "kernels/sampling.h"
#include "model/decode.h"

typedef enum ls_decode_mode {
    LS_DECODE_AUTOREGRESSIVE = 0,
    LS_DECODE_EARLY_EXIT, /* E layers only, unverified: another, worse model */
    LS_DECODE_SELF_SPECULATIVE,
    LS_DECODE_PROMPT_LOOKUP, /* drafts cost nothing, the full model verifies */
} ls_decode_mode;

extern const char *const ls_decode_mode_names[]; /* NULL-terminated, in enum order */

typedef struct ls_decode_options {
    ls_decode_mode mode;
    int exit_layer;   /* E: layers the draft runs, 1..L-1; used by early-exit and self-speculative */
    int draft_tokens; /* d >= 1; used by self-speculative and prompt-lookup */
    /* Stop drafting where the draft's largest probability falls below; 0: never. It looks at the distribution before
     * the draw and never at the token drawn, so sampling stays lossless. */
    double draft_confidence;
    int64_t max_new_tokens;
    int32_t end_of_text; /* stops after this token; -1: never */
    ls_sampling sampling;
} ls_decode_options;

/* Called once a round as text appears: the first `accepted_drafts` of the `count` tokens were drafted, the rest came
 * from the full model; false ends the text behind this round. May be NULL. Its time is not counted as decoding. */
typedef bool ls_decode_listener(void *context, const int32_t *tokens, int count, int accepted_drafts);

typedef struct ls_decode_result {
    int32_t *tokens;           /* [count] new tokens, end of text included, in the caller's buffer */
    int64_t count;             /* new tokens */
    int64_t drafted, accepted; /* draft tokens, and those of them that were emitted */
    int64_t rounds;            /* passes of the full model (early-exit: of its E layers) */
    /* Prefill is all of the prompt but its last token, which the first round takes; so decode_seconds holds exactly
     * the passes that made `count` tokens, in every mode. */
    double prefill_seconds, decode_seconds;
    const char *finish_reason; /* "end_of_text", "stopped" by the listener, "length", "context", "interrupted" */
} ls_decode_result;

typedef struct ls_decoder ls_decoder;

/* capacity: prompt + new tokens at most. max_draft: most draft tokens any call will use. */
ls_status ls_decoder_create(ls_decoder **out, const ls_model *model, int64_t capacity, int max_draft);
void ls_decoder_destroy(ls_decoder *decoder);
/* LS_BAD_INPUT, one sentence, for an option that a model of L layers cannot honour. */
ls_status ls_decode_options_check(const ls_decode_options *options, int64_t layers);
/* `tokens`: caller's buffer for max_new_tokens or what the capacity leaves, whichever is less. A prompt longer than the
 * capacity or empty is LS_BAD_INPUT. Stops between rounds at a signal (core/interrupt.h), with LS_OK and what there is.
 */
ls_status ls_decoder_generate(ls_decoder *decoder, ls_decode_result *result, int32_t *tokens, const int32_t *prompt,
                              int64_t prompt_count, const ls_decode_options *options, ls_decode_listener *listener,
                              void *context);

#endif

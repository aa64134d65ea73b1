/* Generation: autoregressive, early-exit, and self-speculative (Elhoushi et al. 2024, section 4.3), on one code path.
 *
 * One round of self-speculation, cache length n, newest token not yet in the cache:
 *   draft   up to d tokens with layers [0,E); their hidden states leaving layer E-1 go to the exit-query cache
 *   verify  the last drafted token through [0,E), then all d+1 saved states through [E,L) in one pass
 *   accept  the longest agreeing prefix and the full model's next token; positions beyond it are simply written again
 * Greedy output equals autoregressive greedy output token for token; sampled output has the same distribution
 * (Leviathan et al. 2023: accept with min(1, p/q), else draw from max(p-q, 0)). */
#ifndef LS_EVAL_DECODER_H
#define LS_EVAL_DECODER_H

#include "eval/sampling.h"
#include "model/decode.h"

typedef enum ls_decode_mode {
    LS_DECODE_AUTOREGRESSIVE = 0,
    LS_DECODE_EARLY_EXIT, /* E layers only, unverified: another, worse model */
    LS_DECODE_SELF_SPECULATIVE,
} ls_decode_mode;

extern const char *const ls_decode_mode_names[]; /* NULL-terminated, in enum order */

typedef struct ls_decode_options {
    ls_decode_mode mode;
    int exit_layer;          /* E: layers the draft runs, 1..L-1; unused when autoregressive */
    int draft_tokens;        /* d >= 1 */
    double draft_confidence; /* stop drafting when the draft's own probability of its token falls below; 0: never */
    int64_t max_new_tokens;
    int32_t end_of_text; /* stops after this token; -1: never */
    ls_sampling sampling;
} ls_decode_options;

/* Called as text appears. `accepted_drafts` of the `count` tokens were drafted, the rest came from the full model. May
 * be NULL. */
typedef void ls_decode_listener(void *context, const int32_t *tokens, int count, int accepted_drafts);

typedef struct ls_decode_result {
    int32_t *tokens; /* [count] new tokens, owned by the caller's buffer */
    int64_t count;
    int64_t drafted, accepted, rounds;
    double prefill_seconds, decode_seconds; /* decoding apart from prefill */
    const char *finish_reason;              /* "end_of_text", "length", "context", "interrupted" */
} ls_decode_result;

typedef struct ls_decoder ls_decoder;

/* capacity: prompt + new tokens at most. max_draft: most draft tokens any call will use. */
ls_status ls_decoder_create(ls_decoder **out, const ls_model *model, int64_t capacity, int max_draft);
void ls_decoder_destroy(ls_decoder *decoder);
/* `tokens`: caller's buffer for max_new_tokens. A prompt longer than the capacity or empty is LS_BAD_INPUT. */
ls_status ls_decoder_generate(ls_decoder *decoder, ls_decode_result *result, int32_t *tokens, const int32_t *prompt,
                              int64_t prompt_count, const ls_decode_options *options, ls_decode_listener *listener,
                              void *context);

#endif

/* A prompt, alone or with what continues it, as the tokens a model is given.
 *
 * The two are encoded as one text and parted where the prompt's own tokens end, so that the continuation has the tokens
 * it would have in running text: no second dummy blank (SentencePiece), and " yes" rather than "yes" behind a blank.
 * Blanks at the prompt's end therefore belong to the continuation (lm-evaluation-harness, _encode_pair, does the same).
 * Where the two texts share a token, the continuation begins with it. The tokenizer's prefix, often a BOS, comes first.
 */
#ifndef LS_EVAL_TASK_TOKENS_H
#define LS_EVAL_TASK_TOKENS_H

#include "data/tokenizer.h"

typedef struct ls_task_tokens {
    int32_t *ids; /* [count] malloc'ed: prefix, prompt, continuation */
    int64_t count;
    int64_t scored; /* the last of them, the continuation's: 1 to count - 1; of a prompt alone 0 */
    bool cut;       /* tokens are missing behind the prefix: all would not fit */
    bool torn;      /* prompt and continuation shared a token */
} ls_task_tokens;

/* At most `most` tokens: the prompt loses its first ones. A continuation without tokens, or one that leaves no room for
 * a token before it, is LS_BAD_INPUT. A prompt without tokens is the end-of-text token where there is no prefix. */
ls_status ls_task_encode_pair(ls_task_tokens *out, const ls_tokenizer *tokenizer, const char *prompt,
                              const char *continuation, int64_t most);
/* A prompt to be continued, blanks at its end included; at most `most` >= 1 tokens, as above. */
ls_status ls_task_encode_prompt(ls_task_tokens *out, const ls_tokenizer *tokenizer, const char *prompt, int64_t most);
void ls_task_tokens_free(ls_task_tokens *tokens);

#endif

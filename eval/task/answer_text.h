/* What a model writes as an answer: the text of its tokens as they come, up to a stop string.
 *
 * Tokens are taken one by one, so where the answer ends does not depend on how many come at once. A stop string may
 * begin in one token and end in another; what follows its end is not taken. */
#ifndef LS_EVAL_TASK_ANSWER_TEXT_H
#define LS_EVAL_TASK_ANSWER_TEXT_H

#include "core/config.h"
#include "data/token_stream.h"

typedef struct ls_answer_text {
    ls_token_stream stream;
    const ls_string_list *stop;
    int32_t end_of_text;
    int64_t tokens; /* taken: all that the answer consists of, those of its stop string and the end of text included */
    bool ended;     /* by one of these */
    ls_text text;   /* so far; complete after ls_answer_text_end, and then without the stop string */
} ls_answer_text;

/* context[count]: the prompt. `stop` must stay. Free with ls_answer_text_free. */
void ls_answer_text_begin(ls_answer_text *answer, const ls_tokenizer *tokenizer, const int32_t *context, int64_t count,
                          const ls_string_list *stop);
/* Takes tokens until the answer ends. */
ls_status ls_answer_text_add(ls_answer_text *answer, const int32_t *tokens, int64_t count);
/* No more tokens come: the text is complete, and valid UTF-8. */
ls_status ls_answer_text_end(ls_answer_text *answer);
void ls_answer_text_free(ls_answer_text *answer);

#endif

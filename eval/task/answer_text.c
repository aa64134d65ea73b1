#include "eval/task/answer_text.h"

#include <stdlib.h>
#include <string.h>

void ls_answer_text_begin(ls_answer_text *answer, const ls_tokenizer *tokenizer, const int32_t *context, int64_t count,
                          const ls_string_list *stop)
{
    *answer = (ls_answer_text){.stop = stop, .end_of_text = ls_tokenizer_end_of_text(tokenizer)};
    ls_token_stream_begin(&answer->stream, tokenizer, context, count);
    ls_text_add(&answer->text, "", 0);
}

/* Cuts the text where a stop string begins that ends behind the first `known` bytes. */
static void cut_at_stop(ls_answer_text *answer, size_t known)
{
    ls_text *text = &answer->text;
    size_t end = text->length;
    for (int i = 0; i < answer->stop->count; i++) {
        const char *stop = answer->stop->values[i];
        const size_t length = strlen(stop), back = known < length - 1 ? known : length - 1;
        const char *from = text->bytes + known - back;
        const char *found = memmem(from, text->length - (size_t)(from - text->bytes), stop, length);
        if (found != NULL && (size_t)(found - text->bytes) < end) end = (size_t)(found - text->bytes);
    }
    if (end == text->length) return;
    text->length = end;
    text->bytes[end] = '\0';
    answer->ended = true;
}

ls_status ls_answer_text_add(ls_answer_text *answer, const int32_t *tokens, int64_t count)
{
    for (int64_t i = 0; i < count && !answer->ended; i++) {
        answer->tokens++;
        if (tokens[i] == answer->end_of_text) {
            answer->ended = true;
            return LS_OK;
        }
        const size_t known = answer->text.length;
        LS_TRY(ls_token_stream_add(&answer->stream, tokens[i], &answer->text));
        cut_at_stop(answer, known);
    }
    return LS_OK;
}

ls_status ls_answer_text_end(ls_answer_text *answer)
{
    const size_t known = answer->text.length;
    ls_text rest = {0};
    LS_TRY(ls_token_stream_end(&answer->stream, &rest));
    if (rest.length > 0) ls_text_add(&answer->text, rest.bytes, rest.length);
    free(rest.bytes);
    cut_at_stop(answer, known);
    char *valid = ls_text_valid_utf8(answer->text.bytes, answer->text.length);
    free(answer->text.bytes);
    answer->text = (ls_text){.bytes = valid, .length = strlen(valid), .capacity = strlen(valid) + 1};
    return LS_OK;
}

void ls_answer_text_free(ls_answer_text *answer)
{
    free(answer->text.bytes);
    *answer = (ls_answer_text){0};
}

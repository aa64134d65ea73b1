#include "eval/task/tokens.h"

#include "core/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int64_t common_beginning(const int32_t *a, int64_t a_count, const int32_t *b, int64_t b_count)
{
    int64_t same = 0;
    while (same < a_count && same < b_count && a[same] == b[same]) same++;
    return same;
}

/* Prefix, then the last of text[count] that fit; the end of text stands in for a beginning. */
static ls_status compose(ls_task_tokens *out, const ls_tokenizer *tokenizer, const int32_t *text, int64_t count,
                         int64_t most)
{
    int64_t prefix_count;
    const int32_t *prefix = ls_tokenizer_prefix(tokenizer, &prefix_count);
    const int32_t end_of_text = ls_tokenizer_end_of_text(tokenizer);
    if (prefix_count == 0 && out->scored == count && end_of_text >= 0) {
        prefix = &end_of_text;
        prefix_count = 1;
    }
    const int64_t kept = prefix_count + count <= most ? count : most - prefix_count;
    if (kept < out->scored || prefix_count + kept - out->scored < 1)
        return LS_FAIL(LS_BAD_INPUT, "a prompt of %lld tokens and an answer of %lld have no room in %lld",
                       (long long)(count - out->scored), (long long)out->scored, (long long)most);
    out->cut = kept < count;
    out->count = prefix_count + kept;
    out->ids = ls_text_memory(NULL, (size_t)out->count * sizeof *out->ids);
    if (prefix_count > 0) memcpy(out->ids, prefix, (size_t)prefix_count * sizeof *prefix);
    if (kept > 0) memcpy(out->ids + prefix_count, text + count - kept, (size_t)kept * sizeof *text);
    return LS_OK;
}

ls_status ls_task_encode_pair(ls_task_tokens *out, const ls_tokenizer *tokenizer, const char *prompt,
                              const char *continuation, int64_t most)
{
    *out = (ls_task_tokens){0};
    size_t border = strlen(prompt);
    while (border > 0 && isspace((unsigned char)prompt[border - 1])) border--;
    char *text = ls_text_format("%s%s", prompt, continuation);
    int32_t *before = NULL, *whole = NULL;
    int64_t before_count = 0, whole_count = 0;
    ls_status status = ls_tokenizer_encode(tokenizer, text, border, &before, &before_count);
    if (status == LS_OK) status = ls_tokenizer_encode(tokenizer, text, strlen(text), &whole, &whole_count);
    if (status == LS_OK) {
        const int64_t shared = common_beginning(before, before_count, whole, whole_count);
        out->torn = shared < before_count;
        out->scored = whole_count - shared;
        status = out->scored > 0 ? compose(out, tokenizer, whole, whole_count, most)
                                 : LS_FAIL(LS_BAD_INPUT, "an answer without tokens has no probability");
    }
    free(whole);
    free(before);
    free(text);
    return status;
}

ls_status ls_task_encode_prompt(ls_task_tokens *out, const ls_tokenizer *tokenizer, const char *prompt, int64_t most)
{
    int32_t *ids;
    int64_t count;
    *out = (ls_task_tokens){0};
    LS_TRY(ls_tokenizer_encode(tokenizer, prompt, strlen(prompt), &ids, &count));
    const ls_status status = compose(out, tokenizer, ids, count, most);
    free(ids);
    return status;
}

void ls_task_tokens_free(ls_task_tokens *tokens)
{
    free(tokens->ids);
    *tokens = (ls_task_tokens){0};
}

/* Finding added tokens in text; see added_tokens.h. */
#include "data/added_tokens.h"

#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

/* What counts as a word character beside a single_word token: alphabetic, marks, digits, connectors, joiners. */
#define WORD                                                                                                           \
    "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"                     \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}]"

static int compare_tokens(const void *left, const void *right)
{
    const ls_added_token *a = left;
    const ls_added_token *b = right;
    const int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    if (order != 0) return order;
    return (a->length > b->length) - (a->length < b->length);
}

ls_status ls_added_tokens_create(ls_added_tokens *out, const ls_added_token *tokens, int count)
{
    *out = (ls_added_tokens){0};
    if (count == 0) return LS_OK;
    out->tokens = malloc((size_t)count * sizeof *out->tokens);
    if (out->tokens == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for %d added tokens", count);
    memcpy(out->tokens, tokens, (size_t)count * sizeof *tokens);
    out->count = count;
    qsort(out->tokens, (size_t)count, sizeof *out->tokens, compare_tokens);
    bool words = false;
    for (int i = 0; i < count; i++) {
        out->first_byte[(unsigned char)tokens[i].text[0]] = true;
        words = words || tokens[i].single_word;
    }
    const ls_status status = words ? ls_regex_compile(&out->word, WORD, false, "added tokens") : LS_OK;
    if (status != LS_OK) ls_added_tokens_destroy(out);
    return status;
}

void ls_added_tokens_destroy(ls_added_tokens *added)
{
    free(added->tokens);
    ls_regex_free(added->word);
    *added = (ls_added_tokens){0};
}

/* The first token in tokens[low..high), whose texts agree below `depth`, with a byte >= `byte` there. */
static int narrow(const ls_added_tokens *added, int low, int high, size_t depth, int byte)
{
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const ls_added_token *token = &added->tokens[middle];
        if (token->length > depth && (unsigned char)token->text[depth] >= byte)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

const ls_added_token *ls_added_tokens_at(const ls_added_tokens *added, const char *text, size_t length)
{
    const ls_added_token *longest = NULL;
    int low = 0;
    int high = length > 0 && added->first_byte[(unsigned char)text[0]] ? added->count : 0;
    for (size_t depth = 0; depth < length && low < high; depth++) {
        const int byte = (unsigned char)text[depth];
        low = narrow(added, low, high, depth, byte);
        high = narrow(added, low, high, depth, byte + 1);
        if (low < high && added->tokens[low].length == depth + 1) longest = &added->tokens[low];
    }
    return longest;
}

/* Is the character of `size` bytes at `text` a word character? size 0 (no valid character there): no. */
static bool is_word(const ls_added_tokens *added, ls_regex_scratch *scratch, const char *text, int size)
{
    size_t start, end;
    bool found = false;
    if (size == 0) return false;
    return ls_regex_find(added->word, scratch, text, (size_t)size, 0, &start, &end, &found) == LS_OK && found;
}

static bool stands_alone(const ls_added_tokens *added, ls_regex_scratch *scratch, const char *text, size_t length,
                         size_t start, size_t end)
{
    uint32_t character;
    const int before = start == 0 ? 0 : ls_utf8_decode_last(text, start, &character);
    const int after = end == length ? 0 : ls_utf8_decode(text + end, length - end, &character);
    return !is_word(added, scratch, text + start - before, before) && !is_word(added, scratch, text + end, after);
}

static size_t strip_left(const char *text, size_t limit, size_t start)
{
    uint32_t character;
    while (start > limit) {
        const int size = ls_utf8_decode_last(text + limit, start - limit, &character);
        if (size == 0 || !ls_utf8_is_space(character)) break;
        start -= (size_t)size;
    }
    return start;
}

static size_t strip_right(const char *text, size_t length, size_t end)
{
    uint32_t character;
    while (end < length) {
        const int size = ls_utf8_decode(text + end, length - end, &character);
        if (size == 0 || !ls_utf8_is_space(character)) break;
        end += (size_t)size;
    }
    return end;
}

bool ls_added_tokens_find(const ls_added_tokens *added, ls_regex_scratch *scratch, const char *text, size_t length,
                          size_t search, size_t limit, ls_added_match *match)
{
    if (added->count == 0) return false;
    for (size_t at = search; at < length; at++) {
        if (!added->first_byte[(unsigned char)text[at]]) continue;
        const ls_added_token *token = ls_added_tokens_at(added, text + at, length - at);
        if (token == NULL) continue;
        const size_t end = at + token->length;
        if (token->single_word && !stands_alone(added, scratch, text, length, at, end)) {
            at = end - 1; /* a refused match is used up all the same */
            continue;
        }
        *match = (ls_added_match){
            .token = token,
            .start = token->left_strip ? strip_left(text, limit, at) : at,
            .end = token->right_strip ? strip_right(text, length, end) : end,
            .search = end,
        };
        return true;
    }
    return false;
}

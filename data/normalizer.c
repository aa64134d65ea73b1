/* Prepending and replacing; see normalizer.h. */
#include "data/normalizer.h"

#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

void ls_replacement_destroy(ls_replacement *replacement)
{
    ls_regex_free(replacement->regex);
    free(replacement->literal);
    free(replacement->content);
    *replacement = (ls_replacement){0};
}

static ls_status replace_literal(const ls_replacement *r, ls_buffer *out, const char *text, size_t length)
{
    size_t done = 0;
    for (const char *found; (found = memmem(text + done, length - done, r->literal, r->literal_length)) != NULL;) {
        const size_t start = (size_t)(found - text);
        LS_TRY(ls_buffer_add(out, text + done, start - done));
        LS_TRY(ls_buffer_add(out, r->content, r->content_length));
        done = start + r->literal_length;
    }
    return ls_buffer_add(out, text + done, length - done);
}

static ls_status replace_regex(const ls_replacement *r, ls_regex_scratch *scratch, ls_buffer *out, const char *text,
                               size_t length)
{
    size_t done = 0;
    for (size_t search = 0; search <= length;) {
        size_t start, end;
        bool found;
        LS_TRY(ls_regex_find(r->regex, scratch, text, length, search, &start, &end, &found));
        if (!found) break;
        const bool again = start == end && start == done && done > 0; /* an empty match right behind another */
        LS_TRY(ls_buffer_add(out, text + done, start - done));
        if (!again) LS_TRY(ls_buffer_add(out, r->content, r->content_length));
        done = end;
        search = end;
        if (start == end) {
            uint32_t character;
            search += end < length ? (size_t)ls_utf8_decode(text + end, length - end, &character) : 1;
        }
    }
    return ls_buffer_add(out, text + done, length - done);
}

ls_status ls_replacement_run(const ls_replacement *replacement, ls_regex_scratch *scratch, ls_buffer *out,
                             const char *text, size_t length)
{
    return replacement->regex == NULL ? replace_literal(replacement, out, text, length)
                                      : replace_regex(replacement, scratch, out, text, length);
}

void ls_normalizer_destroy(ls_normalizer *normalizer)
{
    for (int i = 0; i < normalizer->count; i++) {
        ls_replacement_destroy(&normalizer->steps[i].replacement);
        ls_charsmap_destroy(&normalizer->steps[i].charsmap);
    }
    normalizer->count = 0;
}

static ls_status run_step(const ls_normalizer *normalizer, const ls_normalizer_step *step, ls_regex_scratch *scratch,
                          ls_buffer *out, const char *text, size_t length)
{
    switch (step->kind) {
    case LS_NORMALIZER_PREPEND:
        if (length > 0) LS_TRY(ls_buffer_add(out, step->replacement.content, step->replacement.content_length));
        return ls_buffer_add(out, text, length);
    case LS_NORMALIZER_CHARSMAP:
        return ls_charsmap_run(&step->charsmap, normalizer->kept, out, text, length);
    case LS_NORMALIZER_REPLACE:
        break;
    }
    return ls_replacement_run(&step->replacement, scratch, out, text, length);
}

ls_status ls_normalizer_run(const ls_normalizer *normalizer, ls_regex_scratch *scratch, ls_buffer work[2], bool behind,
                            const char **text, size_t *length)
{
    for (int i = 0, runs = 0; i < normalizer->count; i++) {
        if (behind && normalizer->steps[i].beginning) continue;
        ls_buffer *out = &work[runs++ % 2];
        out->length = 0;
        LS_TRY(ls_buffer_reserve(out, *length + 16));
        LS_TRY(run_step(normalizer, &normalizer->steps[i], scratch, out, *text, *length));
        *text = out->bytes;
        *length = out->length;
    }
    return LS_OK;
}

/* The pipeline of pre-tokenizer stages; see pre_tokenizer.h. */
#include "data/pre_tokenizer.h"

#include "data/utf8.h"

#include <string.h>

const char *const ls_split_behavior_names[] = {"Isolated",       "Removed",    "MergedWithPrevious",
                                               "MergedWithNext", "Contiguous", NULL};

/* What the recursion down the stages carries. */
typedef struct run {
    const ls_pre_tokenizer *pre_tokenizer;
    ls_pre_tokenizer_scratch *scratch;
    ls_word_sink *sink;
    void *context;
    bool behind; /* what is first stands behind other text */
} run;

static ls_status run_stage(const run *r, int stage, const char *text, size_t length, bool first);

void ls_pre_tokenizer_destroy(ls_pre_tokenizer *pre_tokenizer)
{
    for (int i = 0; i < pre_tokenizer->count; i++) ls_regex_free(pre_tokenizer->stages[i].pattern);
    pre_tokenizer->count = 0;
}

ls_status ls_pre_tokenizer_scratch_create(ls_pre_tokenizer_scratch *out)
{
    *out = (ls_pre_tokenizer_scratch){0};
    return ls_regex_scratch_create(&out->regex);
}

void ls_pre_tokenizer_scratch_destroy(ls_pre_tokenizer_scratch *scratch)
{
    ls_regex_scratch_free(scratch->regex);
    for (int i = 0; i < LS_STAGES; i++) ls_buffer_destroy(&scratch->rewritten[i]);
    *scratch = (ls_pre_tokenizer_scratch){0};
}

static ls_status run_space(const run *r, int stage, const char *text, size_t length, bool first)
{
    if (text[0] == ' ' || (first && r->behind)) return run_stage(r, stage + 1, text, length, first);
    ls_buffer *out = &r->scratch->rewritten[stage];
    out->length = 0;
    LS_TRY(ls_buffer_reserve(out, length + 1));
    LS_TRY(ls_buffer_add(out, " ", 1));
    LS_TRY(ls_buffer_add(out, text, length));
    return run_stage(r, stage + 1, out->bytes, out->length, first);
}

/* Writes text[length] with its spaces replaced. */
static ls_status replace_spaces(ls_buffer *out, const char *text, size_t length, const char *space)
{
    const size_t size = strlen(space);
    const char *end = text + length;
    LS_TRY(ls_buffer_reserve(out, length + length / 4));
    for (const char *found; (found = memchr(text, ' ', (size_t)(end - text))) != NULL; text = found + 1) {
        LS_TRY(ls_buffer_add(out, text, (size_t)(found - text)));
        LS_TRY(ls_buffer_add(out, space, size));
    }
    return ls_buffer_add(out, text, (size_t)(end - text));
}

static bool begins_with(const char *text, size_t length, const char *prefix)
{
    const size_t size = strlen(prefix);
    return length >= size && memcmp(text, prefix, size) == 0;
}

static ls_status run_metaspace(const run *r, int stage, const char *text, size_t length, bool first)
{
    const ls_stage *self = &r->pre_tokenizer->stages[stage];
    const size_t size = strlen(self->space);
    ls_buffer *out = &r->scratch->rewritten[stage];
    out->length = 0;
    const bool prepends = self->prepend == LS_PREPEND_ALWAYS || (self->prepend == LS_PREPEND_FIRST && first);
    if (prepends && !(first && r->behind) && text[0] != ' ' && !begins_with(text, length, self->space))
        LS_TRY(ls_buffer_add(out, self->space, size));
    LS_TRY(replace_spaces(out, text, length, self->space));
    if (!self->cuts) return run_stage(r, stage + 1, out->bytes, out->length, first);
    for (size_t start = 0, end; start < out->length; start = end) {
        const char *next = start + size < out->length
                               ? memmem(out->bytes + start + 1, out->length - start - 1, self->space, size)
                               : NULL;
        end = next == NULL ? out->length : (size_t)(next - out->bytes);
        LS_TRY(run_stage(r, stage + 1, out->bytes + start, end - start, first && start == 0));
    }
    return LS_OK;
}

/* A group of neighbouring spans that goes on as one piece. A span is a match of the pattern or a gap between two. */
typedef struct group {
    size_t start, end;
    bool first; /* the whole text is the first */
    bool open;
    bool last_is_match; /* kind of its last span */
} group;

static bool joins(ls_split_behavior behavior, bool previous_is_match, bool is_match)
{
    switch (behavior) {
    case LS_SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !previous_is_match;
    case LS_SPLIT_MERGED_WITH_NEXT:
        return !is_match && previous_is_match;
    case LS_SPLIT_CONTIGUOUS:
        return is_match == previous_is_match;
    case LS_SPLIT_ISOLATED:
    case LS_SPLIT_REMOVED:
        break;
    }
    return false;
}

static ls_status close_group(const run *r, int stage, const group *g, const char *text)
{
    if (!g->open || g->start == g->end) return LS_OK;
    if (r->pre_tokenizer->stages[stage].behavior == LS_SPLIT_REMOVED && g->last_is_match) return LS_OK;
    return run_stage(r, stage + 1, text + g->start, g->end - g->start, g->first && g->start == 0);
}

static ls_status add_span(const run *r, int stage, group *g, const char *text, size_t start, size_t end, bool matched)
{
    const ls_stage *self = &r->pre_tokenizer->stages[stage];
    const bool is_match = matched != self->invert;
    if (g->open && joins(self->behavior, g->last_is_match, is_match)) {
        g->end = end;
    } else {
        LS_TRY(close_group(r, stage, g, text));
        *g = (group){.start = start, .end = end, .first = g->first, .open = true};
    }
    g->last_is_match = is_match;
    return LS_OK;
}

static ls_status run_split(const run *r, int stage, const char *text, size_t length, bool first)
{
    const ls_regex *pattern = r->pre_tokenizer->stages[stage].pattern;
    group g = {.first = first};
    size_t done = 0; /* spans cover text[0..done) */
    size_t search = 0;
    while (search <= length) {
        size_t start, end;
        bool found;
        LS_TRY(ls_regex_find(pattern, r->scratch->regex, text, length, search, &start, &end, &found));
        if (!found) break;
        if (start > done) LS_TRY(add_span(r, stage, &g, text, done, start, false));
        if (end > start || start > done || done == 0) LS_TRY(add_span(r, stage, &g, text, start, end, true));
        done = end;
        search = end;
        if (end == start) {
            uint32_t character;
            search += end < length ? (size_t)ls_utf8_decode(text + end, length - end, &character) : 1;
        }
    }
    if (done < length) LS_TRY(add_span(r, stage, &g, text, done, length, false));
    return close_group(r, stage, &g, text);
}

static ls_status run_stage(const run *r, int stage, const char *text, size_t length, bool first)
{
    if (stage >= r->pre_tokenizer->count) return r->sink(r->context, text, length);
    switch (r->pre_tokenizer->stages[stage].kind) {
    case LS_STAGE_SPACE:
        return run_space(r, stage, text, length, first);
    case LS_STAGE_METASPACE:
        return run_metaspace(r, stage, text, length, first);
    case LS_STAGE_SPLIT:
        break;
    }
    return run_split(r, stage, text, length, first);
}

ls_status ls_pre_tokenizer_run(const ls_pre_tokenizer *pre_tokenizer, ls_pre_tokenizer_scratch *scratch,
                               const char *text, size_t length, bool first, bool behind, ls_word_sink *sink,
                               void *context)
{
    const run r = {pre_tokenizer, scratch, sink, context, behind};
    return run_stage(&r, 0, text, length, first);
}

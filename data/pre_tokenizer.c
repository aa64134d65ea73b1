/* The pipeline of pre-tokenizer stages; see pre_tokenizer.h. */
#include "data/pre_tokenizer.h"

#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

const char *const ls_split_behavior_names[] = {"Isolated",       "Removed",    "MergedWithPrevious",
                                               "MergedWithNext", "Contiguous", NULL};

/* What the recursion down the stages carries. */
typedef struct run {
    const ls_pre_tokenizer *pre_tokenizer;
    ls_pre_tokenizer_scratch *scratch;
    ls_word_sink *sink;
    void *context;
} run;

static ls_status run_stage(const run *r, int stage, const char *text, size_t length);

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
    free(scratch->spaced);
    *scratch = (ls_pre_tokenizer_scratch){0};
}

static ls_status run_space(const run *r, int stage, const char *text, size_t length)
{
    if (text[0] == ' ') return run_stage(r, stage + 1, text, length);
    ls_pre_tokenizer_scratch *scratch = r->scratch;
    if (scratch->spaced_capacity < length + 1) {
        free(scratch->spaced);
        scratch->spaced = malloc(length + 1);
        scratch->spaced_capacity = scratch->spaced != NULL ? length + 1 : 0;
        if (scratch->spaced == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to encode %zu bytes", length);
    }
    scratch->spaced[0] = ' ';
    memcpy(scratch->spaced + 1, text, length);
    return run_stage(r, stage + 1, scratch->spaced, length + 1);
}

/* A group of neighbouring spans that goes on as one piece. A span is a match of the pattern or a gap between two. */
typedef struct group {
    size_t start, end;
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
    return run_stage(r, stage + 1, text + g->start, g->end - g->start);
}

static ls_status add_span(const run *r, int stage, group *g, const char *text, size_t start, size_t end, bool matched)
{
    const ls_stage *self = &r->pre_tokenizer->stages[stage];
    const bool is_match = matched != self->invert;
    if (g->open && joins(self->behavior, g->last_is_match, is_match)) {
        g->end = end;
    } else {
        LS_TRY(close_group(r, stage, g, text));
        *g = (group){.start = start, .end = end, .open = true};
    }
    g->last_is_match = is_match;
    return LS_OK;
}

static ls_status run_split(const run *r, int stage, const char *text, size_t length)
{
    const ls_regex *pattern = r->pre_tokenizer->stages[stage].pattern;
    group g = {0};
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

static ls_status run_stage(const run *r, int stage, const char *text, size_t length)
{
    if (stage >= r->pre_tokenizer->count) return r->sink(r->context, text, length);
    if (r->pre_tokenizer->stages[stage].pattern == NULL) return run_space(r, stage, text, length);
    return run_split(r, stage, text, length);
}

ls_status ls_pre_tokenizer_run(const ls_pre_tokenizer *pre_tokenizer, ls_pre_tokenizer_scratch *scratch,
                               const char *text, size_t length, int first_stage, ls_word_sink *sink, void *context)
{
    const run r = {pre_tokenizer, scratch, sink, context};
    return run_stage(&r, first_stage, text, length);
}

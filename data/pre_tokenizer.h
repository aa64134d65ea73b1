/* The pre-tokenizer: cuts text into the words that merges never cross.
 *
 * A short pipeline of stages; each cuts the pieces that the one before it made. A new kind of stage is a new case in
 * pre_tokenizer.c. The stages of a Hugging Face pre_tokenizer are read by pipeline_json.c. */
#ifndef LS_DATA_PRE_TOKENIZER_H
#define LS_DATA_PRE_TOKENIZER_H

#include "data/buffer.h"
#include "data/regex.h"

typedef enum ls_stage_kind {
    LS_STAGE_SPLIT,     /* cuts at the matches of a pattern */
    LS_STAGE_SPACE,     /* puts a space before text that does not begin with one */
    LS_STAGE_METASPACE, /* writes spaces as another character, may put one before the text, may cut before each */
} ls_stage_kind;

typedef enum ls_prepend_scheme { LS_PREPEND_NEVER, LS_PREPEND_FIRST, LS_PREPEND_ALWAYS } ls_prepend_scheme;

typedef enum ls_split_behavior { /* what becomes of a match of the pattern (names of tokenizer.json) */
                                 LS_SPLIT_ISOLATED = 0,
                                 LS_SPLIT_REMOVED,
                                 LS_SPLIT_MERGED_WITH_PREVIOUS,
                                 LS_SPLIT_MERGED_WITH_NEXT,
                                 LS_SPLIT_CONTIGUOUS,
} ls_split_behavior;

extern const char *const ls_split_behavior_names[]; /* NULL-terminated, in enum order */

typedef struct ls_stage {
    ls_stage_kind kind;
    ls_regex *pattern; /* SPLIT */
    ls_split_behavior behavior;
    bool invert;               /* what does not match counts as the match */
    char space[5];             /* METASPACE: the character for a space, NUL-terminated */
    ls_prepend_scheme prepend; /* METASPACE */
    bool cuts;                 /* METASPACE: each space begins a word */
} ls_stage;

enum { LS_STAGES = 16 };

typedef struct ls_pre_tokenizer {
    ls_stage stages[LS_STAGES];
    int count;
} ls_pre_tokenizer;

void ls_pre_tokenizer_destroy(ls_pre_tokenizer *pre_tokenizer);

/* One thread's working memory. */
typedef struct ls_pre_tokenizer_scratch {
    ls_regex_scratch *regex;
    ls_buffer rewritten[LS_STAGES]; /* by stage: the text it made */
} ls_pre_tokenizer_scratch;

ls_status ls_pre_tokenizer_scratch_create(ls_pre_tokenizer_scratch *out);
void ls_pre_tokenizer_scratch_destroy(ls_pre_tokenizer_scratch *scratch);

typedef ls_status ls_word_sink(void *context, const char *word, size_t length);

/* Calls `sink` for each word of text[length] (valid UTF-8, not empty), in order. `first`: the text is the beginning of
 * what was given to encode; `behind`: that beginning stands behind other text, so no space is put before it. */
ls_status ls_pre_tokenizer_run(const ls_pre_tokenizer *pre_tokenizer, ls_pre_tokenizer_scratch *scratch,
                               const char *text, size_t length, bool first, bool behind, ls_word_sink *sink,
                               void *context);

#endif

/* The normalizer: rewrites text before it is cut into words, as SentencePiece-style tokenizers ask for.
 *
 * A list of steps, each over the whole text. Its replacements serve the decoder too. Read by pipeline_json.c. */
#ifndef LS_DATA_NORMALIZER_H
#define LS_DATA_NORMALIZER_H

#include "data/buffer.h"
#include "data/charsmap.h"
#include "data/regex.h"

#include <stdbool.h>

/* Every match of a pattern becomes `content`. */
typedef struct ls_replacement {
    ls_regex *regex; /* NULL: `literal` is looked for */
    char *literal;   /* [literal_length], not empty */
    size_t literal_length;
    char *content; /* [content_length] */
    size_t content_length;
} ls_replacement;

void ls_replacement_destroy(ls_replacement *replacement);
/* Appends text[length] with its matches replaced. */
ls_status ls_replacement_run(const ls_replacement *replacement, ls_regex_scratch *scratch, ls_buffer *out,
                             const char *text, size_t length);

typedef enum ls_normalizer_kind {
    LS_NORMALIZER_PREPEND, /* puts replacement.content before text that is not empty */
    LS_NORMALIZER_REPLACE,
    LS_NORMALIZER_CHARSMAP, /* the table of a SentencePiece model */
} ls_normalizer_kind;

typedef struct ls_normalizer_step {
    ls_normalizer_kind kind;
    bool beginning; /* acts on the beginning of a text alone */
    ls_replacement replacement;
    ls_charsmap charsmap;
} ls_normalizer_step;

enum { LS_NORMALIZER_STEPS = 16 };

typedef struct ls_normalizer {
    ls_normalizer_step steps[LS_NORMALIZER_STEPS];
    int count;
    const ls_added_tokens *kept; /* a charsmap leaves these as they are; NULL: none */
} ls_normalizer;

void ls_normalizer_destroy(ls_normalizer *normalizer);

/* Rewrites *text[*length]; the result lies in one of `work` (or is the text itself when there is no step) and holds
 * until the next call. `behind`: it stands behind other text, so nothing is done to its beginning. */
ls_status ls_normalizer_run(const ls_normalizer *normalizer, ls_regex_scratch *scratch, ls_buffer work[2], bool behind,
                            const char **text, size_t *length);

#endif

/* The detokenizer: the texts of tokens to text.
 *
 * A list of steps (detokenizer_json.c reads them), each over the list of the tokens' texts, which are joined at the
 * end: what the `tokenizers` library calls a decoder. That of a SentencePiece model is one step of its own, since it
 * looks at the kinds of tokens. */
#ifndef LS_DATA_DETOKENIZER_H
#define LS_DATA_DETOKENIZER_H

#include "data/normalizer.h"
#include "data/vocabulary.h"

typedef enum ls_detokenizer_kind {
    LS_DETOKENIZER_BYTE_LEVEL, /* byte alphabet to bytes, all tokens as one */
    LS_DETOKENIZER_REPLACE,
    LS_DETOKENIZER_BYTE_FALLBACK, /* runs of <0xNN> to characters */
    LS_DETOKENIZER_FUSE,          /* one text from here on */
    LS_DETOKENIZER_STRIP,
    LS_DETOKENIZER_METASPACE,
    LS_DETOKENIZER_BLANKS, /* a blank between two tokens: what the library does without a decoder */
    LS_DETOKENIZER_SENTENCEPIECE,
} ls_detokenizer_kind;

typedef struct ls_detokenizer_step {
    ls_detokenizer_kind kind;
    ls_replacement replacement; /* REPLACE; its content is SENTENCEPIECE's text of the unknown token */
    char character[5];          /* STRIP, METASPACE: that one, NUL-terminated */
    int start, stop;            /* STRIP: at most so many from either side of a text */
    bool drops_first;           /* METASPACE: the first token's blanks; SENTENCEPIECE: the blank that begins a text */
    bool drops_every_first;     /* SENTENCEPIECE: that of every token before there is text */
} ls_detokenizer_step;

enum { LS_DETOKENIZER_STEPS = 16 };

typedef struct ls_detokenizer {
    ls_detokenizer_step steps[LS_DETOKENIZER_STEPS];
    int count;
    const bool *silent; /* [vocabulary size] SENTENCEPIECE: control tokens, which stand for no text */
    int32_t unknown;    /* SENTENCEPIECE; -1: none */
} ls_detokenizer;

void ls_detokenizer_destroy(ls_detokenizer *detokenizer);

/* *text is malloc'ed, NUL-terminated, valid UTF-8 (see ls_utf8_invalid for what is not). Ids that are not of
 * pieces[piece_count], or have no text there, are left out. */
ls_status ls_detokenizer_run(const ls_detokenizer *detokenizer, const ls_piece *pieces, int64_t piece_count,
                             const int32_t *ids, int64_t count, char **text, size_t *length);

#endif

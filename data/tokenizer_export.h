/* A tokenizer as the tables that other file formats keep (GGUF), read once more from the text of its tokenizer.json. */
#ifndef LS_DATA_TOKENIZER_EXPORT_H
#define LS_DATA_TOKENIZER_EXPORT_H

#include "data/tokenizer.h"

/* Numbers of SentencePiece's model file, which GGUF took over. */
typedef enum ls_token_type {
    LS_TOKEN_NORMAL = 1,
    LS_TOKEN_UNKNOWN = 2,
    LS_TOKEN_CONTROL = 3,      /* special added tokens */
    LS_TOKEN_USER_DEFINED = 4, /* other added tokens */
    LS_TOKEN_UNUSED = 5,       /* no token has this id */
    LS_TOKEN_BYTE = 6,         /* <0xNN>, where the model falls back to bytes */
} ls_token_type;

/* How text is cut before merges apply. */
typedef enum ls_tokenizer_family {
    LS_FAMILY_OTHER = 0,
    LS_FAMILY_GPT2,          /* byte-level, GPT-2's regular expression */
    LS_FAMILY_LLAMA3,        /* byte-level, Llama 3's */
    LS_FAMILY_SMOLLM2,       /* byte-level, every digit alone, then GPT-2's; StarCoder too */
    LS_FAMILY_SENTENCEPIECE, /* characters, blanks written as U+2581 */
} ls_tokenizer_family;

typedef struct ls_export_token {
    const char *text; /* NUL-terminated, as tokenizer.json writes it; "" for LS_TOKEN_UNUSED */
    ls_token_type type;
    float score; /* the higher, the earlier a merge makes it; what no merge makes has the lowest */
} ls_export_token;

typedef struct ls_export_merge {
    const char *left, *right; /* NUL-terminated */
} ls_export_merge;

typedef struct ls_tokenizer_export {
    ls_tokenizer_family family;
    ls_export_token *tokens; /* [token_count] by id */
    int64_t token_count;
    ls_export_merge *merges; /* [merge_count] by rank */
    int64_t merge_count;
    int32_t begin;             /* BOS: the first special token of the template; -1: none */
    int32_t end;               /* EOS; -1: none */
    int32_t unknown;           /* -1: none */
    bool adds_begin, adds_end; /* by the template */
    bool adds_blank;           /* SENTENCEPIECE: puts a blank before a text */
    void *memory;              /* what the texts lie in */
} ls_tokenizer_export;

/* LS_BAD_INPUT for the byte tokenizer, which no other program has. ls_tokenizer_export_destroy frees what a failed call
 * leaves too. */
ls_status ls_tokenizer_export_create(ls_tokenizer_export *out, const ls_tokenizer *tokenizer);
void ls_tokenizer_export_destroy(ls_tokenizer_export *tables);

#endif

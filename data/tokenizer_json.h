/* Reads a Hugging Face tokenizer.json whose model is BPE, byte-level or of characters. Called by tokenizer.c. */
#ifndef LS_DATA_TOKENIZER_JSON_H
#define LS_DATA_TOKENIZER_JSON_H

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/detokenizer.h"
#include "data/normalizer.h"
#include "data/pre_tokenizer.h"

#include <stddef.h>

/* What makes a tokenizer; zeroed before it is filled. Points into itself: never copy it. */
typedef struct ls_bpe_model {
    ls_vocabulary vocabulary;
    ls_bpe bpe;
    ls_normalizer normalizer;
    ls_added_tokens added[2]; /* [0] is cut out of the text, then [1] ("normalized") out of what is normalized */
    ls_buffer added_texts;    /* the texts of [1], normalized as well */
    ls_piece *shown;          /* [vocabulary.size] tokens for decoding, with those texts; NULL: just the vocabulary's */
    ls_pre_tokenizer pre_tokenizer;
    ls_detokenizer detokenizer;
    ls_ids prefix, suffix;        /* the template around a text */
    bool sentencepiece;           /* made from a SentencePiece model: reads text as that library does */
    ls_added_tokens user_defined; /* of a SentencePiece model */
    bool *special;                /* [vocabulary.size] control tokens */
    int32_t end_of_text;          /* -1: none */
} ls_bpe_model;

/* `name` stands for the file in messages. A component that is not understood is LS_BAD_INPUT, by its name. What a
 * failed call leaves in *out, ls_bpe_model_destroy frees. */
ls_status ls_bpe_model_read(ls_bpe_model *out, const char *text, size_t length, const char *name);
void ls_bpe_model_destroy(ls_bpe_model *model);

#endif

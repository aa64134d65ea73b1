/* Reads a Hugging Face tokenizer.json of the byte-level BPE kind. Called by tokenizer.c. */
#ifndef LS_DATA_TOKENIZER_JSON_H
#define LS_DATA_TOKENIZER_JSON_H

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/pre_tokenizer.h"

#include <stddef.h>

/* What makes byte-level BPE; zeroed before it is filled. Points into itself: never copy it. */
typedef struct ls_bpe_model {
    ls_vocabulary vocabulary;
    ls_bpe bpe;
    ls_added_tokens added[2]; /* [0] is cut out first, then [1] ("normalized") out of what is left */
    ls_pre_tokenizer pre_tokenizer;
    int32_t end_of_text; /* -1: none */
} ls_bpe_model;

/* `name` stands for the file in messages. A component that is not understood is LS_BAD_INPUT, by its name. What a
 * failed call leaves in *out, ls_bpe_model_destroy frees. */
ls_status ls_bpe_model_read(ls_bpe_model *out, const char *text, size_t length, const char *name);
void ls_bpe_model_destroy(ls_bpe_model *model);

#endif

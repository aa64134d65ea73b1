/* A model written as others read it. Called by export_command.c. */
#ifndef LS_MODEL_EXPORT_H
#define LS_MODEL_EXPORT_H

#include "data/tokenizer.h"
#include "model/transfer.h"

typedef struct ls_export {
    ls_weight_source source;
    ls_tokenizer *tokenizer;
    ls_special_ids ids; /* of the tokenizer and of what the source kept */
    int type;           /* ls_stored_type of all weights; -1: each as it is stored */
    int64_t shard_size; /* most bytes of weights in a file, as far as single tensors allow */
} ls_export;

/* The type that the matrices are written in. */
ls_stored_type ls_export_type(const ls_export *self);
/* Text of a tokenizer.json, malloc'ed: the tokenizer's own, or one that is written for the byte tokenizer. */
char *ls_export_tokenizer_text(const ls_export *self);
/* The text of a token of the vocabulary, malloc'ed; NULL for id -1. */
char *ls_export_token_text(const ls_export *self, int64_t id);

/* Fills an empty folder: weights, config.json, generation_config.json, tokenizer.json, tokenizer_config.json. */
ls_status ls_export_folder(const ls_export *self, const char *folder, ls_progress *progress);
/* One GGUF file, as llama.cpp reads it (gguf.c). */
ls_status ls_export_gguf(const ls_export *self, const char *path, ls_progress *progress);

#endif

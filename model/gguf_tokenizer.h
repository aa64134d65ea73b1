/* A tokenizer.json as the keys that llama.cpp builds its tokenizer from. Called by export_gguf.c. */
#ifndef LS_MODEL_GGUF_TOKENIZER_H
#define LS_MODEL_GGUF_TOKENIZER_H

#include "core/status.h"
#include "model/gguf.h"
#include "model/huggingface.h"

/* Adds "tokenizer.ggml.*" for a vocabulary of `size` ids, those that no token has filled up. A tokenizer that llama.cpp
 * would split otherwise than we do is LS_UNSUPPORTED, naming what it lacks. `text` is a tokenizer.json. */
ls_status ls_gguf_add_tokenizer(ls_gguf *out, const char *text, const char *name, int64_t size,
                                const ls_special_ids *ids);

#endif

/* GGUF version 3: typed keys, then the list of tensors, then their data, each at a multiple of 32 bytes.
 *
 * The header is put together in memory and its counts are filled in at the end; the caller streams the data. */
#ifndef LS_MODEL_GGUF_H
#define LS_MODEL_GGUF_H

#include "core/text.h"
#include "model/stored_type.h"

#include <stdbool.h>

#define LS_GGUF_ALIGNMENT 32

typedef struct ls_gguf {
    ls_text keys, tensors;
    uint64_t key_count, tensor_count;
    uint64_t data; /* bytes of data so far, padding included */
} ls_gguf;

void ls_gguf_add_u32(ls_gguf *self, const char *key, uint32_t value);
void ls_gguf_add_f32(ls_gguf *self, const char *key, double value);
void ls_gguf_add_bool(ls_gguf *self, const char *key, bool value);
void ls_gguf_add_text(ls_gguf *self, const char *key, const char *value);
void ls_gguf_add_texts(ls_gguf *self, const char *key, const char *const *values, int64_t count);
void ls_gguf_add_i32s(ls_gguf *self, const char *key, const int32_t *values, int64_t count);
void ls_gguf_add_f32s(ls_gguf *self, const char *key, const float *values, int64_t count);
/* Tensors in the order of their data; cols 0: a vector. */
void ls_gguf_add_tensor(ls_gguf *self, const char *name, ls_stored_type type, int64_t rows, int64_t cols);
/* The whole header, malloc'ed, *length bytes with the padding behind it. Frees `self`. */
char *ls_gguf_finish(ls_gguf *self, size_t *length);
/* Zero bytes that follow `bytes` of data. */
size_t ls_gguf_padding(uint64_t bytes);

#endif

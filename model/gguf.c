/* The header of a GGUF file, see gguf.h. Numbers are little endian. */
#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION = 3 };
enum { KIND_U32 = 4, KIND_I32 = 5, KIND_F32 = 6, KIND_BOOL = 7, KIND_TEXT = 8, KIND_ARRAY = 9 };

size_t ls_gguf_padding(uint64_t bytes)
{
    return (size_t)((LS_GGUF_ALIGNMENT - bytes % LS_GGUF_ALIGNMENT) % LS_GGUF_ALIGNMENT);
}

static void put_number(ls_text *out, uint64_t value, size_t bytes)
{
    char little[8];
    for (size_t i = 0; i < bytes; i++) little[i] = (char)(value >> 8 * i & 0xFF);
    ls_text_add(out, little, bytes);
}

static void put_text(ls_text *out, const char *text)
{
    put_number(out, strlen(text), 8);
    ls_text_add(out, text, strlen(text));
}

static void put_float(ls_text *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_number(out, bits, 4);
}

static ls_text *add_key(ls_gguf *self, const char *key, uint32_t kind)
{
    put_text(&self->keys, key);
    put_number(&self->keys, kind, 4);
    self->key_count++;
    return &self->keys;
}

static ls_text *add_array(ls_gguf *self, const char *key, uint32_t kind, int64_t count)
{
    ls_text *out = add_key(self, key, KIND_ARRAY);
    put_number(out, kind, 4);
    put_number(out, (uint64_t)count, 8);
    return out;
}

void ls_gguf_add_u32(ls_gguf *self, const char *key, uint32_t value)
{
    put_number(add_key(self, key, KIND_U32), value, 4);
}

void ls_gguf_add_f32(ls_gguf *self, const char *key, double value)
{
    put_float(add_key(self, key, KIND_F32), (float)value);
}

void ls_gguf_add_bool(ls_gguf *self, const char *key, bool value)
{
    put_number(add_key(self, key, KIND_BOOL), value, 1);
}

void ls_gguf_add_text(ls_gguf *self, const char *key, const char *value)
{
    put_text(add_key(self, key, KIND_TEXT), value);
}

void ls_gguf_add_texts(ls_gguf *self, const char *key, const char *const *values, int64_t count)
{
    ls_text *out = add_array(self, key, KIND_TEXT, count);
    for (int64_t i = 0; i < count; i++) put_text(out, values[i]);
}

void ls_gguf_add_i32s(ls_gguf *self, const char *key, const int32_t *values, int64_t count)
{
    ls_text *out = add_array(self, key, KIND_I32, count);
    for (int64_t i = 0; i < count; i++) put_number(out, (uint32_t)values[i], 4);
}

void ls_gguf_add_f32s(ls_gguf *self, const char *key, const float *values, int64_t count)
{
    ls_text *out = add_array(self, key, KIND_F32, count);
    for (int64_t i = 0; i < count; i++) put_float(out, values[i]);
}

void ls_gguf_add_tensor(ls_gguf *self, const char *name, ls_stored_type type, int64_t rows, int64_t cols)
{
    static const uint32_t numbers[] = {0, 1, 30}; /* ggml's, by ls_stored_type */
    ls_text *out = &self->tensors;
    put_text(out, name);
    put_number(out, cols == 0 ? 1 : 2, 4);
    if (cols > 0) put_number(out, (uint64_t)cols, 8); /* the dimension that varies fastest comes first */
    put_number(out, (uint64_t)rows, 8);
    put_number(out, numbers[type], 4);
    put_number(out, self->data, 8);
    const uint64_t bytes = (uint64_t)rows * (uint64_t)(cols == 0 ? 1 : cols) * ls_stored_type_size(type);
    self->data += bytes + ls_gguf_padding(bytes);
    self->tensor_count++;
}

char *ls_gguf_finish(ls_gguf *self, size_t *length)
{
    static const char zeros[LS_GGUF_ALIGNMENT];
    ls_text out = {0};
    ls_text_add(&out, "GGUF", 4);
    put_number(&out, VERSION, 4);
    put_number(&out, self->tensor_count, 8);
    put_number(&out, self->key_count, 8);
    ls_text_add(&out, self->keys.bytes, self->keys.length);
    ls_text_add(&out, self->tensors.bytes, self->tensors.length);
    ls_text_add(&out, zeros, ls_gguf_padding(out.length));
    free(self->keys.bytes);
    free(self->tensors.bytes);
    *self = (ls_gguf){0};
    *length = out.length;
    return out.bytes;
}

/* Bytes that grow; see buffer.h. */
#include "data/buffer.h"

#include <stdlib.h>
#include <string.h>

ls_status ls_buffer_reserve(ls_buffer *buffer, size_t more)
{
    if (buffer->capacity - buffer->length >= more) return LS_OK;
    const size_t capacity = buffer->capacity + buffer->capacity / 2 + more + 64;
    char *bytes = realloc(buffer->bytes, capacity);
    if (bytes == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for a text of %zu bytes", capacity);
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return LS_OK;
}

ls_status ls_buffer_add(ls_buffer *buffer, const char *bytes, size_t length)
{
    LS_TRY(ls_buffer_reserve(buffer, length));
    if (length > 0) memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    return LS_OK;
}

void ls_buffer_destroy(ls_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (ls_buffer){0};
}

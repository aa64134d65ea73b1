/* Bytes that grow, for text on its way through a tokenizer: kept between calls, so that encoding rarely allocates. */
#ifndef LS_DATA_BUFFER_H
#define LS_DATA_BUFFER_H

#include "core/status.h"

#include <stddef.h>

typedef struct ls_buffer {
    char *bytes; /* [capacity], malloc'ed; starts as {0} */
    size_t length, capacity;
} ls_buffer;

/* Room for `more` bytes behind the first `length`. */
ls_status ls_buffer_reserve(ls_buffer *buffer, size_t more);
ls_status ls_buffer_add(ls_buffer *buffer, const char *bytes, size_t length);
void ls_buffer_destroy(ls_buffer *buffer);

#endif

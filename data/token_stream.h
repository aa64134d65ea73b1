/* The text of tokens as they come one by one, as a continuation of what came before.
 *
 * Decoding a few tokens alone is not the same as decoding them behind others: a character may be spread over tokens,
 * and SentencePiece drops the blank that begins a text. So a short window of tokens is decoded with and without the new
 * ones, and the difference is their text. */
#ifndef LS_DATA_TOKEN_STREAM_H
#define LS_DATA_TOKEN_STREAM_H

#include "core/text.h"
#include "data/tokenizer.h"

enum { LS_TOKEN_STREAM_WAIT = 16, LS_TOKEN_STREAM_WINDOW = 2 * LS_TOKEN_STREAM_WAIT };

typedef struct ls_token_stream {
    const ls_tokenizer *tokenizer;
    int32_t ids[LS_TOKEN_STREAM_WINDOW];
    int count;
    int shown; /* the text of ids[0..shown) has been given out */
} ls_token_stream;

/* context[count]: the tokens that came before; only the last few matter. */
void ls_token_stream_begin(ls_token_stream *stream, const ls_tokenizer *tokenizer, const int32_t *context,
                           int64_t count);
/* Appends to `out` the text that is certain by now: whole characters, unless LS_TOKEN_STREAM_WAIT tokens make none. */
ls_status ls_token_stream_add(ls_token_stream *stream, int32_t id, ls_text *out);
/* Appends the text that was held back. */
ls_status ls_token_stream_end(ls_token_stream *stream, ls_text *out);

/* Length of the longest prefix that does not end within a UTF-8 character. */
size_t ls_utf8_whole(const char *bytes, size_t length);

#endif

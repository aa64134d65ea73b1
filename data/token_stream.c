/* A window of tokens, decoded twice; see token_stream.h. */
#include "data/token_stream.h"

#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD: what a decoder makes of a part of a character */

/* Bytes of a character that begins with `lead`; 1 for what begins none. */
static size_t character_length(unsigned char lead)
{
    if (lead >= 0xF0 && lead <= 0xF4) return 4;
    if (lead >= 0xE0 && lead <= 0xEF) return 3;
    if (lead >= 0xC2 && lead <= 0xDF) return 2;
    return 1;
}

size_t ls_utf8_whole(const char *bytes, size_t length)
{
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        const unsigned char byte = (unsigned char)bytes[length - back];
        if ((byte & 0xC0) == 0x80) continue;
        return character_length(byte) > back ? length - back : length;
    }
    return length;
}

void ls_token_stream_begin(ls_token_stream *stream, const ls_tokenizer *tokenizer, const int32_t *context,
                           int64_t count)
{
    const int64_t kept = count < LS_TOKEN_STREAM_WAIT ? count : LS_TOKEN_STREAM_WAIT;
    *stream = (ls_token_stream){.tokenizer = tokenizer, .count = (int)kept, .shown = (int)kept};
    if (kept > 0) memcpy(stream->ids, context + count - kept, (size_t)kept * sizeof *context);
}

static bool is_whole(const char *text, size_t length)
{
    const size_t size = strlen(REPLACEMENT);
    if (length >= size && memcmp(text + length - size, REPLACEMENT, size) == 0) return false;
    return ls_utf8_whole(text, length) == length;
}

/* The text of the whole window behind that of its shown part, where it is one. */
static ls_status find_news(const ls_token_stream *stream, bool at_any_price, char **news, size_t *length)
{
    char *before = NULL, *all = NULL;
    size_t before_length = 0, all_length = 0;
    ls_status status = LS_OK;
    *news = NULL;
    LS_TRY_GOTO(ls_tokenizer_decode(stream->tokenizer, stream->ids, stream->shown, &before, &before_length), done);
    LS_TRY_GOTO(ls_tokenizer_decode(stream->tokenizer, stream->ids, stream->count, &all, &all_length), done);
    const bool continues = all_length >= before_length && memcmp(all, before, before_length) == 0;
    *length = all_length - before_length;
    if (continues && *length > 0 && (at_any_price || is_whole(all, all_length)))
        *news = ls_text_copy(all + before_length, *length);
    else if (!continues && at_any_price)
        status = ls_tokenizer_decode(stream->tokenizer, stream->ids + stream->shown, stream->count - stream->shown,
                                     news, length);
done:
    free(before);
    free(all);
    return status;
}

static ls_status give_out(ls_token_stream *stream, bool at_any_price, ls_text *out)
{
    char *news;
    size_t length;
    LS_TRY(find_news(stream, at_any_price, &news, &length));
    if (news != NULL) ls_text_add(out, news, length);
    if (news != NULL || at_any_price) {
        stream->count -= stream->shown;
        memmove(stream->ids, stream->ids + stream->shown, (size_t)stream->count * sizeof *stream->ids);
        stream->shown = stream->count;
    }
    free(news);
    return LS_OK;
}

ls_status ls_token_stream_add(ls_token_stream *stream, int32_t id, ls_text *out)
{
    LS_ASSERT(stream->count < LS_TOKEN_STREAM_WINDOW);
    stream->ids[stream->count++] = id;
    return give_out(stream, stream->count - stream->shown >= LS_TOKEN_STREAM_WAIT, out);
}

ls_status ls_token_stream_end(ls_token_stream *stream, ls_text *out)
{
    return stream->count > stream->shown ? give_out(stream, true, out) : LS_OK;
}

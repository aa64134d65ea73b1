#include "eval/text_stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GREEN "\033[32m"
#define PLAIN "\033[0m"

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

static void set_green(ls_text_stream *stream, bool green)
{
    if (!stream->colour || stream->green == green) return;
    (void)fputs(green ? GREEN : PLAIN, stream->file);
    stream->green = green;
}

static void flush_prefix(ls_text_stream *stream, size_t length, bool green)
{
    if (length == 0) return;
    char *text = ls_text_valid_utf8(stream->held.bytes, length);
    set_green(stream, green);
    (void)fputs(text, stream->file);
    stream->line_open = stream->held.bytes[length - 1] != '\n';
    stream->held.length -= length;
    memmove(stream->held.bytes, stream->held.bytes + length, stream->held.length);
    free(text);
}

void ls_text_stream_write(ls_text_stream *stream, const int32_t *tokens, int count, int accepted_drafts)
{
    const int32_t end_of_text = ls_tokenizer_end_of_text(stream->tokenizer);
    for (int i = 0; i < count; i++) {
        if (tokens[i] == end_of_text) continue;
        size_t length;
        const char *bytes = ls_tokenizer_token_bytes(stream->tokenizer, tokens[i], &length);
        if (bytes == NULL) continue;
        ls_text_add(&stream->held, bytes, length);
        flush_prefix(stream, ls_utf8_whole(stream->held.bytes, stream->held.length), i < accepted_drafts);
    }
    (void)fflush(stream->file);
}

void ls_text_stream_end(ls_text_stream *stream)
{
    flush_prefix(stream, stream->held.length, stream->green);
    set_green(stream, false);
    if (stream->line_open) (void)fputc('\n', stream->file);
    (void)fflush(stream->file);
    free(stream->held.bytes);
    stream->held = (ls_text){0};
}

bool ls_text_stream_wants_colour(FILE *file)
{
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    if (no_colour != NULL && no_colour[0] != '\0') return false;
    if (terminal != NULL && strcmp(terminal, "dumb") == 0) return false;
    return isatty(fileno(file)) == 1;
}

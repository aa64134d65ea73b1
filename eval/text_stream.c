#include "eval/text_stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GREEN "\033[32m"
#define PLAIN "\033[0m"

static void set_green(ls_text_stream *stream, bool green)
{
    if (!stream->colour || stream->green == green) return;
    (void)fputs(green ? GREEN : PLAIN, stream->file);
    stream->green = green;
}

static void show(ls_text_stream *stream, ls_text *news, bool green)
{
    if (news->length > 0) {
        char *text = ls_text_valid_utf8(news->bytes, news->length);
        set_green(stream, green);
        (void)fputs(text, stream->file);
        stream->line_open = news->bytes[news->length - 1] != '\n';
        free(text);
    }
    free(news->bytes);
}

void ls_text_stream_write(ls_text_stream *stream, const int32_t *tokens, int count, int accepted_drafts)
{
    for (int i = 0; i < count; i++) {
        if (tokens[i] == stream->end) continue;
        ls_text news = {0};
        (void)ls_token_stream_add(&stream->tokens, tokens[i], &news);
        show(stream, &news, i < accepted_drafts);
    }
    (void)fflush(stream->file);
}

void ls_text_stream_end(ls_text_stream *stream)
{
    ls_text news = {0};
    (void)ls_token_stream_end(&stream->tokens, &news);
    show(stream, &news, stream->green);
    set_green(stream, false);
    if (stream->line_open) (void)fputc('\n', stream->file);
    (void)fflush(stream->file);
}

bool ls_text_stream_wants_colour(FILE *file)
{
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    if (no_colour != NULL && no_colour[0] != '\0') return false;
    if (terminal != NULL && strcmp(terminal, "dumb") == 0) return false;
    return isatty(fileno(file)) == 1;
}

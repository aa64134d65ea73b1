/* Tokens to text on a stream, as they come: whole characters only, and two colours on request. */
#ifndef LS_EVAL_TEXT_STREAM_H
#define LS_EVAL_TEXT_STREAM_H

#include "data/token_stream.h"

#include <stdio.h>

typedef struct ls_text_stream {
    FILE *file;
    ls_token_stream tokens; /* begun, behind the prompt */
    int32_t end;            /* the token that ends the text and shows nothing; -1: none */
    bool colour;            /* drafted and accepted text green, the full model's own as it is */
    bool green;
    bool line_open; /* the last character was not a newline */
} ls_text_stream;

/* The first `accepted_drafts` of the tokens were drafted. Bytes that are not UTF-8 show as U+FFFD. */
void ls_text_stream_write(ls_text_stream *stream, const int32_t *tokens, int count, int accepted_drafts);
/* Writes what is held back, ends colour and line. */
void ls_text_stream_end(ls_text_stream *stream);
/* True when `file` is a terminal that wants colours: NO_COLOR empty or unset, TERM not "dumb". */
bool ls_text_stream_wants_colour(FILE *file);

#endif

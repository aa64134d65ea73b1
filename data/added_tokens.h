/* Added tokens: strings such as <|endoftext|> that are cut out of the text before anything else happens to it.
 *
 * Of the matches that begin earliest the longest wins. The list is kept sorted, so a match is found by narrowing a
 * range of it byte by byte. Immutable once sorted. */
#ifndef LS_DATA_ADDED_TOKENS_H
#define LS_DATA_ADDED_TOKENS_H

#include "data/regex.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ls_added_token {
    const char *text; /* [length], owned by somebody who lives longer */
    size_t length;
    int32_t id;
    bool left_strip, right_strip; /* takes the white space beside it along */
    bool single_word;             /* does not match with a word character beside it */
} ls_added_token;

typedef struct ls_added_tokens {
    ls_added_token *tokens; /* [count], sorted by text */
    int count;
    bool first_byte[256]; /* some token begins with it */
    ls_regex *word;       /* one word character; NULL when no token asks for single_word */
} ls_added_tokens;

/* Copies tokens[count], in any order, of distinct texts, none empty. */
ls_status ls_added_tokens_create(ls_added_tokens *out, const ls_added_token *tokens, int count);
void ls_added_tokens_destroy(ls_added_tokens *added);

/* The longest token that text[length] begins with, whatever stands beside it; NULL: none. */
const ls_added_token *ls_added_tokens_at(const ls_added_tokens *added, const char *text, size_t length);
typedef struct ls_added_match {
    const ls_added_token *token;
    size_t start, end; /* with the white space it takes along */
    size_t search;     /* where the next match may begin: behind the token itself */
} ls_added_match;

/* The first match in text[length] that begins at or after `search`; white space before it is taken back to `limit` at
 * most. False: none. */
bool ls_added_tokens_find(const ls_added_tokens *added, ls_regex_scratch *scratch, const char *text, size_t length,
                          size_t search, size_t limit, ls_added_match *match);

#endif

/* Regular expressions of tokenizer.json, through PCRE2.
 *
 * Those files are written for Oniguruma in Ruby's syntax. The two agree on what tokenizers use except for a few classes
 * (\s \w \v) and some rare constructs; ls_regex_compile rewrites the former and refuses the latter by name, so that an
 * accepted pattern means the same. A compiled ls_regex is shared by threads; an ls_regex_scratch is one thread's. */
#ifndef LS_DATA_REGEX_H
#define LS_DATA_REGEX_H

#include "core/status.h"

#include <stddef.h>

typedef struct ls_regex ls_regex;
typedef struct ls_regex_scratch ls_regex_scratch;

/* `literal`: the pattern is plain text. `name` stands for the tokenizer in messages. */
ls_status ls_regex_compile(ls_regex **out, const char *pattern, bool literal, const char *name);
void ls_regex_free(ls_regex *regex);

ls_status ls_regex_scratch_create(ls_regex_scratch **out);
void ls_regex_scratch_free(ls_regex_scratch *scratch);

/* The leftmost match in text[length] (valid UTF-8) at or after `start`: [*match_start, *match_end). *found false: none.
 */
ls_status ls_regex_find(const ls_regex *regex, ls_regex_scratch *scratch, const char *text, size_t length, size_t start,
                        size_t *match_start, size_t *match_end, bool *found);

/* The PCRE2 pattern that means what `pattern` means to Oniguruma; malloc'ed. LS_BAD_INPUT where there is none. */
ls_status ls_regex_translate(char **out, const char *pattern, const char *name);

#endif

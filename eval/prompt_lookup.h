/* Drafting by copying from the text so far (Saxena 2023, "Prompt Lookup Decoding"). */
#ifndef LS_EVAL_PROMPT_LOOKUP_H
#define LS_EVAL_PROMPT_LOOKUP_H

#include <stdint.h>

/* Looks for the latest earlier occurrence of the text's last n-gram, n = 3, 2, 1, and copies up to `limit` tokens that
 * followed it to draft [limit]. text [length]. Returns how many, 0 when nothing matches. */
int ls_prompt_lookup(int32_t *draft, int limit, const int32_t *text, int64_t length);

#endif

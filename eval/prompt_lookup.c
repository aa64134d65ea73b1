#include "eval/prompt_lookup.h"

#include <string.h>

#define LONGEST_NGRAM 3

int ls_prompt_lookup(int32_t *draft, int limit, const int32_t *text, int64_t length)
{
    for (int64_t n = LONGEST_NGRAM; n >= 1; n--) {
        const int32_t *last = text + length - n;
        for (int64_t start = length - n - 1; start >= 0; start--) {
            if (memcmp(text + start, last, sizeof *text * (size_t)n) != 0) continue;
            const int64_t follow = start + n;
            const int count = length - follow < limit ? (int)(length - follow) : limit;
            memcpy(draft, text + follow, sizeof *draft * (size_t)count);
            return count;
        }
    }
    return 0;
}

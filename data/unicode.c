/* Categories by name; see unicode.h. */
#include "data/unicode.h"

#include <string.h>

bool ls_unicode_category_is(int category, const char *name, size_t length)
{
    return (length == 1 || length == 2) && strncmp(ls_unicode_category_names[category], name, length) == 0;
}

bool ls_unicode_add_class(ls_text *out, const char *name, size_t length, bool complement)
{
    bool known = false;
    for (int i = 0; i < ls_unicode_category_count; i++) known = known || ls_unicode_category_is(i, name, length);
    if (!known) return false;
    uint32_t first = LS_CHARACTERS; /* of the open range; LS_CHARACTERS: none is open */
    for (int i = 0; i <= ls_unicode_range_count; i++) {
        const bool end = i == ls_unicode_range_count;
        const uint32_t start = end ? LS_CHARACTERS : ls_unicode_ranges[i] >> 8;
        const bool inside =
            !end && ls_unicode_category_is((int)(ls_unicode_ranges[i] & 0xFF), name, length) != complement;
        if (inside && first == LS_CHARACTERS) first = start;
        if (inside || first == LS_CHARACTERS) continue;
        ls_text_addf(out, "\\x{%x}-\\x{%x}", first, start - 1);
        first = LS_CHARACTERS;
    }
    return true;
}

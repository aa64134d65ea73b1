/* General categories of characters, fixed at Unicode 16.0.
 *
 * A tokenizer must cut text the same everywhere, so what is a letter is neither left to the version of the installed
 * PCRE2 nor to the C library. 16.0 is what the regular expressions of the `tokenizers` library know. */
#ifndef LS_DATA_UNICODE_H
#define LS_DATA_UNICODE_H

#include "core/text.h"

enum { LS_CHARACTERS = 0x110000 };

extern const char *const ls_unicode_category_names[]; /* [ls_unicode_category_count] "Lu", "Nd", ... */
extern const int ls_unicode_category_count;
extern const uint32_t ls_unicode_ranges[]; /* [ls_unicode_range_count] first character << 8 | category, rising */
extern const int ls_unicode_range_count;

/* Is category number `category` the one named, or one of that letter ("L": all letters)? `name` ends where `length`
 * says. */
bool ls_unicode_category_is(int category, const char *name, size_t length);
/* Appends the characters of a category, or with `complement` all others, as the inside of a class of a regular
 * expression: "\x{41}-\x{5a}...". False: no category has that name. */
bool ls_unicode_add_class(ls_text *out, const char *name, size_t length, bool complement);

#endif

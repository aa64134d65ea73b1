/* UTF-8, as in table 3-7 of the Unicode standard: no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef LS_DATA_UTF8_H
#define LS_DATA_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length in bytes (1..4) of the character at text[0], `available` >= 1 bytes; 0 when no valid one starts there. */
int ls_utf8_decode(const char *text, size_t available, uint32_t *character);
/* The character that ends at text[length], length >= 1; 0 when no valid one does. */
int ls_utf8_decode_last(const char *text, size_t length, uint32_t *character);
/* Length of the longest prefix of text[length] that is valid. */
size_t ls_utf8_valid_prefix(const char *text, size_t length);
/* Length, from 1, of the bytes at text[0], where no valid character starts, that one U+FFFD stands for: the longest
 * beginning of a valid character, or one byte ("maximal subpart", chapter 3.9 of the standard; what Python does). */
int ls_utf8_invalid(const char *text, size_t available);
/* Writes `character` (valid) as 1 to 4 bytes; returns how many. */
int ls_utf8_encode(char *bytes, uint32_t character);
/* Unicode property White_Space. */
bool ls_utf8_is_space(uint32_t character);

#endif

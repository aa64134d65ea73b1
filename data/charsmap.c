/* The trie, walked with every step checked, since it comes from a file; see charsmap.h. */
#include "data/charsmap.h"

#include "core/text.h"
#include "data/utf8.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

ls_status ls_charsmap_create(ls_charsmap *out, const void *bytes, size_t length, const char *name)
{
    uint32_t size = 0;
    *out = (ls_charsmap){0};
    if (length >= sizeof size) memcpy(&size, bytes, sizeof size);
    size = le32toh(size);
    const char *trie = (const char *)bytes + sizeof size;
    const size_t rest = length < sizeof size ? 0 : length - sizeof size;
    if (size == 0 || size % sizeof(uint32_t) != 0 || size >= rest || trie[rest - 1] != '\0' ||
        ls_utf8_valid_prefix(trie + size, rest - size) < rest - size)
        return LS_FAIL(LS_BAD_INPUT, "%s: the model's normalization table is damaged", name);
    out->units = ls_text_memory(NULL, rest);
    memcpy(out->units, trie, rest);
    out->unit_count = size / sizeof(uint32_t);
    for (size_t i = 0; i < out->unit_count; i++) out->units[i] = le32toh(out->units[i]);
    out->texts = (const char *)out->units + size;
    out->text_bytes = rest - size;
    return LS_OK;
}

void ls_charsmap_destroy(ls_charsmap *map)
{
    free(map->units);
    *map = (ls_charsmap){0};
}

char *ls_charsmap_to_base64(const void *bytes, size_t length)
{
    const unsigned char *in = bytes;
    char *out = ls_text_memory(NULL, (length + 2) / 3 * 4 + 1);
    size_t at = 0;
    for (size_t i = 0; i < length; i += 3) {
        const size_t left = length - i;
        const unsigned three =
            (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) | (left > 2 ? (unsigned)in[i + 2] : 0);
        for (int k = 0; k < 4; k++) out[at++] = (size_t)k <= left ? digits[three >> (18 - 6 * k) & 63] : '=';
    }
    out[at] = '\0';
    return out;
}

ls_status ls_charsmap_from_base64(ls_charsmap *out, const char *text, const char *name)
{
    const size_t length = strcspn(text, "=");
    char *bytes = ls_text_memory(NULL, length + 1);
    size_t count = 0;
    uint32_t bits = 0;
    bool good = strspn(text + length, "=") == strlen(text + length);
    for (size_t i = 0; i < length && good; i++) {
        const char *digit = strchr(digits, text[i]);
        good = digit != NULL;
        bits = bits << 6 | (good ? (uint32_t)(digit - digits) : 0);
        if (i % 4 > 0) bytes[count++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xFF);
    }
    const ls_status status = good ? ls_charsmap_create(out, bytes, count, name)
                                  : LS_FAIL(LS_BAD_INPUT, "%s: the normalization table is not base64", name);
    free(bytes);
    return status;
}

/* The longest beginning of text[length] that is in the table; 0: none. *value: the place of its replacement. */
static size_t find(const ls_charsmap *map, const char *text, size_t length, uint32_t *value)
{
    size_t longest = 0, node = 0;
    uint32_t unit = map->units[0];
    for (size_t i = 0; i <= length; i++) {
        node ^= (size_t)(unit >> 10) << ((unit & 1U << 9) >> 6);
        if (i > 0 && (unit >> 8 & 1) != 0 && node < map->unit_count) {
            longest = i;
            *value = map->units[node] & 0x7FFFFFFF;
        }
        if (i == length) break;
        const unsigned char byte = (unsigned char)text[i];
        node ^= byte;
        if (node >= map->unit_count) break;
        unit = map->units[node];
        if ((unit & (1U << 31 | 0xFF)) != byte) break;
    }
    return longest;
}

ls_status ls_charsmap_run(const ls_charsmap *map, const ls_added_tokens *kept, ls_buffer *out, const char *text,
                          size_t length)
{
    for (size_t at = 0; at < length;) {
        const ls_added_token *token = kept != NULL ? ls_added_tokens_at(kept, text + at, length - at) : NULL;
        uint32_t value = 0, character;
        size_t size = token != NULL ? 0 : find(map, text + at, length - at, &value);
        if (size > 0 && value < map->text_bytes && ls_utf8_valid_prefix(text + at, size) == size) {
            const char *replacement = map->texts + value;
            LS_TRY(ls_buffer_add(out, replacement, strlen(replacement)));
        } else {
            size = token != NULL ? token->length : (size_t)ls_utf8_decode(text + at, length - at, &character);
            LS_TRY(ls_buffer_add(out, text + at, size));
        }
        at += size;
    }
    return LS_OK;
}

/* UTF-8 decoding; see utf8.h. */
#include "data/utf8.h"

#include <string.h>

int ls_utf8_decode(const char *text, size_t available, uint32_t *character)
{
    const unsigned char *byte = (const unsigned char *)text;
    const unsigned char first = byte[0];
    if (first < 0x80) {
        *character = first;
        return 1;
    }
    if (first < 0xC2 || first > 0xF4) return 0;
    const int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (available < (size_t)length) return 0;
    uint32_t value = first & (0x7Fu >> length);
    for (int i = 1; i < length; i++) {
        if ((byte[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (byte[i] & 0x3Fu);
    }
    const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
    if (overlong || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return 0;
    *character = value;
    return length;
}

int ls_utf8_decode_last(const char *text, size_t length, uint32_t *character)
{
    for (size_t size = 1; size <= 4 && size <= length; size++) {
        const int found = ls_utf8_decode(text + length - size, size, character);
        if (found == (int)size) return found;
    }
    return 0;
}

size_t ls_utf8_valid_prefix(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        uint64_t eight;
        while (at + sizeof eight <= length) {
            memcpy(&eight, text + at, sizeof eight);
            if ((eight & 0x8080808080808080u) != 0) break;
            at += sizeof eight;
        }
        if (at == length) break;
        uint32_t character;
        const int size = ls_utf8_decode(text + at, length - at, &character);
        if (size == 0) break;
        at += (size_t)size;
    }
    return at;
}

int ls_utf8_invalid(const char *text, size_t available)
{
    const unsigned char *byte = (const unsigned char *)text;
    const unsigned char first = byte[0];
    if (first < 0xC2 || first > 0xF4 || available < 2) return 1;
    const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    const int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    int good = byte[1] >= low && byte[1] <= high ? 2 : 1;
    while (good > 1 && good < length && (size_t)good < available && (byte[good] & 0xC0) == 0x80) good++;
    return good;
}

int ls_utf8_encode(char *bytes, uint32_t character)
{
    if (character < 0x80) {
        bytes[0] = (char)character;
        return 1;
    }
    const int length = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--, character >>= 6) bytes[i] = (char)(0x80 | (character & 0x3F));
    bytes[0] = (char)(0xF00 >> length | character);
    return length;
}

bool ls_utf8_is_space(uint32_t character)
{
    if (character < 0x80) return character == ' ' || (character >= '\t' && character <= '\r');
    return character == 0x85 || character == 0xA0 || character == 0x1680 ||
           (character >= 0x2000 && character <= 0x200A) || character == 0x2028 || character == 0x2029 ||
           character == 0x202F || character == 0x205F || character == 0x3000;
}

/* Strings that grow, numbers as people write them, edit distance, UTF-8. */
#include "core/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *ls_text_memory(void *block, size_t bytes)
{
    void *grown = realloc(block, bytes == 0 ? 1 : bytes);
    if (grown == NULL) {
        (void)fprintf(stderr, "layerskip: out of memory (%zu bytes)\n", bytes);
        abort();
    }
    return grown;
}

char *ls_text_copy(const char *text, size_t length)
{
    char *copy = ls_text_memory(NULL, length + 1);
    if (length > 0) memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

void ls_text_add(ls_text *text, const char *bytes, size_t length)
{
    if (text->length + length + 1 > text->capacity) {
        text->capacity = 2 * text->capacity + length + 64;
        text->bytes = ls_text_memory(text->bytes, text->capacity);
    }
    if (length > 0) memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

static void add_formatted(ls_text *text, const char *format, va_list arguments)
{
    char small[256];
    va_list again;
    va_copy(again, arguments);
    const int length = vsnprintf(small, sizeof small, format, arguments);
    if (length < 0) {
        ls_text_add(text, format, strlen(format)); /* a wide character that cannot be converted: better than nothing */
    } else if ((size_t)length < sizeof small) {
        ls_text_add(text, small, (size_t)length);
    } else {
        char *large = ls_text_memory(NULL, (size_t)length + 1);
        (void)vsnprintf(large, (size_t)length + 1, format, again);
        ls_text_add(text, large, (size_t)length);
        free(large);
    }
    va_end(again);
}

void ls_text_addf(ls_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add_formatted(text, format, arguments);
    va_end(arguments);
}

char *ls_text_format(const char *format, ...)
{
    ls_text text = {0};
    va_list arguments;
    va_start(arguments, format);
    add_formatted(&text, format, arguments);
    va_end(arguments);
    return text.bytes;
}

/* Copies digits and drops single '_' between two of them. Returns how many digits there were; *from moves past. */
static int copy_digits(char **to, const char **from)
{
    int count = 0;
    while (isdigit((unsigned char)**from)) {
        *(*to)++ = *(*from)++;
        count++;
        if ((*from)[0] == '_' && isdigit((unsigned char)(*from)[1])) (*from)++;
    }
    return count;
}

/* Checks the grammar [+-] digits [. digits] [e [+-] digits] and writes it without '_' to `plain` [strlen(text) + 1].
 * Returns 0 for no number, 1 for a whole one, 2 for one with a point or an exponent. */
static int plain_number(char *plain, const char *text)
{
    int kind = 1;
    if (*text == '+' || *text == '-') *plain++ = *text++;
    int digits = copy_digits(&plain, &text);
    if (*text == '.') {
        kind = 2;
        *plain++ = *text++;
        digits += copy_digits(&plain, &text);
    }
    if (digits == 0) return 0;
    if (*text == 'e' || *text == 'E') {
        kind = 2;
        *plain++ = *text++;
        if (*text == '+' || *text == '-') *plain++ = *text++;
        if (copy_digits(&plain, &text) == 0) return 0;
    }
    *plain = '\0';
    return *text == '\0' ? kind : 0;
}

bool ls_text_to_int(int64_t *out, const char *text)
{
    char *plain = ls_text_memory(NULL, strlen(text) + 1);
    const int kind = plain_number(plain, text);
    bool good = false;
    if (kind == 1) {
        errno = 0;
        const intmax_t value = strtoimax(plain, NULL, 10);
        good = errno == 0 && value >= INT64_MIN && value <= INT64_MAX;
        if (good) *out = (int64_t)value;
    } else if (kind == 2) {
        const double value = strtod(plain, NULL);
        good = fabs(value) <= 0x1p53 && trunc(value) == value;
        if (good) *out = (int64_t)value;
    }
    free(plain);
    return good;
}

bool ls_text_to_double(double *out, const char *text)
{
    char *plain = ls_text_memory(NULL, strlen(text) + 1);
    bool good = false;
    if (plain_number(plain, text) != 0) {
        const double value = strtod(plain, NULL);
        good = isfinite(value);
        if (good) *out = value;
    }
    free(plain);
    return good;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t ls_text_distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    size_t *rows = ls_text_memory(NULL, 3 * (m + 1) * sizeof *rows);
    size_t *before = rows, *last = rows + (m + 1), *now = rows + 2 * (m + 1);
    for (size_t j = 0; j <= m; j++) last[j] = j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = smaller(last[j - 1] + (a[i - 1] != b[j - 1]), smaller(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = smaller(now[j], before[j - 2] + 1);
        }
        size_t *const oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    const size_t distance = last[m];
    free(rows);
    return distance;
}

bool ls_text_nearer(size_t *best, const char *typed, const char *candidate)
{
    const size_t distance = ls_text_distance(typed, candidate), length = strlen(candidate);
    if (distance >= *best || distance > (length < 6 ? 1 : length / 3) || distance >= length) return false;
    *best = distance;
    return true;
}

/* Length of the valid UTF-8 sequence at `bytes` (RFC 3629: shortest form, no surrogates), 0 when there is none. */
static size_t utf8_sequence(const unsigned char *bytes, size_t length)
{
    const unsigned char first = bytes[0];
    if (first < 0x80) return first == 0 ? 0 : 1;
    const size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || size > length) return 0;
    for (size_t i = 1; i < size; i++)
        if ((bytes[i] & 0xC0) != 0x80) return 0;
    if ((first == 0xE0 && bytes[1] < 0xA0) || (first == 0xED && bytes[1] > 0x9F) ||
        (first == 0xF0 && bytes[1] < 0x90) || (first == 0xF4 && bytes[1] > 0x8F))
        return 0;
    return size;
}

char *ls_text_valid_utf8(const char *bytes, size_t length)
{
    ls_text text = {0};
    size_t kept = 0; /* bytes[kept..i) are valid and not yet copied */
    for (size_t i = 0; i < length;) {
        const size_t size = utf8_sequence((const unsigned char *)bytes + i, length - i);
        if (size == 0) {
            ls_text_add(&text, bytes + kept, i - kept);
            ls_text_add(&text, "\xEF\xBF\xBD", 3);
            kept = i + 1;
        }
        i += size == 0 ? 1 : size;
    }
    ls_text_add(&text, bytes + kept, length - kept);
    return text.bytes;
}

uint64_t ls_text_hash(uint64_t hash, const void *bytes, size_t length)
{
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < length; i++) hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}

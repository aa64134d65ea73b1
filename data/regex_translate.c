/* Rewrites an Oniguruma (Ruby syntax) pattern for PCRE2. What is not known to mean the same in both is refused, never
 * passed through: escapes and groups are white lists. Called by ls_regex_compile. */
#include "data/regex.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Insides of character classes, spelled out because the properties differ between the libraries and their versions. */
#define SPACE "\\t-\\r\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                                      \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x84\\x86-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"                \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* Letters, marks, decimal digits, letter numbers, connectors, circled letters, and the Latin-1 digits and fractions. */
#define WORD                                                                                                           \
    "\\xb2\\xb3\\xb9\\xbc-\\xbe\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"              \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

typedef struct translation {
    const char *pattern; /* the whole, for messages */
    const char *at;      /* next character to read */
    const char *name;
    char *out; /* written so far, large enough for any pattern of this length */
    size_t length;
    bool in_class;
} translation;

static void put(translation *t, const char *text)
{
    const size_t length = strlen(text);
    memcpy(t->out + t->length, text, length + 1);
    t->length += length;
}

static void copy(translation *t, size_t count)
{
    memcpy(t->out + t->length, t->at, count);
    t->length += count;
    t->out[t->length] = '\0';
    t->at += count;
}

static ls_status refuse(const translation *t, size_t count)
{
    return LS_FAIL(LS_BAD_INPUT, "%s: the pre-tokenizer's regular expression uses '%.*s', which is not supported: %s",
                   t->name, (int)strnlen(t->at, count), t->at, t->pattern);
}

static bool starts_with(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }

static ls_status translate_hex(translation *t)
{
    char digits[32] = "\\x{0000}";
    for (size_t i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)t->at[2 + i])) return refuse(t, 6);
        digits[3 + i] = t->at[2 + i];
    }
    put(t, digits);
    t->at += 6;
    return LS_OK;
}

/* General categories only: the libraries disagree on what a script's name covers. */
static ls_status translate_property(translation *t)
{
    if (t->at[2] != '{') return refuse(t, 3);
    const char *name = t->at + 3 + (t->at[3] == '^' ? 1 : 0);
    const size_t length = strcspn(name, "}");
    if (length < 1 || length > 2 || name[length] != '}' || strchr("LMNPSZC", name[0]) == NULL)
        return refuse(t, (size_t)(name + length + 1 - t->at));
    copy(t, (size_t)(name + length + 1 - t->at));
    return LS_OK;
}

static ls_status translate_escape(translation *t)
{
    const char letter = t->at[1];
    const char *replacement = NULL;
    switch (letter) {
    case 's':
        replacement = t->in_class ? SPACE : "[" SPACE "]";
        break;
    case 'S':
        replacement = t->in_class ? NOT_SPACE : "[" NOT_SPACE "]";
        break;
    case 'w':
        replacement = t->in_class ? WORD : "[" WORD "]";
        break;
    case 'W':
        replacement = t->in_class ? NULL : "[^" WORD "]";
        break;
    case 'v':
        replacement = "\\x0b";
        break;
    case 'u':
        return translate_hex(t);
    case 'p':
    case 'P':
        return translate_property(t);
    default:
        if (letter == '\0' || (unsigned char)letter >= 0x80) return refuse(t, 1);
        if (isalnum((unsigned char)letter) && strchr(t->in_class ? "dDnrtfx" : "dDnrtfxAz", letter) == NULL)
            return refuse(t, 2);
        copy(t, 2);
        return LS_OK;
    }
    if (replacement == NULL) return refuse(t, 2);
    put(t, replacement);
    t->at += 2;
    return LS_OK;
}

static ls_status translate_group(translation *t)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    /* Ruby's (?i) ends at the next '|' of its group; at the very start of a pattern both mean the whole of it. */
    if (t->at == t->pattern && starts_with(t->at, "(?i)")) {
        copy(t, 4);
        return LS_OK;
    }
    if (t->at[1] != '?') {
        if (t->at[1] == '*') return refuse(t, 2);
        copy(t, 1);
        return LS_OK;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!starts_with(t->at, known[i])) continue;
        copy(t, strlen(known[i]));
        return LS_OK;
    }
    return refuse(t, 4);
}

/* {n}, {n,} and {n,m}. Ruby reads a '?' or '+' behind them in another way. Any other brace is a literal in both. */
static ls_status translate_brace(translation *t)
{
    const size_t digits = strspn(t->at + 1, "0123456789,");
    const char *end = t->at + 1 + digits;
    if (*end != '}' || digits == 0) return refuse(t, 1);
    if (t->at[1] == ',' || end[1] == '?' || end[1] == '+' || end[1] == '*') return refuse(t, (size_t)(end + 2 - t->at));
    copy(t, digits + 2);
    return LS_OK;
}

static ls_status translate_one(translation *t)
{
    const char character = *t->at;
    if (character == '\\') return translate_escape(t);
    if (t->in_class) {
        if (character == '[' || starts_with(t->at, "&&")) return refuse(t, 2);
        if (character == ']') t->in_class = false;
    } else if (character == '[') {
        const size_t opening = t->at[1] == '^' ? 2 : 1;
        if (t->at[opening] == ']') return refuse(t, opening + 1);
        t->in_class = true;
        copy(t, opening);
        return LS_OK;
    } else if (character == '(') {
        return translate_group(t);
    } else if (character == '{') {
        return translate_brace(t);
    }
    copy(t, 1);
    return LS_OK;
}

ls_status ls_regex_translate(char **out, const char *pattern, const char *name)
{
    const size_t longest = sizeof NOT_SPACE > sizeof WORD ? sizeof NOT_SPACE : sizeof WORD;
    translation t = {.pattern = pattern, .at = pattern, .name = name};
    t.out = malloc(strlen(pattern) * (longest + 4) + 1);
    if (t.out == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for a regular expression");
    t.out[0] = '\0';
    while (*t.at != '\0') {
        const ls_status status = translate_one(&t);
        if (status != LS_OK) {
            free(t.out);
            return status;
        }
    }
    *out = t.out;
    return LS_OK;
}

/* Rewrites an Oniguruma (Ruby syntax) pattern for PCRE2. What is not known to mean the same in both is refused, never
 * passed through: escapes and groups are white lists. Called by ls_regex_compile. */
#include "data/regex.h"

#include "core/text.h"
#include "data/unicode.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Insides of character classes, spelled out because the properties differ between the libraries and their versions. */
#define SPACE "\\t-\\r\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                                      \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x84\\x86-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"                \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* What \w takes beside letters, marks, decimal digits, letter numbers and connectors: Latin-1 digits and fractions,
 * circled letters. */
#define OTHER_WORD                                                                                                     \
    "\\xb2\\xb3\\xb9\\xbc-\\xbe\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

typedef struct translation {
    const char *pattern; /* the whole, for messages */
    const char *at;      /* next character to read */
    const char *name;
    ls_text out;
    bool in_class;
} translation;

static void put(translation *t, const char *text) { ls_text_add(&t->out, text, strlen(text)); }

static void copy(translation *t, size_t count)
{
    ls_text_add(&t->out, t->at, count);
    t->at += count;
}

/* A set of characters, spelled out so that it does not depend on the version of PCRE2. */
static void put_set(translation *t, const char *const *categories, const char *others, bool complement)
{
    if (!t->in_class) put(t, complement ? "[^" : "[");
    for (; *categories != NULL; categories++)
        (void)ls_unicode_add_class(&t->out, *categories, strlen(*categories), complement && t->in_class);
    put(t, others);
    if (!t->in_class) put(t, "]");
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
    const bool caret = t->at[3] == '^';
    const char *name = t->at + 3 + (caret ? 1 : 0);
    const size_t length = strcspn(name, "}");
    const size_t whole = (size_t)(name + length - t->at) + (name[length] == '}' ? 1 : 0);
    const bool complement = (t->at[1] == 'P') != caret;
    const size_t start = t->out.length;
    if (!t->in_class) put(t, complement ? "[^" : "[");
    if (name[length] != '}' || !ls_unicode_add_class(&t->out, name, length, complement && t->in_class)) {
        t->out.length = start;
        return refuse(t, whole);
    }
    if (!t->in_class) put(t, "]");
    t->at += whole;
    return LS_OK;
}

/* "[a-\\d]": the libraries disagree on what the dash means. */
static bool is_range_to_set(const translation *t)
{
    if (!t->in_class || strchr("sSwWdDpP", t->at[1]) == NULL || t->at - t->pattern < 2) return false;
    return t->at[-1] == '-' && strchr("[^\\", t->at[-2]) == NULL;
}

static ls_status translate_escape(translation *t)
{
    static const char *const digit[] = {"Nd", NULL};
    static const char *const word[] = {"L", "M", "Nd", "Nl", "Pc", NULL};
    const char letter = t->at[1];
    const char *replacement = NULL;
    if (letter != '\0' && is_range_to_set(t)) return refuse(t, 2);
    switch (letter) {
    case 's':
        replacement = t->in_class ? SPACE : "[" SPACE "]";
        break;
    case 'S':
        replacement = t->in_class ? NOT_SPACE : "[" NOT_SPACE "]";
        break;
    case 'd':
    case 'D':
        put_set(t, digit, "", letter == 'D');
        t->at += 2;
        return LS_OK;
    case 'w':
    case 'W':
        if (letter == 'W' && t->in_class) return refuse(t, 2);
        put_set(t, word, OTHER_WORD, letter == 'W');
        t->at += 2;
        return LS_OK;
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
        if (isalnum((unsigned char)letter) && strchr(t->in_class ? "nrtfx" : "nrtfxAz", letter) == NULL)
            return refuse(t, 2);
        copy(t, 2);
        return LS_OK;
    }
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
    translation t = {.pattern = pattern, .at = pattern, .name = name};
    put(&t, "");
    while (*t.at != '\0') {
        const ls_status status = translate_one(&t);
        if (status != LS_OK) {
            free(t.out.bytes);
            return status;
        }
    }
    *out = t.out.bytes;
    return LS_OK;
}

/* cJSON with places in its refusals, and output that is valid whatever the strings hold. */
#include "core/json.h"

#include "core/file.h"
#include "core/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Where byte `at` lies, for a message: line and column from 1, the column in bytes. */
static void locate(const char *text, size_t at, size_t *line, size_t *column)
{
    *line = 1;
    size_t start = 0;
    for (size_t i = 0; i < at; i++) {
        if (text[i] != '\n') continue;
        (*line)++;
        start = i + 1;
    }
    *column = at - start + 1;
}

static ls_status refuse(const char *text, size_t at, const char *name, const char *what)
{
    size_t line, column;
    locate(text, at, &line, &column);
    return LS_FAIL(LS_BAD_INPUT, "%s:%zu:%zu: %s", name, line, column, what);
}

/* cJSON's strings end at their first NUL, so that a text would be cut without a word: finds a raw NUL byte or an
 * escaped one. Returns its place, or `length`. */
static size_t find_nul(const char *text, size_t length)
{
    const char *raw = memchr(text, '\0', length);
    if (raw != NULL) return (size_t)(raw - text);
    for (const char *at = text; (at = memmem(at, length - (size_t)(at - text), "\\u0000", 6)) != NULL; at++) {
        size_t slashes = 1;
        while (at - slashes >= text && at[-(ptrdiff_t)slashes] == '\\') slashes++;
        if (slashes % 2 == 1) return (size_t)(at - text);
    }
    return length;
}

static size_t skip_space(const char *text, size_t at, size_t length)
{
    while (at < length && (text[at] == ' ' || text[at] == '\t' || text[at] == '\r' || text[at] == '\n')) at++;
    return at;
}

ls_status ls_json_parse(cJSON **out, const char *text, size_t length, const char *name)
{
    *out = NULL;
    const size_t nul = find_nul(text, length);
    if (nul < length) return refuse(text, nul, name, "a NUL character in JSON is not supported");
    const char *end = text;
    cJSON *document = length == 0 ? NULL : cJSON_ParseWithLengthOpts(text, length, &end, 0);
    size_t at = end == NULL ? 0 : (size_t)(end - text);
    if (document == NULL) {
        if (at > length) at = length;
        if (skip_space(text, 0, length) == length) return LS_FAIL(LS_BAD_INPUT, "%s: it is empty, not JSON", name);
        /* cJSON points at the last byte both for one that is wrong and for a missing rest. */
        const bool last = skip_space(text, at < length ? at + 1 : at, length) == length;
        return refuse(text, at, name, last ? "the JSON is cut short or wrong here" : "this is not valid JSON");
    }
    at = skip_space(text, at, length);
    if (at < length) {
        cJSON_Delete(document);
        return refuse(text, at, name, "more text follows the JSON document");
    }
    *out = document;
    return LS_OK;
}

ls_status ls_json_read_file(cJSON **out, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    *out = NULL;
    LS_TRY(ls_file_read(&text, &length, path));
    const ls_status status = ls_json_parse(out, text, length, path);
    free(text);
    return status;
}

ls_status ls_json_print(FILE *file, const cJSON *document, bool pretty)
{
    char *raw = pretty ? cJSON_Print(document) : cJSON_PrintUnformatted(document);
    if (raw == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to print JSON");
    char *text = ls_text_valid_utf8(raw, strlen(raw)); /* generated text may end within a character */
    cJSON_free(raw);
    errno = 0;
    const bool written = fprintf(file, "%s\n", text) >= 0 && fflush(file) == 0;
    const int error = errno;
    free(text);
    return written ? LS_OK : LS_FAIL(LS_IO, "cannot write JSON: %s", strerror(error));
}

/* Templates; see template.h. One walk serves both functions: checking fills in nothing. */
#include "data/template.h"

#include "core/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static ls_status add_value(ls_text *out, const cJSON *value, const char *name, bool nested)
{
    if (cJSON_IsString(value)) {
        ls_text_add(out, value->valuestring, strlen(value->valuestring));
    } else if (cJSON_IsBool(value)) {
        ls_text_addf(out, "%s", cJSON_IsTrue(value) ? "true" : "false");
    } else if (cJSON_IsNumber(value)) {
        const bool whole = value->valuedouble == floor(value->valuedouble) && fabs(value->valuedouble) < 1e15;
        ls_text_addf(out, whole ? "%.0f" : "%.17g", value->valuedouble);
    } else if (cJSON_IsArray(value) && !nested) {
        const cJSON *item;
        cJSON_ArrayForEach(item, value)
        {
            if (item != value->child) ls_text_add(out, "\n", 1);
            LS_TRY(add_value(out, item, name, true));
        }
    } else {
        return LS_FAIL(LS_BAD_INPUT, "the field \"%s\" is no text", name);
    }
    return LS_OK;
}

static ls_status add_field(ls_text *out, const cJSON *record, const char *name, size_t length)
{
    char *key = ls_text_copy(name, length);
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(record, key);
    const ls_status status =
        value == NULL ? LS_FAIL(LS_BAD_INPUT, "there is no field \"%s\"", key) : add_value(out, value, key, false);
    free(key);
    return status;
}

/* What the two characters at `at` stand for; '\0': nothing. */
static char escaped(const char *at)
{
    if (at[0] == at[1] && strchr("{}\\", at[0]) != NULL) return at[0];
    if (at[0] == '\\' && at[1] == 'n') return '\n';
    if (at[0] == '\\' && at[1] == 't') return '\t';
    return '\0';
}

/* record NULL: only looks. */
static ls_status walk(const char *text, const char *what, const cJSON *record, ls_text *out)
{
    for (const char *at = text; *at != '\0';) {
        const size_t plain = strcspn(at, "{}\\");
        ls_text_add(out, at, plain);
        at += plain;
        if (*at == '\0') break;
        const char character = escaped(at);
        if (character != '\0') {
            ls_text_add(out, &character, 1);
            at += 2;
            continue;
        }
        const size_t name = *at == '{' ? strcspn(at + 1, "{}\\") : 0;
        const size_t line = strcspn(at, "\n"), shown = line < 12 ? line : 12;
        if (name == 0 || at[1 + name] != '}')
            return LS_FAIL(
                LS_BAD_INPUT,
                "%s: '%.*s' is no {field}; write {{ and }} for braces, \\n, \\t and \\\\ for a line's end, a "
                "tab and a backslash",
                what, (int)shown, at);
        if (record != NULL) LS_TRY(add_field(out, record, at + 1, name));
        at += name + 2;
    }
    return LS_OK;
}

ls_status ls_template_check(const char *text, const char *what)
{
    ls_text seen = {0};
    const ls_status status = walk(text, what, NULL, &seen);
    free(seen.bytes);
    return status;
}

ls_status ls_template_fill(const char *text, const cJSON *record, char **out, size_t *length)
{
    if (!cJSON_IsObject(record)) return LS_FAIL(LS_BAD_INPUT, "it is no JSON object");
    ls_text filled = {0};
    ls_text_add(&filled, "", 0);
    const ls_status status = walk(text, "the template", record, &filled);
    if (status != LS_OK) {
        free(filled.bytes);
        return status;
    }
    *out = filled.bytes;
    *length = filled.length;
    return LS_OK;
}

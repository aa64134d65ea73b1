/* Writing: the resolved YAML, the reference, and an int list resolved against a limit. */
#include "core/config_value.h"

#include <stdlib.h>
#include <string.h>

/* Fields below `prefix` ("" or "layer_dropout."), sections at the place of their first field. */
static void write_section(ls_text *text, const void *in, const ls_field *fields, int field_count, const char *prefix,
                          int depth)
{
    const size_t skip = strlen(prefix);
    for (int i = 0; i < field_count; i++) {
        if (strncmp(fields[i].path, prefix, skip) != 0) continue;
        const char *rest = fields[i].path + skip;
        const size_t length = strcspn(rest, ".");
        if (rest[length] == '\0') {
            ls_text_addf(text, "%*s%s: ", 2 * depth, "", rest);
            ls_config_value_write(text, in, &fields[i]);
            ls_text_addf(text, "\n");
            continue;
        }
        bool written = false;
        for (int j = 0; j < i && !written; j++)
            written = strncmp(fields[j].path, fields[i].path, skip + length + 1) == 0;
        if (written) continue;
        char *below = ls_text_copy(fields[i].path, skip + length + 1);
        ls_text_addf(text, "%*s%.*s:\n", 2 * depth, "", (int)length, rest);
        write_section(text, in, fields, field_count, below, depth + 1);
        free(below);
    }
}

char *ls_config_write_text(const void *in, const ls_field *fields, int field_count)
{
    ls_text text = {0};
    ls_text_add(&text, "", 0);
    write_section(&text, in, fields, field_count, "", 0);
    return text.bytes;
}

static void write_kind(ls_text *text, const ls_field *field)
{
    static const char *const kinds[] = {
        [LS_FIELD_INT] = "whole number",        [LS_FIELD_DOUBLE] = "number",
        [LS_FIELD_BOOL] = "true or false",      [LS_FIELD_STRING] = "text",
        [LS_FIELD_CHOICE] = "one of ",          [LS_FIELD_INTS] = "list of whole numbers, start:stop:step or all",
        [LS_FIELD_DOUBLES] = "list of numbers", [LS_FIELD_STRINGS] = "list of texts",
    };
    ls_text_addf(text, "%s", kinds[field->kind]);
    for (int i = 0; field->kind == LS_FIELD_CHOICE && field->choices[i] != NULL; i++)
        ls_text_addf(text, "%s%s", i == 0 ? "" : ", ", field->choices[i]);
    ls_text range = {0};
    if (field->kind == LS_FIELD_INT || field->kind == LS_FIELD_DOUBLE || field->kind == LS_FIELD_INTS ||
        field->kind == LS_FIELD_DOUBLES)
        ls_config_range_write(&range, field);
    if (range.length > 0) ls_text_addf(text, " %s", range.bytes);
    free(range.bytes);
    if (field->preset == NULL)
        ls_text_addf(text, "; required");
    else
        ls_text_addf(text, "; default: %s", field->preset[0] == '\0' ? "none" : field->preset);
}

/* Words of `text` on lines of at most 78 bytes, which argp leaves alone, each behind four blanks. */
static void print_wrapped(FILE *file, const char *text)
{
    size_t column = 0;
    while (*text != '\0') {
        const size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > 78) {
            (void)fputc('\n', file);
            column = 0;
        }
        column += (size_t)fprintf(file, "%s%.*s", column == 0 ? "    " : " ", (int)word, text);
        text += word + strspn(text + word, " ");
    }
    (void)fputc('\n', file);
}

void ls_config_print_reference(FILE *file, const ls_field *fields, int field_count)
{
    for (int i = 0; i < field_count; i++) {
        ls_text kind = {0};
        write_kind(&kind, &fields[i]);
        (void)fprintf(file, "%s%s\n", i == 0 ? "" : "\n", fields[i].path);
        print_wrapped(file, kind.bytes);
        print_wrapped(file, fields[i].help);
        free(kind.bytes);
    }
}

static ls_status outside(const char *key, int64_t number, int64_t limit)
{
    return LS_FAIL(LS_BAD_INPUT, "%s: %s: %lld is not in [0, %lld]", ls_config_place(key), key, (long long)number,
                   (long long)limit - 1);
}

ls_status ls_int_list_resolve(const ls_int_list *list, int64_t limit, bool *member, const char *key)
{
    for (int64_t i = 0; i < limit; i++) member[i] = list->all;
    if (list->all) return LS_OK;
    if (list->slice) {
        const int64_t stop = list->stop < 0 ? limit : list->stop;
        if (list->start >= limit) return outside(key, list->start, limit);
        if (stop > limit) return outside(key, stop - 1, limit);
        for (int64_t i = list->start; i < stop; i += list->step) member[i] = true;
        return LS_OK;
    }
    for (int i = 0; i < list->count; i++) {
        const int64_t number = list->values[i];
        if (number < 0 || number >= limit) return outside(key, number, limit);
        if (member[number])
            return LS_FAIL(LS_BAD_INPUT, "%s: %s: %lld is listed twice", ls_config_place(key), key, (long long)number);
        member[number] = true;
    }
    return LS_OK;
}

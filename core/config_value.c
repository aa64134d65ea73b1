/* One field's value, by kind: from a YAML node, to the struct, and back to text. */
#include "core/config_value.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- refusals ---- */

char *ls_config_place_text(const ls_config_source *source, const yaml_node_t *node)
{
    if (!source->lines || node == NULL) return ls_text_copy(source->name, strlen(source->name));
    return ls_text_format("%s:%zu", source->name, node->start_mark.line + 1);
}

ls_status ls_config_refuse(const ls_config_source *source, const yaml_node_t *node, const char *key, const char *format,
                           ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    char *place = ls_config_place_text(source, node);
    const ls_status status = LS_FAIL(LS_BAD_INPUT, "%s: %s: %s", place, key, what);
    free(place);
    return status;
}

static bool is_plain(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static const char *scalar(const yaml_node_t *node) { return (const char *)node->data.scalar.value; }

bool ls_config_is_null(const yaml_node_t *node)
{
    if (node == NULL) return true;
    if (!is_plain(node)) return false;
    const char *text = scalar(node);
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0;
}

static ls_status wrong_type(const ls_config_source *source, const yaml_node_t *node, const ls_field *field,
                            const char *wanted)
{
    if (ls_config_is_null(node))
        return ls_config_refuse(source, node, field->path, "needs %s, but has no value", wanted);
    if (node->type == YAML_SEQUENCE_NODE)
        return ls_config_refuse(source, node, field->path, "needs %s, not a list", wanted);
    if (node->type == YAML_MAPPING_NODE)
        return ls_config_refuse(source, node, field->path, "needs %s, not a section of keys", wanted);
    return ls_config_refuse(source, node, field->path,
                            is_plain(node) ? "'%s' is not %s" : "the quoted text \"%s\" is not %s", scalar(node),
                            wanted);
}

/* ---- ranges ---- */

static bool bounded_below(const ls_field *field)
{
    return !(field->minimum == 0 && field->maximum == 0) && field->minimum > -9e18;
}

static bool bounded_above(const ls_field *field)
{
    return !(field->minimum == 0 && field->maximum == 0) && field->maximum < 9e18;
}

/* The shortest form that reads back as the same number. */
static void write_number(ls_text *text, double value)
{
    char form[32];
    if (fabs(value) < 0x1p63 && trunc(value) == value) {
        ls_text_addf(text, "%.0f", value);
        return;
    }
    int digits = 6;
    do (void)snprintf(form, sizeof form, "%.*g", digits, value);
    while (strtod(form, NULL) != value && digits++ < 17);
    ls_text_addf(text, "%s", form);
}

void ls_config_range_write(ls_text *text, const ls_field *field)
{
    const bool below = bounded_below(field), above = bounded_above(field);
    if (!below && !above) return;
    ls_text_addf(text, below && above ? "in [" : below ? "at least " : "at most ");
    if (below) write_number(text, field->minimum);
    if (below && above) ls_text_addf(text, ", ");
    if (above) write_number(text, field->maximum);
    if (below && above) ls_text_addf(text, "]");
}

static ls_status check_range(const ls_config_source *source, const yaml_node_t *node, const ls_field *field,
                             double value, const char *written)
{
    if (!(bounded_below(field) && value < field->minimum) && !(bounded_above(field) && value > field->maximum))
        return LS_OK;
    ls_text range = {0};
    ls_config_range_write(&range, field);
    const ls_status status = ls_config_refuse(source, node, field->path, "%s is not %s", written, range.bytes);
    free(range.bytes);
    return status;
}

/* ---- scalars ---- */

static ls_status get_int(int64_t *out, const ls_config_source *source, const yaml_node_t *node, const ls_field *field)
{
    double approximate = 0;
    if (ls_config_is_null(node) || !is_plain(node)) return wrong_type(source, node, field, "a whole number");
    if (!ls_text_to_int(out, scalar(node))) {
        if (ls_text_to_double(&approximate, scalar(node)) && trunc(approximate) == approximate)
            return ls_config_refuse(source, node, field->path, "%s does not fit in 64 bits", scalar(node));
        return wrong_type(source, node, field, "a whole number");
    }
    return check_range(source, node, field, (double)*out, scalar(node));
}

static ls_status get_double(double *out, const ls_config_source *source, const yaml_node_t *node, const ls_field *field)
{
    if (ls_config_is_null(node) || !is_plain(node) || !ls_text_to_double(out, scalar(node)))
        return wrong_type(source, node, field, "a finite number");
    return check_range(source, node, field, *out, scalar(node));
}

static ls_status get_bool(bool *out, const ls_config_source *source, const yaml_node_t *node, const ls_field *field)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; node != NULL && is_plain(node) && i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(scalar(node), words[i]) != 0) continue;
        *out = i % 2 == 1;
        return LS_OK;
    }
    return wrong_type(source, node, field, "true or false");
}

static ls_status get_choice(int *out, const ls_config_source *source, const yaml_node_t *node, const ls_field *field)
{
    if (node == NULL || node->type != YAML_SCALAR_NODE) return wrong_type(source, node, field, "a word");
    ls_text all = {0};
    const char *nearest = NULL;
    size_t best = SIZE_MAX;
    for (int i = 0; field->choices[i] != NULL; i++) {
        if (strcmp(scalar(node), field->choices[i]) == 0) {
            free(all.bytes);
            *out = i;
            return LS_OK;
        }
        ls_text_addf(&all, "%s%s", i == 0 ? "" : ", ", field->choices[i]);
        if (ls_text_nearer(&best, scalar(node), field->choices[i])) nearest = field->choices[i];
    }
    const ls_status status =
        nearest != NULL ? ls_config_refuse(source, node, field->path, "'%s' is not one of %s; did you mean '%s'?",
                                           scalar(node), all.bytes, nearest)
                        : ls_config_refuse(source, node, field->path, "'%s' is not one of %s", scalar(node), all.bytes);
    free(all.bytes);
    return status;
}

static ls_status get_string(char **out, const ls_config_source *source, const yaml_node_t *node, const ls_field *field)
{
    const bool may_be_absent = field->preset != NULL && field->preset[0] == '\0';
    *out = NULL;
    if (ls_config_is_null(node) && may_be_absent) return LS_OK;
    if (ls_config_is_null(node) || node->type != YAML_SCALAR_NODE) return wrong_type(source, node, field, "a text");
    *out = ls_text_copy(scalar(node), node->data.scalar.length);
    return LS_OK;
}

/* ---- lists ---- */

/* A list field holds a sequence, or one scalar that stands for a list of one. *count is how many. */
static ls_status count_items(int *count, const ls_config_source *source, const yaml_node_t *node, const ls_field *field)
{
    *count = 0;
    if (ls_config_is_null(node))
        return field->preset != NULL && field->preset[0] == '\0' ? LS_OK : wrong_type(source, node, field, "a list");
    if (node->type == YAML_MAPPING_NODE) return wrong_type(source, node, field, "a list");
    *count =
        node->type == YAML_SCALAR_NODE ? 1 : (int)(node->data.sequence.items.top - node->data.sequence.items.start);
    return LS_OK;
}

static const yaml_node_t *item(const ls_config_source *source, const yaml_node_t *node, int i)
{
    return node->type == YAML_SCALAR_NODE
               ? node
               : yaml_document_get_node(source->document, node->data.sequence.items.start[i]);
}

/* One part of start:stop:step, up to ':' or the end; an empty one leaves *out. *from moves past the colon. */
static bool slice_part(int64_t *out, const char **from)
{
    const size_t length = strcspn(*from, ":");
    char *part = ls_text_copy(*from, length);
    const bool good = length == 0 || (ls_text_to_int(out, part) && *out >= 0);
    free(part);
    *from += length + ((*from)[length] == ':');
    return good;
}

static ls_status get_slice(ls_int_list *out, const ls_config_source *source, const yaml_node_t *node,
                           const ls_field *field)
{
    const char *from = scalar(node);
    *out = (ls_int_list){.slice = true, .start = 0, .stop = -1, .step = 1};
    if (!slice_part(&out->start, &from) || !slice_part(&out->stop, &from) || !slice_part(&out->step, &from) ||
        *from != '\0' || out->step < 1)
        return ls_config_refuse(source, node, field->path,
                                "'%s' is not start:stop:step (numbers from 0, each may be left out, step at least 1)",
                                scalar(node));
    if (out->stop >= 0 && out->stop <= out->start)
        return ls_config_refuse(source, node, field->path, "'%s' selects nothing", scalar(node));
    LS_TRY(check_range(source, node, field, (double)out->start, scalar(node)));
    return out->stop < 0 ? LS_OK : check_range(source, node, field, (double)out->stop - 1, scalar(node));
}

/* "1,2" is a text to YAML. */
static ls_status refuse_commas(const ls_config_source *source, const yaml_node_t *node, const ls_field *field)
{
    return ls_config_refuse(source, node, field->path, "'%s' is not a list; write [%s]", scalar(node), scalar(node));
}

static bool has_commas(const yaml_node_t *node)
{
    return node != NULL && node->type == YAML_SCALAR_NODE && strchr(scalar(node), ',') != NULL;
}

static ls_status get_ints(ls_int_list *out, const ls_config_source *source, const yaml_node_t *node,
                          const ls_field *field)
{
    *out = (ls_int_list){0};
    if (has_commas(node)) return refuse_commas(source, node, field);
    if (node != NULL && node->type == YAML_SCALAR_NODE) {
        out->all = strcmp(scalar(node), "all") == 0;
        if (out->all) return LS_OK;
        if (strchr(scalar(node), ':') != NULL) return get_slice(out, source, node, field);
    }
    int count = 0;
    LS_TRY(count_items(&count, source, node, field));
    out->values = ls_text_memory(NULL, (size_t)count * sizeof *out->values);
    for (int i = 0; i < count; i++) {
        const ls_status status = get_int(&out->values[i], source, item(source, node, i), field);
        if (status == LS_OK) continue;
        free(out->values);
        return status;
    }
    out->count = count;
    return LS_OK;
}

static ls_status get_doubles(ls_double_list *out, const ls_config_source *source, const yaml_node_t *node,
                             const ls_field *field)
{
    int count = 0;
    if (has_commas(node)) return refuse_commas(source, node, field);
    LS_TRY(count_items(&count, source, node, field));
    *out = (ls_double_list){ls_text_memory(NULL, (size_t)count * sizeof *out->values), count};
    for (int i = 0; i < count; i++) {
        const ls_status status = get_double(&out->values[i], source, item(source, node, i), field);
        if (status == LS_OK) continue;
        free(out->values);
        return status;
    }
    return LS_OK;
}

static void free_strings(ls_string_list *list)
{
    for (int i = 0; i < list->count; i++) free(list->values[i]);
    free(list->values);
}

static ls_status get_strings(ls_string_list *out, const ls_config_source *source, const yaml_node_t *node,
                             const ls_field *field)
{
    int count = 0;
    LS_TRY(count_items(&count, source, node, field));
    *out = (ls_string_list){ls_text_memory(NULL, (size_t)count * sizeof *out->values), 0};
    for (int i = 0; i < count; i++) {
        const yaml_node_t *const each = item(source, node, i);
        if (ls_config_is_null(each) || each->type != YAML_SCALAR_NODE) {
            free_strings(out);
            return wrong_type(source, each, field, "a text");
        }
        out->values[out->count++] = ls_text_copy(scalar(each), each->data.scalar.length);
    }
    return LS_OK;
}

/* ---- into the struct ---- */

/* A value of any kind, so that a refused one can leave the old in place. */
typedef union value {
    int64_t whole;
    double number;
    bool yes;
    char *string;
    int choice;
    ls_int_list ints;
    ls_double_list doubles;
    ls_string_list strings;
} value;

static size_t size_of(ls_field_kind kind)
{
    switch (kind) {
    case LS_FIELD_INT:
        return sizeof(int64_t);
    case LS_FIELD_DOUBLE:
        return sizeof(double);
    case LS_FIELD_BOOL:
        return sizeof(bool);
    case LS_FIELD_STRING:
        return sizeof(char *);
    case LS_FIELD_CHOICE:
        return sizeof(int);
    case LS_FIELD_INTS:
        return sizeof(ls_int_list);
    case LS_FIELD_DOUBLES:
        return sizeof(ls_double_list);
    case LS_FIELD_STRINGS:
        return sizeof(ls_string_list);
    }
    ls_assert_failed(__FILE__, __LINE__, "the field's kind is known");
}

static void load(value *to, const void *in, const ls_field *field)
{
    memcpy(to, (const char *)in + field->offset, size_of(field->kind));
}

static void store(void *out, const ls_field *field, const value *from)
{
    memcpy((char *)out + field->offset, from, size_of(field->kind));
}

void ls_config_value_init(void *out, const ls_field *field)
{
    memset((char *)out + field->offset, 0, size_of(field->kind));
}

void ls_config_value_clear(void *out, const ls_field *field)
{
    value old;
    load(&old, out, field);
    if (field->kind == LS_FIELD_STRING) free(old.string);
    if (field->kind == LS_FIELD_INTS) free(old.ints.values);
    if (field->kind == LS_FIELD_DOUBLES) free(old.doubles.values);
    if (field->kind == LS_FIELD_STRINGS) free_strings(&old.strings);
    ls_config_value_init(out, field);
}

static ls_status get_any(value *out, const ls_field *field, const ls_config_source *source, const yaml_node_t *node)
{
    switch (field->kind) {
    case LS_FIELD_INT:
        return get_int(&out->whole, source, node, field);
    case LS_FIELD_DOUBLE:
        return get_double(&out->number, source, node, field);
    case LS_FIELD_BOOL:
        return get_bool(&out->yes, source, node, field);
    case LS_FIELD_STRING:
        return get_string(&out->string, source, node, field);
    case LS_FIELD_CHOICE:
        return get_choice(&out->choice, source, node, field);
    case LS_FIELD_INTS:
        return get_ints(&out->ints, source, node, field);
    case LS_FIELD_DOUBLES:
        return get_doubles(&out->doubles, source, node, field);
    case LS_FIELD_STRINGS:
        return get_strings(&out->strings, source, node, field);
    }
    ls_assert_failed(__FILE__, __LINE__, "the field's kind is known");
}

ls_status ls_config_value_set(void *out, const ls_field *field, const ls_config_source *source, const yaml_node_t *node)
{
    value now = {0};
    LS_TRY(get_any(&now, field, source, node));
    ls_config_value_clear(out, field);
    store(out, field, &now);
    return LS_OK;
}

void ls_config_value_set_string(void *out, const ls_field *field, const char *text)
{
    const value now = {.string = ls_text_copy(text, strlen(text))};
    ls_config_value_clear(out, field);
    store(out, field, &now);
}

/* ---- out of it ---- */

/* Whether every YAML reader takes the bare text for the same string. */
static bool plain_is_safe(const char *text)
{
    static const char *const reserved[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
    double number;
    if (!isalnum((unsigned char)text[0]) && strchr("/._", text[0]) == NULL) return false;
    for (const char *c = text; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr("/._-", *c) == NULL) return false;
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (strcasecmp(text, reserved[i]) == 0) return false;
    return text[0] != '\0' && !ls_text_to_double(&number, text) && strspn(text, ".-") != strlen(text);
}

static void write_string(ls_text *text, const char *string)
{
    if (plain_is_safe(string)) {
        ls_text_addf(text, "%s", string);
        return;
    }
    ls_text_addf(text, "\"");
    for (const char *c = string; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            ls_text_addf(text, "\\%c", *c);
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            ls_text_addf(text, "\\x%02X", (unsigned)(unsigned char)*c);
        else
            ls_text_add(text, c, 1);
    }
    ls_text_addf(text, "\"");
}

/* The shortest decimal that reads back as the same double. */
static void write_double(ls_text *text, double number)
{
    char digits[40];
    for (int precision = 6; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (strtod(digits, NULL) == number) break;
    }
    ls_text_addf(text, "%s", digits);
}

static void write_ints(ls_text *text, const ls_int_list *list)
{
    if (list->all) {
        ls_text_addf(text, "all");
    } else if (list->slice) {
        ls_text_addf(text, "%lld:", (long long)list->start);
        if (list->stop >= 0) ls_text_addf(text, "%lld", (long long)list->stop);
        ls_text_addf(text, ":%lld", (long long)list->step);
    } else {
        ls_text_addf(text, "[");
        for (int i = 0; i < list->count; i++)
            ls_text_addf(text, "%s%lld", i == 0 ? "" : ", ", (long long)list->values[i]);
        ls_text_addf(text, "]");
    }
}

static void write_doubles(ls_text *text, const ls_double_list *list)
{
    ls_text_addf(text, "[");
    for (int i = 0; i < list->count; i++) {
        ls_text_addf(text, "%s", i == 0 ? "" : ", ");
        write_double(text, list->values[i]);
    }
    ls_text_addf(text, "]");
}

static void write_strings(ls_text *text, const ls_string_list *list)
{
    ls_text_addf(text, "[");
    for (int i = 0; i < list->count; i++) {
        ls_text_addf(text, "%s", i == 0 ? "" : ", ");
        write_string(text, list->values[i]);
    }
    ls_text_addf(text, "]");
}

void ls_config_value_write(ls_text *text, const void *in, const ls_field *field)
{
    value now;
    load(&now, in, field);
    switch (field->kind) {
    case LS_FIELD_INT:
        ls_text_addf(text, "%lld", (long long)now.whole);
        break;
    case LS_FIELD_DOUBLE:
        write_double(text, now.number);
        break;
    case LS_FIELD_BOOL:
        ls_text_addf(text, now.yes ? "true" : "false");
        break;
    case LS_FIELD_CHOICE:
        ls_text_addf(text, "%s", field->choices[now.choice]);
        break;
    case LS_FIELD_INTS:
        write_ints(text, &now.ints);
        break;
    case LS_FIELD_DOUBLES:
        write_doubles(text, &now.doubles);
        break;
    case LS_FIELD_STRINGS:
        write_strings(text, &now.strings);
        break;
    case LS_FIELD_STRING:
        if (now.string == NULL)
            ls_text_addf(text, "null");
        else
            write_string(text, now.string);
        break;
    }
}

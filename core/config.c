/* Reading: YAML documents and overrides onto the table of fields. */
#include "core/config.h"

#include "core/config_value.h"
#include "core/file.h"
#include "core/text.h"

#include <stdlib.h>
#include <string.h>

typedef struct reader {
    void *out;
    const ls_field *fields;
    int field_count;
    bool once; /* a field may be set once only: within a file, not among overrides */
    bool *set; /* [field_count] by the file or an override */
} reader;

/* Where each field was last set; kept for ls_config_place until the next read. */
static struct {
    char **path, **place;
    int count;
} places;

static void forget_places(void)
{
    for (int i = 0; i < places.count; i++) {
        free(places.path[i]);
        free(places.place[i]);
    }
    free(places.path);
    free(places.place);
    places.path = places.place = NULL;
    places.count = 0;
}

static void start_places(const ls_field *fields, int field_count)
{
    forget_places();
    places.path = ls_text_memory(NULL, (size_t)field_count * sizeof *places.path);
    places.place = ls_text_memory(NULL, (size_t)field_count * sizeof *places.place);
    for (int i = 0; i < field_count; i++) {
        places.path[i] = ls_text_copy(fields[i].path, strlen(fields[i].path));
        places.place[i] = ls_text_format("default");
    }
    places.count = field_count;
}

const char *ls_config_place(const char *path)
{
    for (int i = 0; i < places.count; i++)
        if (strcmp(places.path[i], path) == 0) return places.place[i];
    return "default";
}

/* ---- names ---- */

static int find_field(const reader *self, const char *path)
{
    for (int i = 0; i < self->field_count; i++)
        if (strcmp(self->fields[i].path, path) == 0) return i;
    return -1;
}

static bool is_below(const char *path, const char *section)
{
    const size_t length = strlen(section);
    return strncmp(path, section, length) == 0 && path[length] == '.';
}

static bool is_section(const reader *self, const char *path)
{
    for (int i = 0; i < self->field_count; i++)
        if (is_below(self->fields[i].path, path)) return true;
    return false;
}

static const char *leaf(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot == NULL ? path : dot + 1;
}

/* Whether `candidate` is nearer than *best; within one section only what follows the section's name counts. */
static bool is_nearer(size_t *best, const char *typed, const char *candidate)
{
    const size_t section = (size_t)(leaf(typed) - typed);
    const bool same = strncmp(typed, candidate, section) == 0;
    return ls_text_nearer(best, typed + (same ? section : 0), candidate + (same ? section : 0));
}

/* The key or section that `typed` was meant to be; malloc'ed, NULL when none is near. */
static char *suggestion(const reader *self, const char *typed)
{
    char *nearest = NULL;
    size_t best = SIZE_MAX;
    for (int i = 0; i < self->field_count; i++) {
        const char *path = self->fields[i].path;
        size_t end = 0;
        do { /* each section on the way, then the field itself */
            end += strcspn(path + end, ".");
            char *candidate = ls_text_copy(path, end);
            const bool nearer = is_nearer(&best, typed, candidate);
            free(nearer ? nearest : candidate);
            if (nearer) nearest = candidate;
        } while (path[end++] == '.');
    }
    if (nearest != NULL) return nearest;
    const char *elsewhere = NULL; /* the right key at the wrong level */
    for (int i = 0; i < self->field_count; i++)
        if (ls_text_nearer(&best, leaf(typed), leaf(self->fields[i].path))) elsewhere = self->fields[i].path;
    return elsewhere == NULL ? NULL : ls_text_copy(elsewhere, strlen(elsewhere));
}

static ls_status unknown_key(const reader *self, const ls_config_source *source, const yaml_node_t *key,
                             const char *path)
{
    char *meant = suggestion(self, path), *place = ls_config_place_text(source, key);
    const ls_status status = meant != NULL
                                 ? LS_FAIL(LS_BAD_INPUT, "%s: unknown key '%s'; did you mean '%s'?", place, path, meant)
                                 : LS_FAIL(LS_BAD_INPUT, "%s: unknown key '%s'", place, path);
    free(meant);
    free(place);
    return status;
}

/* ---- setting ---- */

static void note_set(reader *self, int i, char *place)
{
    self->set[i] = true;
    free(places.place[i]);
    places.place[i] = place;
}

static ls_status apply(reader *self, const ls_config_source *source, const char *path, const yaml_node_t *key,
                       const yaml_node_t *node);

/* Every key of the section `prefix` ("" or "layer_dropout."). */
static ls_status apply_mapping(reader *self, const ls_config_source *source, const char *prefix,
                               const yaml_node_t *node)
{
    ls_status status = LS_OK;
    const yaml_node_pair_t *const start = node->data.mapping.pairs.start, *const top = node->data.mapping.pairs.top;
    for (const yaml_node_pair_t *pair = start; status == LS_OK && pair < top; pair++) {
        const yaml_node_t *const key = yaml_document_get_node(source->document, pair->key);
        if (key->type != YAML_SCALAR_NODE)
            return ls_config_refuse(source, key, prefix[0] == '\0' ? "key" : prefix, "a key must be a plain name");
        char *path = ls_text_format("%s%s", prefix, (const char *)key->data.scalar.value);
        for (const yaml_node_pair_t *other = start; status == LS_OK && other < pair; other++) {
            const yaml_node_t *const before = yaml_document_get_node(source->document, other->key);
            if (strcmp((const char *)before->data.scalar.value, (const char *)key->data.scalar.value) == 0)
                status =
                    ls_config_refuse(source, key, path, "given twice, first on line %zu", before->start_mark.line + 1);
        }
        if (status == LS_OK)
            status = apply(self, source, path, key, yaml_document_get_node(source->document, pair->value));
        free(path);
    }
    return status;
}

/* A key with its value: a field, or a section of them. */
static ls_status apply(reader *self, const ls_config_source *source, const char *path, const yaml_node_t *key,
                       const yaml_node_t *node)
{
    const int i = find_field(self, path);
    if (i >= 0) {
        if (self->once && self->set[i]) return ls_config_refuse(source, key, path, "given twice");
        LS_TRY(ls_config_value_set(self->out, &self->fields[i], source, node));
        note_set(self, i, ls_config_place_text(source, key));
        return LS_OK;
    }
    if (!is_section(self, path)) return unknown_key(self, source, key, path);
    if (ls_config_is_null(node)) return LS_OK;
    if (node->type != YAML_MAPPING_NODE)
        return ls_config_refuse(source, key, path, "this is a section of keys, not a value");
    char *prefix = ls_text_format("%s.", path);
    const ls_status status = apply_mapping(self, source, prefix, node);
    free(prefix);
    return status;
}

/* ---- YAML ---- */

static ls_status yaml_failure(const yaml_parser_t *parser, const char *text, const char *name, bool lines)
{
    const char *problem = parser->problem != NULL ? parser->problem : "it cannot be read";
    if (!lines) return LS_FAIL(LS_BAD_INPUT, "%s: not valid YAML: %s", name, problem);
    size_t line = parser->problem_mark.line + 1;
    if (parser->error == YAML_READER_ERROR) { /* has an offset instead of a mark */
        line = 1;
        for (size_t i = 0; i < parser->problem_offset; i++) line += text[i] == '\n';
    }
    return LS_FAIL(LS_BAD_INPUT, "%s:%zu: not valid YAML: %s", name, line, problem);
}

/* Parses one document and hands its root to `use` (NULL: nothing in it); a second document is refused. */
static ls_status with_document(const char *text, size_t length, const char *name, bool lines,
                               ls_status (*use)(const ls_config_source *source, yaml_node_t *root, void *context),
                               void *context)
{
    yaml_parser_t parser;
    yaml_document_t document, second;
    if (yaml_parser_initialize(&parser) == 0) return LS_FAIL(LS_NO_MEMORY, "not enough memory to read %s", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    if (yaml_parser_load(&parser, &document) == 0) {
        const ls_status status = yaml_failure(&parser, text, name, lines);
        yaml_parser_delete(&parser);
        return status;
    }
    const ls_config_source source = {name, lines, &document};
    yaml_node_t *root = yaml_document_get_root_node(&document);
    ls_status status = use(&source, root, context);
    if (status == LS_OK && root != NULL) {
        if (yaml_parser_load(&parser, &second) == 0) {
            status = yaml_failure(&parser, text, name, lines);
        } else {
            const yaml_node_t *const more = yaml_document_get_root_node(&second);
            if (more != NULL) status = ls_config_refuse(&source, more, "---", "a second document is not supported");
            yaml_document_delete(&second);
        }
    }
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
    return status;
}

static ls_status use_file(const ls_config_source *source, yaml_node_t *root, void *context)
{
    if (root == NULL) return LS_FAIL(LS_BAD_INPUT, "%s: the file holds no settings", source->name);
    if (root->type != YAML_MAPPING_NODE) {
        char *place = ls_config_place_text(source, root);
        const ls_status status = LS_FAIL(LS_BAD_INPUT, "%s: expected settings as 'key: value'", place);
        free(place);
        return status;
    }
    return apply_mapping(context, source, "", root);
}

typedef struct one_value {
    reader *reader;
    const char *path;
} one_value;

static ls_status use_value(const ls_config_source *source, yaml_node_t *root, void *context)
{
    const one_value *const self = context;
    return apply(self->reader, source, self->path, NULL, root);
}

/* The resolved config could not hold it, and a run could not be resumed. */
static ls_status check_utf8(const char *name, const char *path, const char *text)
{
    char *valid = ls_text_valid_utf8(text, strlen(text));
    const bool same = strcmp(valid, text) == 0;
    free(valid);
    return same ? LS_OK : LS_FAIL(LS_BAD_INPUT, "%s: %s: '%s' is not valid UTF-8", name, path, text);
}

/* A value given as text outside a file: a preset or an override. A string field takes the text as it is, unless it is
 * quoted, so that nobody has to know YAML's rules to name a file. */
static ls_status apply_text(reader *self, const char *name, const char *path, const char *text)
{
    const int i = find_field(self, path);
    if (i >= 0 && self->fields[i].kind == LS_FIELD_STRING && text[0] != '\0' && strchr("\"'~", text[0]) == NULL &&
        strcasecmp(text, "null") != 0) {
        LS_TRY(check_utf8(name, path, text));
        ls_config_value_set_string(self->out, &self->fields[i], text);
        note_set(self, i, ls_text_copy(name, strlen(name)));
        return LS_OK;
    }
    one_value context = {self, path};
    return with_document(text, strlen(text), name, false, use_value, &context);
}

static ls_status apply_override(reader *self, const char *override)
{
    static const char name[] = "command line";
    const size_t length = strcspn(override, "=");
    if (override[length] == '\0' || length == 0)
        return LS_FAIL(LS_BAD_INPUT, "%s: '%s' is not of the form key=value", name, override);
    char *path = ls_text_copy(override, length);
    const ls_status status = apply_text(self, name, path, override + length + 1);
    free(path);
    return status;
}

static ls_status apply_presets(reader *self)
{
    for (int i = 0; i < self->field_count; i++) {
        const ls_field *const field = &self->fields[i];
        const bool absent = field->preset == NULL || field->preset[0] == '\0';
        if (!absent && apply_text(self, "default", field->path, field->preset) != LS_OK) return LS_INTERNAL;
        self->set[i] = false;
    }
    return LS_OK;
}

static ls_status check_required(const reader *self, const char *name)
{
    for (int i = 0; i < self->field_count; i++)
        if (self->fields[i].preset == NULL && !self->set[i])
            return LS_FAIL(LS_BAD_INPUT, "%s: %s is missing (%s)", name, self->fields[i].path, self->fields[i].help);
    return LS_OK;
}

/* ---- the whole ---- */

static ls_status read_all(reader *self, const char *text, size_t length, const char *name, const char *const *overrides,
                          int override_count)
{
    LS_TRY(apply_presets(self));
    self->once = true;
    if (text != NULL) LS_TRY(with_document(text, length, name, true, use_file, self));
    self->once = false;
    for (int i = 0; i < override_count; i++) LS_TRY(apply_override(self, overrides[i]));
    return check_required(self, text != NULL ? name : "command line");
}

static ls_status read_sized(void *out, const ls_field *fields, int field_count, const char *text, size_t length,
                            const char *name, const char *const *overrides, int override_count)
{
    reader self = {out, fields, field_count, false, ls_text_memory(NULL, (size_t)field_count * sizeof(bool))};
    memset(self.set, 0, (size_t)field_count * sizeof(bool));
    start_places(fields, field_count);
    for (int i = 0; i < field_count; i++) ls_config_value_init(out, &fields[i]);
    const ls_status status = read_all(&self, text, length, name, overrides, override_count);
    if (status != LS_OK) ls_config_free(out, fields, field_count);
    free(self.set);
    return status;
}

ls_status ls_config_read_text(void *out, const ls_field *fields, int field_count, const char *text, const char *name,
                              const char *const *overrides, int override_count)
{
    return read_sized(out, fields, field_count, text, strlen(text), name, overrides, override_count);
}

ls_status ls_config_read(void *out, const ls_field *fields, int field_count, const char *path,
                         const char *const *overrides, int override_count)
{
    char *text = NULL;
    size_t length = 0;
    for (int i = 0; i < field_count; i++) ls_config_value_init(out, &fields[i]);
    if (path != NULL) LS_TRY(ls_file_read(&text, &length, path));
    const ls_status status = read_sized(out, fields, field_count, text, length, path, overrides, override_count);
    free(text);
    return status;
}

void ls_config_free(void *in, const ls_field *fields, int field_count)
{
    for (int i = 0; i < field_count; i++) ls_config_value_clear(in, &fields[i]);
}

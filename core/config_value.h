/* One field's value: from a YAML node into the struct, and out of it as text. Only core/config*.c use this. */
#ifndef LS_CORE_CONFIG_VALUE_H
#define LS_CORE_CONFIG_VALUE_H

#include "core/config.h"
#include "core/text.h"

#include <yaml.h>

typedef struct ls_config_source {
    const char *name; /* "config.yaml", "command line", "default" */
    bool lines;       /* whether nodes have line numbers worth telling */
    yaml_document_t *document;
} ls_config_source;

/* Fails with "config.yaml:12: KEY: what"; `node` may be NULL (no line). */
ls_status ls_config_refuse(const ls_config_source *source, const yaml_node_t *node, const char *key, const char *format,
                           ...) __attribute__((format(printf, 4, 5)));
char *ls_config_place_text(const ls_config_source *source, const yaml_node_t *node); /* malloc'ed "config.yaml:12" */
bool ls_config_is_null(const yaml_node_t *node); /* NULL, or a plain "", "~", "null" */

/* Replaces the field's value; a refused one leaves the old. */
ls_status ls_config_value_set(void *out, const ls_field *field, const ls_config_source *source,
                              const yaml_node_t *node);
/* The same from text that is not YAML, for LS_FIELD_STRING. */
void ls_config_value_set_string(void *out, const ls_field *field, const char *text);
void ls_config_value_init(void *out, const ls_field *field);  /* empty, without freeing */
void ls_config_value_clear(void *out, const ls_field *field); /* frees, then empty */
/* Appends YAML that ls_config_value_set takes back. */
void ls_config_value_write(ls_text *text, const void *in, const ls_field *field);
/* Appends "in [0, 1]", "at least 1", "at most 5", or nothing. */
void ls_config_range_write(ls_text *text, const ls_field *field);

#endif

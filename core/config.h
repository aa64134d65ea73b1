/* Binds a YAML file to a plain C struct through a table of fields.
 *
 * The table is the single source: reading, range checks, the resolved config.yaml, and the reference in --help
 * all come from it. YAML itself is parsed by libyaml. An unknown key, a wrong type or a value out
 * of range is LS_BAD_INPUT naming key, file and line ("config.yaml:12: layer_dropout.rate: 1.5 is not in [0, 1]"; a
 * near miss gets "did you mean"). Overrides "key.sub=value" are read by the same rules and named as "command line". */
#ifndef LS_CORE_CONFIG_H
#define LS_CORE_CONFIG_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum ls_field_kind {
    LS_FIELD_INT,     /* int64_t */
    LS_FIELD_DOUBLE,  /* double */
    LS_FIELD_BOOL,    /* bool */
    LS_FIELD_STRING,  /* char *, owned by the struct, NULL when absent */
    LS_FIELD_CHOICE,  /* int: index into `choices` */
    LS_FIELD_INTS,    /* ls_int_list: "[1, 2]", or "0::4" / "2:8:2" (start:stop:step, filled in later), or "all" */
    LS_FIELD_DOUBLES, /* ls_double_list */
    LS_FIELD_STRINGS, /* ls_string_list */
} ls_field_kind;

typedef struct ls_int_list {
    bool all;   /* the word "all" */
    bool slice; /* start:stop:step; stop -1 = to the end */
    int64_t start, stop, step;
    int64_t *values; /* [count] when neither all nor slice */
    int count;
} ls_int_list;

typedef struct ls_double_list {
    double *values;
    int count;
} ls_double_list;

typedef struct ls_string_list {
    char **values;
    int count;
} ls_string_list;

typedef struct ls_field {
    const char *path; /* "layer_dropout.rate" */
    ls_field_kind kind;
    size_t offset;              /* into the struct */
    double minimum, maximum;    /* inclusive, for INT and DOUBLE and their lists; both 0: no bounds */
    const char *const *choices; /* NULL-terminated, for CHOICE */
    const char *preset;         /* default, as YAML text; NULL: required; "" : absent (NULL string, empty list) */
    const char *help;           /* one line, with the unit and the source */
} ls_field;

/* Fills `out` with the presets, then the file (NULL: none), then the overrides ("key.sub=value"), in this order. What
 * `out` held before is overwritten, not freed; after a refusal its strings and lists are empty. In an override a text
 * is taken as it stands, anything else is YAML; of two overrides of one key the later counts. */
ls_status ls_config_read(void *out, const ls_field *fields, int field_count, const char *path,
                         const char *const *overrides, int override_count);
/* The same, from YAML text (a config kept in a checkpoint); `name` stands for the file in messages. */
ls_status ls_config_read_text(void *out, const ls_field *fields, int field_count, const char *text, const char *name,
                              const char *const *overrides, int override_count);
/* Where a field was last set ("config.yaml:12", "command line", "default"), for checks across fields. The text lives
 * until the next ls_config_read. */
const char *ls_config_place(const char *path);
/* Every field with its value, as YAML that ls_config_read takes back. Returns malloc'ed text. */
char *ls_config_write_text(const void *in, const ls_field *fields, int field_count);
/* The reference: path, type, range, default, help, one field a paragraph. */
void ls_config_print_reference(FILE *file, const ls_field *fields, int field_count);
void ls_config_free(void *in, const ls_field *fields, int field_count); /* strings and lists */

/* member[i] = whether i, 0 <= i < limit, is in the list. A number from outside, or listed twice, is refused naming
 * `key` (its path in the config) and where it was set. */
ls_status ls_int_list_resolve(const ls_int_list *list, int64_t limit, bool *member, const char *key);

#endif

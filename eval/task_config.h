/* A task file: which questions, how they are put to the model, and how its answers are judged.
 *
 * YAML bound by one table of fields, as a run's config is; `layerskip task --help` prints the table. Texts that say
 * "template" are data/template.h's, filled with a question's record. */
#ifndef LS_EVAL_TASK_CONFIG_H
#define LS_EVAL_TASK_CONFIG_H

#include "core/config.h"

typedef enum ls_task_kind {
    LS_TASK_MULTIPLE_CHOICE, /* the choice of the highest probability */
} ls_task_kind;

extern const char *const ls_task_kind_names[]; /* NULL-terminated, in enum order */

typedef struct ls_task_config {
    int kind;               /* ls_task_kind */
    char *data;             /* path as this process reads it */
    char *prompt;           /* template */
    char *delimiter;        /* between a prompt and its answer or choice */
    int64_t shots;          /* examples before each question: the first of shots_from */
    char *shots_from;       /* path as this process reads it; NULL where there are no shots */
    char *separator;        /* after each example */
    int64_t limit;          /* questions at most, from the first; 0: all */
    ls_string_list choices; /* templates; of one that is a list's field alone, the list's items */
    char *gold;             /* field: number of the right choice from 0, true or false, or its text */
} ls_task_config;

extern const ls_field ls_task_fields[];
extern const int ls_task_field_count;

/* Reads `path`, then the overrides. Paths in the file count from its folder, those of an override from this process's.
 * LS_BAD_INPUT, naming file and line, for what core/config.h refuses, for templates that are none, and for a key that
 * means nothing for the kind. */
ls_status ls_task_config_read(ls_task_config *out, const char *path, const char *const *overrides, int override_count);
void ls_task_config_free(ls_task_config *config);

#endif

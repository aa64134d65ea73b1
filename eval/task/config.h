/* A task file: which questions, how they are put to the model, and how its answers are judged.
 *
 * YAML bound by one table of fields, as a run's config is; `layerskip task --help` prints the table. Texts that say
 * "template" are data/template.h's, filled with a question's record. */
#ifndef LS_EVAL_TASK_CONFIG_H
#define LS_EVAL_TASK_CONFIG_H

#include "core/config.h"

typedef enum ls_task_kind {
    LS_TASK_MULTIPLE_CHOICE, /* the choice of the highest probability */
    LS_TASK_EXACT_MATCH,     /* a text that is written, and compared with the right one */
    LS_TASK_CODE,            /* a program that is written, and run */
} ls_task_kind;

extern const char *const ls_task_kind_names[]; /* NULL-terminated, in enum order */

typedef enum ls_task_match { LS_TASK_MATCH_FIRST, LS_TASK_MATCH_LAST } ls_task_match;

typedef struct ls_task_config {
    int kind;         /* ls_task_kind */
    char *data;       /* path as this process reads it */
    char *prompt;     /* template */
    char *delimiter;  /* between a prompt and its answer or choice */
    int64_t shots;    /* examples before each question: the first of shots_from */
    char *shots_from; /* path as this process reads it; NULL where there are no shots */
    char *separator;  /* after each example */
    int64_t limit;    /* questions at most, from the first; 0: all */
    /* multiple_choice: */
    ls_string_list choices; /* templates; of one that is a list's field alone, the list's items */
    char *gold;             /* field: number of the right choice from 0, true or false, or its text */
    /* What is written: */
    int64_t max_new_tokens;
    ls_string_list stop; /* the text ends before the first of these */
    char *answer;        /* template of the right text, also of an example's; code: only of that */
    /* exact_match: */
    char *extract;         /* PCRE2 pattern of the part that is compared; NULL: all */
    int extract_match;     /* ls_task_match */
    ls_string_list remove; /* texts taken out of what is compared */
    bool squeeze_blanks;   /* runs of white space count as one blank, at the ends as none */
    /* code: */
    char *program;          /* template; {completion} is what was written */
    ls_string_list command; /* as ls_program has it */
    double time_limit;      /* seconds */
    int64_t memory_limit;   /* MiB */
} ls_task_config;

extern const ls_field ls_task_fields[];
extern const int ls_task_field_count;

/* Reads `path`, then the overrides. Paths in the file count from its folder, those of an override from this process's.
 * LS_BAD_INPUT, naming file and line, for what core/config.h refuses, for templates that are none, and for a key that
 * means nothing for the kind. */
ls_status ls_task_config_read(ls_task_config *out, const char *path, const char *const *overrides, int override_count);
void ls_task_config_free(ls_task_config *config);

#endif

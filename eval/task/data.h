/* The questions of a task: records read from its file, and the texts made of them.
 *
 * All records are read before the first question is asked. A failure names the file and the line. */
#ifndef LS_EVAL_TASK_DATA_H
#define LS_EVAL_TASK_DATA_H

#include "core/json.h"
#include "eval/task/config.h"

typedef struct ls_task_records {
    char *path;
    cJSON **record; /* [count] objects */
    int64_t *line;  /* [count] in the file, from 1 */
    int64_t count;
} ls_task_records;

typedef struct ls_task_data {
    const ls_task_config *config;
    ls_task_records records;
    int64_t first, count; /* questions: records first .. first+count-1 */
    char *shots;          /* the examples, each with its separator; "" where there are none */
} ls_task_data;

/* Reads the questions and the examples. A file without questions, or with fewer examples than wanted, is LS_BAD_INPUT.
 * `config` must stay. */
ls_status ls_task_data_open(ls_task_data *out, const ls_task_config *config);
void ls_task_data_close(ls_task_data *data); /* also after a failed open */

int64_t ls_task_line(const ls_task_data *data, int64_t question); /* in the file, from 1 */
/* Puts file and line before the sentence of LS_BAD_INPUT; any other status passes. */
ls_status ls_task_place(ls_status status, const ls_task_data *data, int64_t question);
/* Examples and prompt of a question, 0 <= question < count; malloc'ed. */
ls_status ls_task_prompt(char **text, const ls_task_data *data, int64_t question);

/* Any other template, filled with a question's record; malloc'ed. */
ls_status ls_task_fill(char **text, const char *template, const ls_task_data *data, int64_t question);

/* The same with one more field, which stands before one of the record's own. */
ls_status ls_task_fill_with(char **text, const char *template, const ls_task_data *data, int64_t question,
                            const char *name, const char *value);

typedef struct ls_task_choices {
    char **text; /* [count] without the delimiter */
    int count;   /* at least 2 */
    int gold;    /* the right one, from 0 */
} ls_task_choices;

ls_status ls_task_choices_make(ls_task_choices *out, const ls_task_data *data, int64_t question);
void ls_task_choices_free(ls_task_choices *choices);

#endif

/* The part of an answer that counts: found by a pattern (PCRE2), without what is to be removed, its white space
 * squeezed on request. Two parts are the same when their bytes are. */
#ifndef LS_EVAL_TASK_ANSWER_PART_H
#define LS_EVAL_TASK_ANSWER_PART_H

#include "eval/task/config.h"

typedef struct ls_answer_part ls_answer_part;

/* LS_BAD_INPUT, with the pattern's place in the task file, for a pattern that is none. `config` must stay. */
ls_status ls_answer_part_create(ls_answer_part **out, const ls_task_config *config);
void ls_answer_part_destroy(ls_answer_part *part);
/* *found: malloc'ed; NULL where the pattern does not match. text is valid UTF-8. */
ls_status ls_answer_part_find(char **found, const ls_answer_part *part, const char *text);

#endif

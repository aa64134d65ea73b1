/* Whether an answer is right: what the task file says of it. */
#ifndef LS_EVAL_TASK_ANSWER_JUDGE_H
#define LS_EVAL_TASK_ANSWER_JUDGE_H

#include "eval/task/data.h"

/* X(name, text for the details) */
#define LS_OUTCOME_LIST(X)                                                                                             \
    X(RIGHT, "right")                                                                                                  \
    X(WRONG, "wrong")                                                                                                  \
    X(NOTHING, "nothing to compare") /* the pattern does not match */                                                  \
    X(KILLED, "ended by a signal")   /* the program, like the next */                                                  \
    X(TIMED_OUT, "out of time")

typedef enum ls_outcome {
#define LS_OUTCOME_ENUM(name, text) LS_OUTCOME_##name,
    LS_OUTCOME_LIST(LS_OUTCOME_ENUM)
#undef LS_OUTCOME_ENUM
} ls_outcome;

extern const char *const ls_outcome_names[];

typedef struct ls_answer_judge ls_answer_judge;

/* `data` must stay. */
ls_status ls_answer_judge_create(ls_answer_judge **out, const ls_task_data *data);
void ls_answer_judge_destroy(ls_answer_judge *judge);
/* LS_BAD_INPUT where no answer to a question could be judged. */
ls_status ls_answer_judge_check(ls_answer_judge *judge, int64_t question);
/* exact_match: the parts of the right text and of an answer that count; malloc'ed. NULL: none, as always of code. */
ls_status ls_answer_judge_right(char **part, const ls_answer_judge *judge, int64_t question);
ls_status ls_answer_judge_part(char **part, const ls_answer_judge *judge, const char *text);
/* text: valid UTF-8. Of code it runs the program. LS_INTERRUPTED, without a sentence: a signal came. */
ls_status ls_answer_judge_run(ls_outcome *outcome, ls_answer_judge *judge, int64_t question, const char *text);

#endif

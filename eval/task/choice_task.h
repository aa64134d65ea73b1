/* Multiple choice: the accuracy of every exit layer.
 *
 * A question's answer is the choice of the largest log-probability; per byte: of the largest log-probability divided by
 * the choice's length in UTF-8, delimiter apart. Those are acc and acc_norm of EleutherAI's lm-evaluation-harness (Gao
 * et al. 2021; it counts characters, which differ beyond ASCII only). Of equal choices the first is taken. */
#ifndef LS_EVAL_TASK_CHOICE_TASK_H
#define LS_EVAL_TASK_CHOICE_TASK_H

#include "core/text.h"
#include "eval/session.h"
#include "eval/task/data.h"

typedef struct ls_choice_result {
    int64_t asked;                   /* questions answered: all, unless a signal came */
    int64_t cut, torn;               /* choices (eval/task/tokens.h) */
    int layers;                      /* L */
    int64_t *right, *right_per_byte; /* [L] of the questions asked, by exit */
} ls_choice_result;

/* Of several processes each answers some of the questions; the result is the same on all, to the bit what one alone
 * finds, and a failure is that of all. details: a JSON line a question is added, on rank 0; may be NULL. */
ls_status ls_choice_task_run(ls_choice_result *out, const ls_task_data *data, const ls_session *session, ls_comm *comm,
                             ls_text *details);
void ls_choice_result_free(ls_choice_result *result);

void ls_choice_result_to_json(cJSON *document, const ls_choice_result *result);
void ls_choice_result_print(FILE *file, const ls_choice_result *result);

#endif

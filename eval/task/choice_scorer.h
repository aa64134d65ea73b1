/* Log-probabilities of a question's choices at every exit layer, from one forward pass over each choice.
 *
 * A question is computed alone, in passes whose shape its own tokens decide. So its scores are the same bits whatever
 * other questions are asked, by how many threads and processes. */
#ifndef LS_EVAL_TASK_CHOICE_SCORER_H
#define LS_EVAL_TASK_CHOICE_SCORER_H

#include "eval/task/tokens.h"
#include "model/training.h"

typedef struct ls_choice_scorer ls_choice_scorer;

/* For questions of at most `choices` choices of at most `tokens` tokens each. */
ls_status ls_choice_scorer_create(ls_choice_scorer **out, const ls_model *model, int choices, int64_t tokens);
void ls_choice_scorer_destroy(ls_choice_scorer *scorer);
/* scores[l][i] = sum of the log-probabilities, in nats, of the scored tokens of choice i at exit l, [L][count] fp64. */
ls_status ls_choice_scorer_run(double *scores, ls_choice_scorer *scorer, const ls_task_tokens *choices, int count);

#endif

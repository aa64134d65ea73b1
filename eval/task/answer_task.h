/* Answers that a model writes: how many are right, and how fast they come.
 *
 * Every question is answered greedily by the whole model. With an exit layer E also by the first E layers alone, which
 * is another and worse model, and by self-speculation with E layers and d draft tokens, which must write the same
 * tokens. Those two are measured in turns on each question, as in a sweep, and the speedup compares them alone. */
#ifndef LS_EVAL_TASK_ANSWER_TASK_H
#define LS_EVAL_TASK_ANSWER_TASK_H

#include "core/text.h"
#include "eval/decoder.h"
#include "eval/session.h"
#include "eval/task/data.h"

typedef struct ls_answer_options {
    int exit_layer;   /* E, 1..L-1; 0: the whole model only */
    int draft_tokens; /* d */
} ls_answer_options;

/* One way to decode, over the questions asked. Tokens are those of the answers, what stopped them included. */
typedef struct ls_answer_run {
    int64_t right, tokens;
    int64_t drafted, accepted, rounds;
    double prefill_seconds, decode_seconds;
} ls_answer_run;

enum { LS_ANSWER_RUNS = LS_DECODE_SELF_SPECULATIVE + 1 };

typedef struct ls_answer_result {
    ls_answer_options options;
    int64_t asked;                     /* questions answered: all, unless a signal came */
    int64_t cut;                       /* prompts that lost their beginning */
    ls_answer_run run[LS_ANSWER_RUNS]; /* by ls_decode_mode; without an exit layer autoregressive alone */
    int64_t identical;                 /* questions where self-speculation wrote the same tokens */
    double speedup_low, speedup_high;  /* of single questions */
} ls_answer_result;

/* Of several processes each answers some of the questions; the result is the same on all, and but for times what one
 * alone finds. A failure is that of all. details: a JSON line a question is added, on rank 0; may be NULL. */
ls_status ls_answer_task_run(ls_answer_result *out, const ls_task_data *data, const ls_session *session, ls_comm *comm,
                             const ls_answer_options *options, ls_text *details);

void ls_answer_result_to_json(cJSON *document, const ls_answer_result *result, const char *metric);
void ls_answer_result_print(FILE *file, const ls_answer_result *result, const char *metric);

#endif

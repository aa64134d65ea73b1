/* Questions shared out among processes: question i is process i % size's, and what was answered is added up by all, in
 * the order of the questions. So the sums do not depend on the number of processes. */
#ifndef LS_EVAL_TASK_ROUNDS_H
#define LS_EVAL_TASK_ROUNDS_H

#include "kernels/comm/comm.h"

typedef struct ls_task_rounds {
    ls_comm *comm;
    int64_t questions;
    size_t answer_size; /* bytes of an answer, which begin as 0 and travel as they are */
    /* Answers one of this process's questions. LS_INTERRUPTED: a signal came first. */
    ls_status (*ask)(void *context, void *answer, int64_t question);
    ls_status (*add)(void *context, const void *answer, int64_t question);
    void *context;
} ls_task_rounds;

/* Asks in rounds of one question a process. After a round in which a signal came to any of them, which does not count,
 * all end with LS_OK. A failure is that of all. */
ls_status ls_task_rounds_run(const ls_task_rounds *rounds);

#endif

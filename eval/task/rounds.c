#include "eval/task/rounds.h"

#include "core/log.h"
#include "core/text.h"

#include <stdlib.h>
#include <string.h>

/* An answer on its way: how it went, then its bytes, aligned for anything. */
enum { HEAD = 64 };

typedef struct mail {
    size_t size;        /* of one */
    unsigned char *own; /* [size] */
    unsigned char *all; /* [processes][size] */
} mail;

static ls_status status_of(const mail *messages, int rank)
{
    ls_status status;
    memcpy(&status, messages->all + (size_t)rank * messages->size, sizeof status);
    return status;
}

/* As many questions from `first` on as there are processes, one each. *stop: a signal came to one of them. */
static ls_status run_round(const ls_task_rounds *rounds, const mail *messages, int64_t first, bool *stop)
{
    const int size = ls_comm_size(rounds->comm);
    const int64_t own = first + ls_comm_rank(rounds->comm);
    ls_status status = LS_OK;
    memset(messages->own, 0, messages->size);
    ls_comm_stand(rounds->comm, own, LS_COMM_EVALUATING);
    if (own < rounds->questions) status = rounds->ask(rounds->context, messages->own + HEAD, own);
    memcpy(messages->own, &status, sizeof status);
    LS_TRY(ls_comm_gather(rounds->comm, messages->all, messages->own, messages->size));
    bool failed = false;
    for (int r = 0; r < size; r++) {
        *stop = *stop || status_of(messages, r) == LS_INTERRUPTED;
        failed = failed || (status_of(messages, r) != LS_OK && status_of(messages, r) != LS_INTERRUPTED);
    }
    if (failed) return ls_comm_agree(rounds->comm, status == LS_INTERRUPTED ? LS_OK : status);
    for (int r = 0; r < size && first + r < rounds->questions && !*stop; r++)
        LS_TRY(rounds->add(rounds->context, messages->all + (size_t)r * messages->size + HEAD, first + r));
    return LS_OK;
}

ls_status ls_task_rounds_run(const ls_task_rounds *rounds)
{
    const size_t size = (HEAD + rounds->answer_size + HEAD - 1) / HEAD * HEAD;
    mail messages = {.size = size, .own = aligned_alloc(HEAD, size)};
    messages.all = aligned_alloc(HEAD, size * (size_t)ls_comm_size(rounds->comm));
    ls_status status = LS_OK;
    if (messages.own == NULL || messages.all == NULL)
        status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for the answers of a task");
    status = ls_comm_agree(rounds->comm, status);
    bool stop = false;
    for (int64_t first = 0; first < rounds->questions && !stop && status == LS_OK;
         first += ls_comm_size(rounds->comm)) {
        ls_log_progress("task: question %lld of %lld", (long long)first + 1, (long long)rounds->questions);
        status = run_round(rounds, &messages, first, &stop);
    }
    ls_log_progress_end();
    free(messages.all);
    free(messages.own);
    return status;
}

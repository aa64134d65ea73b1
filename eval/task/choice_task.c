#include "eval/task/choice_task.h"

#include "core/interrupt.h"
#include "eval/task/choice_scorer.h"
#include "eval/task/rounds.h"
#include "eval/task/share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A question of this process's, as tokens. */
typedef struct question {
    ls_task_tokens *choice; /* [count] */
    int count;
} question;

/* What a process says of one question. */
typedef struct answer {
    int cut, torn;
    double score[]; /* [L][most] of which [L][count] are set */
} answer;

typedef struct workbench {
    const ls_task_data *data;
    const ls_session *session;
    ls_comm *comm;
    question *own; /* [own_count] questions rank, rank + size, ... */
    int64_t own_count;
    int most;        /* choices of any question */
    int64_t longest; /* tokens of any own choice */
    ls_choice_scorer *scorer;
    ls_choice_result *result;
    ls_text *details; /* NULL: not wanted, or not here */
} workbench;

/* ---- before the first question ----------------------------------------------------------------------------------- */

static ls_status encode_question(question *out, workbench *bench, int64_t q, const ls_task_choices *choices)
{
    const int64_t context = bench->session->model.config.max_position_embeddings;
    char *prompt;
    LS_TRY(ls_task_prompt(&prompt, bench->data, q));
    out->choice = ls_text_memory(NULL, (size_t)choices->count * sizeof *out->choice);
    ls_status status = LS_OK;
    for (; out->count < choices->count && status == LS_OK; out->count++) {
        ls_task_tokens *tokens = out->choice + out->count;
        char *text = ls_text_format("%s%s", bench->data->config->delimiter, choices->text[out->count]);
        status = ls_task_encode_pair(tokens, bench->session->tokenizer, prompt, text, context + 1);
        free(text);
        if (tokens->count > bench->longest) bench->longest = tokens->count;
    }
    free(prompt);
    return ls_task_place(status, bench->data, q);
}

/* Every process looks at every question, so that all know the same and refuse the same; it encodes its own. */
static ls_status read_questions(workbench *bench)
{
    const int size = ls_comm_size(bench->comm), rank = ls_comm_rank(bench->comm);
    bench->own = ls_text_memory(NULL, (size_t)(bench->data->count / size + 1) * sizeof *bench->own);
    for (int64_t q = 0; q < bench->data->count; q++) {
        if (ls_interrupt_requested()) return LS_FAIL(LS_INTERRUPTED, "interrupted before the first question");
        ls_task_choices choices;
        LS_TRY(ls_task_choices_make(&choices, bench->data, q));
        if (choices.count > bench->most) bench->most = choices.count;
        ls_status status = LS_OK;
        if (q % size == rank) {
            question *own = bench->own + bench->own_count++;
            *own = (question){0};
            status = encode_question(own, bench, q, &choices);
        }
        ls_task_choices_free(&choices);
        LS_TRY(status);
    }
    return LS_OK;
}

static ls_status prepare(workbench *bench)
{
    LS_TRY(read_questions(bench));
    const int64_t longest = bench->longest < 2 ? 2 : bench->longest; /* a process may have no question */
    return ls_choice_scorer_create(&bench->scorer, &bench->session->model, bench->most, longest);
}

static void release(workbench *bench)
{
    ls_choice_scorer_destroy(bench->scorer);
    for (int64_t i = 0; i < bench->own_count; i++) {
        for (int c = 0; c < bench->own[i].count; c++) ls_task_tokens_free(bench->own[i].choice + c);
        free(bench->own[i].choice);
    }
    free(bench->own);
}

/* ---- judging ----------------------------------------------------------------------------------------------------- */

/* Number of the best of scores[count], per byte where `choices` is given. */
static int best_choice(const double *scores, int count, const ls_task_choices *choices)
{
    int best = 0;
    double highest = -(double)INFINITY;
    for (int i = 0; i < count; i++) {
        const size_t bytes = choices == NULL ? 1 : strlen(choices->text[i]);
        const double score = scores[i] / (double)(bytes > 0 ? bytes : 1);
        if (!(score > highest)) continue;
        highest = score;
        best = i;
    }
    return best;
}

static void add_details(const workbench *bench, int64_t q, const double *scores, const ls_task_choices *choices)
{
    cJSON *line = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(line, "question", (double)q);
    (void)cJSON_AddNumberToObject(line, "line", (double)ls_task_line(bench->data, q));
    (void)cJSON_AddNumberToObject(line, "gold", choices->gold);
    cJSON *exits = cJSON_AddArrayToObject(line, "exits");
    for (int l = 0; l < bench->session->model.config.num_hidden_layers; l++, scores += choices->count) {
        cJSON *exit = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(exit, "layer", l + 1);
        (void)cJSON_AddItemToObject(exit, "log_probabilities", cJSON_CreateDoubleArray(scores, choices->count));
        (void)cJSON_AddNumberToObject(exit, "choice", best_choice(scores, choices->count, NULL));
        (void)cJSON_AddNumberToObject(exit, "choice_norm", best_choice(scores, choices->count, choices));
        (void)cJSON_AddItemToArray(exits, exit);
    }
    char *text = cJSON_PrintUnformatted(line);
    if (text != NULL) ls_text_addf(bench->details, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(line);
}

static ls_status add_answer(void *context, const void *message, int64_t q)
{
    const workbench *bench = context;
    const answer *given = message;
    ls_choice_result *result = bench->result;
    ls_task_choices choices;
    LS_TRY(ls_task_choices_make(&choices, bench->data, q));
    for (int l = 0; l < result->layers; l++) {
        const double *scores = given->score + l * choices.count;
        result->right[l] += best_choice(scores, choices.count, NULL) == choices.gold;
        result->right_per_byte[l] += best_choice(scores, choices.count, &choices) == choices.gold;
    }
    if (bench->details != NULL) add_details(bench, q, given->score, &choices);
    ls_task_choices_free(&choices);
    result->cut += given->cut;
    result->torn += given->torn;
    result->asked++;
    return LS_OK;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static ls_status answer_question(void *context, void *message, int64_t q)
{
    const workbench *bench = context;
    const question *asked = bench->own + q / ls_comm_size(bench->comm);
    answer *out = message;
    if (ls_interrupt_requested()) return LS_INTERRUPTED;
    for (int i = 0; i < asked->count; i++) {
        out->cut += asked->choice[i].cut;
        out->torn += asked->choice[i].torn;
    }
    return ls_choice_scorer_run(out->score, bench->scorer, asked->choice, asked->count);
}

ls_status ls_choice_task_run(ls_choice_result *out, const ls_task_data *data, const ls_session *session, ls_comm *comm,
                             ls_text *details)
{
    const size_t L = (size_t)session->model.config.num_hidden_layers;
    *out = (ls_choice_result){.layers = (int)L};
    out->right = ls_text_memory(NULL, L * sizeof *out->right);
    out->right_per_byte = ls_text_memory(NULL, L * sizeof *out->right_per_byte);
    memset(out->right, 0, L * sizeof *out->right);
    memset(out->right_per_byte, 0, L * sizeof *out->right_per_byte);
    workbench bench = {.data = data,
                       .session = session,
                       .comm = comm,
                       .result = out,
                       .details = ls_comm_rank(comm) == 0 ? details : NULL};
    ls_status status = ls_comm_agree(comm, prepare(&bench));
    const ls_task_rounds rounds = {.comm = comm,
                                   .questions = data->count,
                                   .answer_size = sizeof(answer) + sizeof(double) * L * (size_t)bench.most,
                                   .ask = answer_question,
                                   .add = add_answer,
                                   .context = &bench};
    if (status == LS_OK) status = ls_task_rounds_run(&rounds);
    release(&bench);
    if (status != LS_OK) ls_choice_result_free(out);
    return status;
}

void ls_choice_result_free(ls_choice_result *result)
{
    free(result->right);
    free(result->right_per_byte);
    *result = (ls_choice_result){0};
}

/* ---- telling ----------------------------------------------------------------------------------------------------- */

void ls_choice_result_to_json(cJSON *document, const ls_choice_result *result)
{
    (void)cJSON_AddNumberToObject(document, "choices_cut", (double)result->cut);
    (void)cJSON_AddNumberToObject(document, "choices_torn", (double)result->torn);
    cJSON *exits = cJSON_AddArrayToObject(document, "exits");
    for (int l = 0; l < result->layers; l++) {
        const int64_t asked = result->asked, right = result->right[l], per_byte = result->right_per_byte[l];
        cJSON *exit = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(exit, "layer", l + 1);
        (void)cJSON_AddNumberToObject(exit, "acc", ls_task_share(right, asked));
        (void)cJSON_AddNumberToObject(exit, "acc_stderr", ls_task_share_error(right, asked));
        (void)cJSON_AddNumberToObject(exit, "acc_norm", ls_task_share(per_byte, asked));
        (void)cJSON_AddNumberToObject(exit, "acc_norm_stderr", ls_task_share_error(per_byte, asked));
        (void)cJSON_AddItemToArray(exits, exit);
    }
}

void ls_choice_result_print(FILE *file, const ls_choice_result *result)
{
    (void)fprintf(file, "layers run         accuracy         per byte\n");
    for (int l = 0; l < result->layers; l++)
        (void)fprintf(file, "%10d  %15s  %15s\n", l + 1, ls_task_share_write(result->right[l], result->asked).bytes,
                      ls_task_share_write(result->right_per_byte[l], result->asked).bytes);
}

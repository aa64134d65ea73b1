#include "eval/task/answer_task.h"

#include "core/interrupt.h"
#include "eval/task/answer_judge.h"
#include "eval/task/answer_text.h"
#include "eval/task/rounds.h"
#include "eval/task/tokens.h"

#include <stdlib.h>
#include <string.h>

/* What one way to decode gave on one question. */
typedef struct run_answer {
    ls_outcome outcome;
    int64_t count; /* tokens of the answer */
    int64_t drafted, accepted, rounds;
    double prefill_seconds, decode_seconds;
} run_answer;

/* What a process says of one question. */
typedef struct answer {
    bool cut;
    run_answer run[LS_ANSWER_RUNS];
    int32_t tokens[]; /* [LS_ANSWER_RUNS][max_new_tokens] */
} answer;

typedef struct workbench {
    const ls_task_data *data;
    const ls_session *session;
    ls_comm *comm;
    ls_answer_options options;
    ls_answer_judge *judge;
    ls_task_tokens *own; /* [own_count] prompts of questions rank, rank + size, ... */
    int64_t own_count;
    int64_t most; /* max_new_tokens */
    ls_decoder *decoder;
    ls_answer_result *result;
    ls_text *details; /* NULL: not wanted, or not here */
} workbench;

static int runs_of(const workbench *bench) { return bench->options.exit_layer > 0 ? LS_ANSWER_RUNS : 1; }

static ls_decode_options decoding(const workbench *bench, ls_decode_mode mode)
{
    return (ls_decode_options){.mode = mode,
                               .exit_layer = bench->options.exit_layer,
                               .draft_tokens = bench->options.draft_tokens,
                               .max_new_tokens = bench->most,
                               .end_of_text = ls_tokenizer_end_of_text(bench->session->tokenizer),
                               .sampling = {.top_p = 1.0}};
}

/* ---- before the first question ----------------------------------------------------------------------------------- */

/* Every process fills in every prompt and right answer, so that all refuse the same; it keeps its own prompts. */
static ls_status read_questions(workbench *bench, int64_t room)
{
    const int size = ls_comm_size(bench->comm), rank = ls_comm_rank(bench->comm);
    bench->own = ls_text_memory(NULL, (size_t)(bench->data->count / size + 1) * sizeof *bench->own);
    for (int64_t q = 0; q < bench->data->count; q++) {
        if (ls_interrupt_requested()) return LS_FAIL(LS_INTERRUPTED, "interrupted before the first question");
        char *prompt;
        LS_TRY(ls_answer_judge_check(bench->judge, q));
        LS_TRY(ls_task_prompt(&prompt, bench->data, q));
        ls_status status = LS_OK;
        if (q % size == rank) {
            ls_task_tokens *tokens = bench->own + bench->own_count++;
            status = ls_task_encode_prompt(tokens, bench->session->tokenizer, prompt, room);
        }
        free(prompt);
        LS_TRY(ls_task_place(status, bench->data, q));
    }
    return LS_OK;
}

static ls_status prepare(workbench *bench)
{
    const ls_model *model = &bench->session->model;
    const int64_t context = model->config.max_position_embeddings;
    for (int mode = 0; mode < runs_of(bench); mode++) {
        const ls_decode_options options = decoding(bench, (ls_decode_mode)mode);
        LS_TRY(ls_decode_options_check(&options, model->config.num_hidden_layers));
    }
    if (bench->most >= context)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s: max_new_tokens: %lld leave no room for a prompt in the model's context of %lld",
                       ls_config_place("max_new_tokens"), (long long)bench->most, (long long)context);
    LS_TRY(ls_answer_judge_create(&bench->judge, bench->data));
    LS_TRY(read_questions(bench, context - bench->most));
    int64_t longest = 1;
    for (int64_t i = 0; i < bench->own_count; i++)
        if (bench->own[i].count > longest) longest = bench->own[i].count;
    return ls_decoder_create(&bench->decoder, model, longest + bench->most, bench->options.draft_tokens);
}

static void release(workbench *bench)
{
    ls_decoder_destroy(bench->decoder);
    for (int64_t i = 0; i < bench->own_count; i++) ls_task_tokens_free(bench->own + i);
    free(bench->own);
    ls_answer_judge_destroy(bench->judge);
}

/* ---- answering --------------------------------------------------------------------------------------------------- */

static void begin_text(ls_answer_text *text, const workbench *bench, const ls_task_tokens *prompt)
{
    ls_answer_text_begin(text, bench->session->tokenizer, prompt->ids, prompt->count, &bench->data->config->stop);
}

typedef struct listening {
    ls_answer_text text;
    ls_status status;
} listening;

static bool listen(void *context, const int32_t *tokens, int count, int accepted_drafts)
{
    (void)accepted_drafts;
    listening *self = context;
    self->status = ls_answer_text_add(&self->text, tokens, count);
    return self->status == LS_OK && !self->text.ended;
}

/* tokens: [max_new_tokens] */
static ls_status decode(run_answer *out, int32_t *tokens, char **text, const workbench *bench,
                        const ls_task_tokens *prompt, ls_decode_mode mode)
{
    const ls_decode_options options = decoding(bench, mode);
    ls_decode_result result;
    listening self = {.status = LS_OK};
    *text = NULL;
    begin_text(&self.text, bench, prompt);
    ls_status status =
        ls_decoder_generate(bench->decoder, &result, tokens, prompt->ids, prompt->count, &options, listen, &self);
    if (status == LS_OK) status = self.status;
    if (status == LS_OK) status = ls_answer_text_end(&self.text);
    if (status == LS_OK && strcmp(result.finish_reason, "interrupted") == 0) status = LS_INTERRUPTED;
    if (status == LS_OK) {
        *out = (run_answer){.count = self.text.tokens,
                            .drafted = result.drafted,
                            .accepted = result.accepted,
                            .rounds = result.rounds,
                            .prefill_seconds = result.prefill_seconds,
                            .decode_seconds = result.decode_seconds};
        *text = ls_text_copy(self.text.text.bytes, self.text.text.length);
    }
    ls_answer_text_free(&self.text);
    return status;
}

static ls_status answer_question(void *context, void *message, int64_t question)
{
    const workbench *bench = context;
    /* Which of the two that are compared comes first changes from question to question. */
    static const ls_decode_mode orders[2][LS_ANSWER_RUNS] = {
        {LS_DECODE_AUTOREGRESSIVE, LS_DECODE_SELF_SPECULATIVE, LS_DECODE_EARLY_EXIT},
        {LS_DECODE_SELF_SPECULATIVE, LS_DECODE_AUTOREGRESSIVE, LS_DECODE_EARLY_EXIT},
    };
    static const ls_decode_mode alone[] = {LS_DECODE_AUTOREGRESSIVE};
    const ls_decode_mode *order = runs_of(bench) > 1 ? orders[question % 2] : alone;
    const ls_task_tokens *prompt = bench->own + question / ls_comm_size(bench->comm);
    answer *out = message;
    out->cut = prompt->cut;
    for (int turn = 0; turn < runs_of(bench); turn++) {
        const ls_decode_mode mode = order[turn];
        char *text;
        LS_TRY(decode(&out->run[mode], out->tokens + mode * bench->most, &text, bench, prompt, mode));
        const ls_status status = ls_answer_judge_run(&out->run[mode].outcome, bench->judge, question, text);
        free(text);
        LS_TRY(status);
    }
    return LS_OK;
}

/* ---- adding up --------------------------------------------------------------------------------------------------- */

static bool same_tokens(const workbench *bench, const answer *given)
{
    const int64_t count = given->run[LS_DECODE_AUTOREGRESSIVE].count;
    return given->run[LS_DECODE_SELF_SPECULATIVE].count == count &&
           memcmp(given->tokens + LS_DECODE_AUTOREGRESSIVE * bench->most,
                  given->tokens + LS_DECODE_SELF_SPECULATIVE * bench->most, sizeof(int32_t) * (size_t)count) == 0;
}

static void add_run(ls_answer_run *sum, const run_answer *run)
{
    sum->right += run->outcome == LS_OUTCOME_RIGHT;
    sum->tokens += run->count;
    sum->drafted += run->drafted;
    sum->accepted += run->accepted;
    sum->rounds += run->rounds;
    sum->prefill_seconds += run->prefill_seconds;
    sum->decode_seconds += run->decode_seconds;
}

/* The text is made again from the tokens: only they travel. */
static ls_status add_run_details(cJSON *runs, const workbench *bench, const answer *given, int64_t question, int mode)
{
    const run_answer *run = &given->run[mode];
    char *prompt, *part = NULL;
    ls_task_tokens tokens;
    ls_answer_text text;
    const int64_t room = bench->session->model.config.max_position_embeddings - bench->most;
    LS_TRY(ls_task_prompt(&prompt, bench->data, question));
    ls_status status = ls_task_encode_prompt(&tokens, bench->session->tokenizer, prompt, room);
    free(prompt);
    LS_TRY(status);
    begin_text(&text, bench, &tokens);
    status = ls_answer_text_add(&text, given->tokens + mode * bench->most, run->count);
    if (status == LS_OK) status = ls_answer_text_end(&text);
    if (status == LS_OK) status = ls_answer_judge_part(&part, bench->judge, text.text.bytes);
    if (status == LS_OK) {
        cJSON *row = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(row, "decode", ls_decode_mode_names[mode]);
        (void)cJSON_AddStringToObject(row, "outcome", ls_outcome_names[run->outcome]);
        (void)cJSON_AddStringToObject(row, "text", text.text.bytes);
        if (part != NULL) (void)cJSON_AddStringToObject(row, "answer", part);
        (void)cJSON_AddNumberToObject(row, "tokens", (double)run->count);
        (void)cJSON_AddItemToArray(runs, row);
    }
    free(part);
    ls_answer_text_free(&text);
    ls_task_tokens_free(&tokens);
    return status;
}

static ls_status add_details(const workbench *bench, const answer *given, int64_t question)
{
    char *right = NULL;
    ls_status status = ls_answer_judge_right(&right, bench->judge, question);
    cJSON *line = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(line, "question", (double)question);
    (void)cJSON_AddNumberToObject(line, "line", (double)ls_task_line(bench->data, question));
    if (right != NULL) (void)cJSON_AddStringToObject(line, "right", right);
    cJSON *runs = cJSON_AddArrayToObject(line, "answers");
    for (int mode = 0; mode < runs_of(bench) && status == LS_OK; mode++)
        status = add_run_details(runs, bench, given, question, mode);
    char *text = cJSON_PrintUnformatted(line);
    if (text != NULL && status == LS_OK) ls_text_addf(bench->details, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(line);
    free(right);
    return status;
}

static ls_status add_answer(void *context, const void *message, int64_t question)
{
    const workbench *bench = context;
    const answer *given = message;
    ls_answer_result *result = bench->result;
    for (int mode = 0; mode < runs_of(bench); mode++) add_run(&result->run[mode], &given->run[mode]);
    if (runs_of(bench) > 1) {
        const double fast = given->run[LS_DECODE_SELF_SPECULATIVE].decode_seconds;
        const double speedup = fast > 0.0 ? given->run[LS_DECODE_AUTOREGRESSIVE].decode_seconds / fast : 0.0;
        if (result->asked == 0 || speedup < result->speedup_low) result->speedup_low = speedup;
        if (result->asked == 0 || speedup > result->speedup_high) result->speedup_high = speedup;
        result->identical += same_tokens(bench, given);
    }
    result->cut += given->cut;
    result->asked++;
    return bench->details == NULL ? LS_OK : add_details(bench, given, question);
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* Once before the clock counts: code, weights and buffers are touched. */
static ls_status warm_up(const workbench *bench)
{
    if (bench->own_count == 0 || bench->options.exit_layer == 0) return LS_OK;
    int32_t *tokens = ls_text_memory(NULL, sizeof *tokens * (size_t)bench->most);
    run_answer nobody;
    char *text;
    const ls_status status = decode(&nobody, tokens, &text, bench, bench->own, LS_DECODE_AUTOREGRESSIVE);
    free(text);
    free(tokens);
    return status == LS_INTERRUPTED ? LS_OK : status; /* the first round meets it again */
}

ls_status ls_answer_task_run(ls_answer_result *out, const ls_task_data *data, const ls_session *session, ls_comm *comm,
                             const ls_answer_options *options, ls_text *details)
{
    *out = (ls_answer_result){.options = *options};
    workbench bench = {.data = data,
                       .session = session,
                       .comm = comm,
                       .options = *options,
                       .most = data->config->max_new_tokens,
                       .result = out,
                       .details = ls_comm_rank(comm) == 0 ? details : NULL};
    const ls_task_rounds rounds = {.comm = comm,
                                   .questions = data->count,
                                   .answer_size =
                                       sizeof(answer) + sizeof(int32_t) * (size_t)(LS_ANSWER_RUNS * bench.most),
                                   .ask = answer_question,
                                   .add = add_answer,
                                   .context = &bench};
    ls_status status = ls_comm_agree(comm, prepare(&bench));
    if (status == LS_OK) status = ls_comm_agree(comm, warm_up(&bench));
    if (status == LS_OK) status = ls_task_rounds_run(&rounds);
    release(&bench);
    return status;
}

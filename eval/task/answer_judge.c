#include "eval/task/answer_judge.h"

#include "core/log.h"
#include "eval/task/answer_part.h"
#include "eval/task/program_run.h"

#include <stdlib.h>
#include <string.h>

const char *const ls_outcome_names[] = {
#define LS_OUTCOME_TEXT(name, text) text,
    LS_OUTCOME_LIST(LS_OUTCOME_TEXT)
#undef LS_OUTCOME_TEXT
};

struct ls_answer_judge {
    const ls_task_data *data;
    ls_answer_part *part;
    bool warned; /* that programs are not isolated */
};

ls_status ls_answer_judge_create(ls_answer_judge **out, const ls_task_data *data)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for judging answers");
    (*out)->data = data;
    const ls_status status = ls_answer_part_create(&(*out)->part, data->config);
    if (status == LS_OK) return LS_OK;
    free(*out);
    *out = NULL;
    return status;
}

void ls_answer_judge_destroy(ls_answer_judge *judge)
{
    if (judge == NULL) return;
    ls_answer_part_destroy(judge->part);
    free(judge);
}

ls_status ls_answer_judge_right(char **part, const ls_answer_judge *judge, int64_t question)
{
    char *text;
    *part = NULL;
    if (judge->data->config->kind != LS_TASK_EXACT_MATCH) return LS_OK;
    LS_TRY(ls_task_fill(&text, judge->data->config->answer, judge->data, question));
    ls_status status = ls_answer_part_find(part, judge->part, text);
    free(text);
    if (status == LS_OK && *part == NULL)
        status = LS_FAIL(LS_BAD_INPUT, "the right answer does not match the pattern of extract");
    return ls_task_place(status, judge->data, question);
}

ls_status ls_answer_judge_part(char **part, const ls_answer_judge *judge, const char *text)
{
    *part = NULL;
    if (judge->data->config->kind != LS_TASK_EXACT_MATCH) return LS_OK;
    return ls_answer_part_find(part, judge->part, text);
}

static ls_status compare(ls_outcome *outcome, const ls_answer_judge *judge, int64_t question, const char *text)
{
    char *right, *part = NULL;
    LS_TRY(ls_answer_judge_right(&right, judge, question));
    const ls_status status = ls_answer_judge_part(&part, judge, text);
    if (part == NULL)
        *outcome = LS_OUTCOME_NOTHING;
    else
        *outcome = strcmp(part, right) == 0 ? LS_OUTCOME_RIGHT : LS_OUTCOME_WRONG;
    free(part);
    free(right);
    return status;
}

static ls_status make_program(char **program, const ls_answer_judge *judge, int64_t question, const char *completion)
{
    return ls_task_fill_with(program, judge->data->config->program, judge->data, question, "completion", completion);
}

static ls_status run(ls_outcome *outcome, ls_answer_judge *judge, int64_t question, const char *text)
{
    static const ls_outcome outcomes[] = {[LS_PROGRAM_PASSED] = LS_OUTCOME_RIGHT,
                                          [LS_PROGRAM_FAILED] = LS_OUTCOME_WRONG,
                                          [LS_PROGRAM_KILLED] = LS_OUTCOME_KILLED,
                                          [LS_PROGRAM_TIMED_OUT] = LS_OUTCOME_TIMED_OUT};
    const ls_task_config *config = judge->data->config;
    char *source;
    LS_TRY(make_program(&source, judge, question, text));
    const ls_program program = {.text = source,
                                .command = &config->command,
                                .time_limit = config->time_limit,
                                .memory_limit = config->memory_limit};
    ls_program_end end;
    bool isolated;
    const ls_status status = ls_program_run(&end, &isolated, &program);
    free(source);
    LS_TRY(status);
    if (!isolated && !judge->warned)
        ls_log_warning("this system gives programs no namespaces of their own; they can reach the network");
    judge->warned = judge->warned || !isolated;
    *outcome = outcomes[end];
    return LS_OK;
}

ls_status ls_answer_judge_check(ls_answer_judge *judge, int64_t question)
{
    char *text;
    if (judge->data->config->kind == LS_TASK_CODE)
        LS_TRY(make_program(&text, judge, question, ""));
    else
        LS_TRY(ls_answer_judge_right(&text, judge, question));
    free(text);
    return LS_OK;
}

ls_status ls_answer_judge_run(ls_outcome *outcome, ls_answer_judge *judge, int64_t question, const char *text)
{
    return judge->data->config->kind == LS_TASK_CODE ? run(outcome, judge, question, text)
                                                     : compare(outcome, judge, question, text);
}

#include "eval/answer_judge.h"

#include "eval/answer_part.h"

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
    LS_TRY(ls_task_fill(&text, judge->data->config->answer, judge->data, question));
    ls_status status = ls_answer_part_find(part, judge->part, text);
    free(text);
    if (status == LS_OK && *part == NULL)
        status = LS_FAIL(LS_BAD_INPUT, "the right answer does not match the pattern of extract");
    return ls_task_place(status, judge->data, question);
}

ls_status ls_answer_judge_part(char **part, const ls_answer_judge *judge, const char *text)
{
    return ls_answer_part_find(part, judge->part, text);
}

ls_status ls_answer_judge_run(ls_outcome *outcome, const ls_answer_judge *judge, int64_t question, const char *text)
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

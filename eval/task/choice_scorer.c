#include "eval/task/choice_scorer.h"

#include <stdlib.h>
#include <string.h>

/* A pass is as long as its longest choice, rounded up so that shapes repeat (each is planned once), and has about this
 * many tokens: products are then near their full speed. */
#define TOKEN_UNIT 32
#define TOKENS_A_PASS 2048

struct ls_choice_scorer {
    const ls_model *model;
    ls_training *training;
    int64_t B, T;              /* largest pass */
    int32_t *tokens, *targets; /* [B,T] */
    double *sums;              /* [L] */
    float *losses;             /* [L][B*T] */
};

static int64_t round_up(int64_t tokens, int64_t context)
{
    const int64_t rounded = (tokens + TOKEN_UNIT - 1) / TOKEN_UNIT * TOKEN_UNIT;
    return rounded < context ? rounded : context;
}

static int64_t samples_a_pass(int64_t T, int count)
{
    const int64_t fit = TOKENS_A_PASS / T;
    return fit < 1 ? 1 : fit < count ? fit : count;
}

ls_status ls_choice_scorer_create(ls_choice_scorer **out, const ls_model *model, int choices, int64_t tokens)
{
    *out = NULL;
    ls_choice_scorer *scorer = calloc(1, sizeof *scorer);
    if (scorer == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for scoring");
    const size_t L = (size_t)model->config.num_hidden_layers;
    scorer->model = model;
    scorer->T = round_up(tokens - 1, model->config.max_position_embeddings);
    scorer->B = samples_a_pass(TOKEN_UNIT, choices);
    const size_t cells = (size_t)(scorer->B * scorer->T);
    scorer->tokens = calloc(cells, sizeof *scorer->tokens);
    scorer->targets = calloc(cells, sizeof *scorer->targets);
    scorer->sums = calloc(L, sizeof *scorer->sums);
    scorer->losses = calloc(L * cells, sizeof *scorer->losses);
    ls_status status = LS_OK;
    if (scorer->tokens == NULL || scorer->targets == NULL || scorer->sums == NULL || scorer->losses == NULL)
        status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for scoring");
    if (status == LS_OK) status = ls_training_create(&scorer->training, model, scorer->B, scorer->T, true);
    if (status != LS_OK) {
        ls_choice_scorer_destroy(scorer);
        return status;
    }
    *out = scorer;
    return LS_OK;
}

void ls_choice_scorer_destroy(ls_choice_scorer *scorer)
{
    if (scorer == NULL) return;
    ls_training_destroy(scorer->training);
    free(scorer->losses);
    free(scorer->sums);
    free(scorer->targets);
    free(scorer->tokens);
    free(scorer);
}

/* Rows of T tokens; what follows a choice predicts nothing and is seen by nothing before it. Returns the targets. */
static int64_t fill_batch(const ls_choice_scorer *scorer, const ls_task_tokens *choices, int64_t B, int64_t T)
{
    int64_t targets = 0;
    memset(scorer->tokens, 0, sizeof(int32_t) * (size_t)(B * T));
    for (int64_t b = 0; b < B; b++) {
        const ls_task_tokens *choice = choices + b;
        const int64_t inputs = choice->count - 1;
        memcpy(scorer->tokens + b * T, choice->ids, sizeof(int32_t) * (size_t)inputs);
        for (int64_t t = 0; t < T; t++) {
            const bool scored = t < inputs && t + 1 >= choice->count - choice->scored;
            scorer->targets[b * T + t] = scored ? choice->ids[t + 1] : -1;
        }
        targets += choice->scored;
    }
    return targets;
}

/* Everyone survives everywhere and every exit counts. */
static ls_status run_batch(const ls_choice_scorer *scorer, int64_t B, int64_t T, int64_t targets)
{
    const int layers = (int)scorer->model->config.num_hidden_layers;
    const ls_batch batch = {.B = B, .T = T, .tokens = scorer->tokens, .targets = scorer->targets};
    ls_step_plan plan;
    LS_TRY(ls_step_plan_create(&plan, layers, (int)B));
    for (int l = 0; l < layers; l++) plan.exit_weight[l] = 1.0f / (float)layers;
    ls_status status = ls_training_run(scorer->training, scorer->sums, NULL, &batch, &plan, (double)targets);
    if (status == LS_OK) status = ls_training_row_losses(scorer->training, scorer->losses);
    ls_step_plan_destroy(&plan);
    return status;
}

/* Choices first .. first+B-1 of `count`. */
static ls_status score_pass(double *scores, const ls_choice_scorer *scorer, const ls_task_tokens *choices, int first,
                            int64_t B, int64_t T, int count)
{
    const int64_t targets = fill_batch(scorer, choices + first, B, T);
    LS_TRY(run_batch(scorer, B, T, targets));
    const float *loss = scorer->losses;
    for (int64_t l = 0; l < scorer->model->config.num_hidden_layers; l++)
        for (int64_t b = 0; b < B; b++) {
            double sum = 0.0;
            for (int64_t i = 0; i < choices[first + b].scored; i++) sum -= (double)*loss++;
            scores[l * count + first + b] = sum;
        }
    return LS_OK;
}

ls_status ls_choice_scorer_run(double *scores, ls_choice_scorer *scorer, const ls_task_tokens *choices, int count)
{
    int64_t longest = 0;
    for (int i = 0; i < count; i++)
        if (choices[i].count - 1 > longest) longest = choices[i].count - 1;
    const int64_t T = round_up(longest, scorer->model->config.max_position_embeddings);
    const int64_t B = samples_a_pass(T, count);
    if (B > scorer->B || T > scorer->T)
        return LS_FAIL(LS_INTERNAL, "a question of [%lld,%lld] tokens, scored in buffers for [%lld,%lld]", (long long)B,
                       (long long)T, (long long)scorer->B, (long long)scorer->T);
    for (int first = 0; first < count; first += (int)B)
        LS_TRY(score_pass(scores, scorer, choices, first, count - first < B ? count - first : B, T, count));
    return LS_OK;
}

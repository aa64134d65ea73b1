/* Drafting a token and deciding a round of speculation: the ops around kernels/sampling.c, row after row, so that no
 * row after a rejection is looked at. One thread: a row of logits costs less than waking others. */
#include "core/random.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/variant.h"
#include "kernels/sampling.h"

#include <math.h>

static double draw(const ls_sampling *sampling, const ls_round *round, int64_t i, uint32_t purpose)
{
    const uint32_t position = (uint32_t)(round->position + 1 + i);
    return ls_random_uniform(sampling->seed, LS_STREAM_SAMPLING, position, purpose, 0);
}

void LS_CPU_NAME(draft_token)(ls_exec *exec, ls_round *round, double *q, const float *logits,
                              const ls_sampling *sampling, double confidence, int32_t end_of_text, int64_t V)
{
    if (round->stopped != LS_ROUND_OPEN) return;
    int32_t token = ls_argmax(logits, V);
    round->not_finite |= !isfinite(logits[token]);
    if (round->not_finite || (confidence > 0.0 && ls_softmax_at(logits, V, token) < confidence)) {
        round->stopped = LS_ROUND_UNSURE;
        return;
    }
    if (sampling->temperature > 0.0) {
        ls_candidate *const scratch = ls_cpu_scratch(exec, 0, (size_t)V * sizeof *scratch);
        if (scratch == NULL) return;
        ls_distribution(q, logits, V, sampling, scratch);
        token = ls_draw(q, V, draw(sampling, round, round->drafted, LS_DRAW_DRAFT));
    }
    round->token[++round->drafted] = token;
    if (token == end_of_text) round->stopped = LS_ROUND_ENDED;
}

/* The token that stands after token[i]; true when it is the draft. p, scratch [V]. */
static bool judge(int32_t *token, double *p, ls_candidate *scratch, const ls_round *round, const double *q,
                  const float *logits, const ls_sampling *sampling, int64_t i, int64_t V)
{
    const bool judged = i < round->drafted;
    const int32_t draft = round->token[i + 1];
    if (!(sampling->temperature > 0.0)) {
        *token = ls_argmax(logits, V);
        return judged && *token == draft;
    }
    ls_distribution(p, logits, V, sampling, scratch);
    if (judged) {
        *token = draft;
        if (ls_accept_draft(p, q, draft, draw(sampling, round, i, LS_DRAW_ACCEPT))) return true;
        ls_residual_distribution(p, q, draft, V);
    }
    *token = ls_draw(p, V, draw(sampling, round, i, LS_DRAW_FULL));
    return false;
}

void LS_CPU_NAME(accept_drafts)(ls_exec *exec, ls_round *round, const double *q, const float *logits,
                                const ls_sampling *sampling, int64_t first, int64_t R, int64_t V)
{
    double *p = NULL;
    if (sampling->temperature > 0.0) {
        p = ls_cpu_scratch(exec, 0, (size_t)V * (sizeof *p + sizeof(ls_candidate)));
        if (p == NULL) return;
    }
    ls_candidate *const scratch = p == NULL ? NULL : (ls_candidate *)(p + V);
    const int64_t rows = round->drafted + (round->stopped == LS_ROUND_ENDED ? 0 : 1);
    for (int64_t i = first; i < first + R && i < rows && !round->decided; i++) {
        const float *const row = logits + (i - first) * V;
        round->not_finite |= !isfinite(row[ls_argmax(row, V)]);
        int32_t token = 0;
        const double *const own_q = q == NULL ? NULL : q + i * V;
        const bool agreed = !round->not_finite && judge(&token, p, scratch, round, own_q, row, sampling, i, V);
        round->decided = !agreed;
        if (round->not_finite) return;
        round->token[++round->count] = token;
        round->accepted += agreed;
    }
}

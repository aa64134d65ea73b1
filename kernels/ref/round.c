/* Drafting a token and deciding a round of speculation, the definition: candidates are sorted, cut, and drawn from. */
#include "core/random.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdlib.h>

typedef struct candidate {
    double logit, probability;
    int32_t id;
} candidate;

/* Larger logits first, then lower ids; NaN last. */
static int compare(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (isnan(x->logit) != isnan(y->logit)) return isnan(x->logit) ? 1 : -1;
    if (x->logit != y->logit && !isnan(x->logit)) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The row's candidates in order, with their probabilities; the caller frees them. */
static candidate *distribution(ls_exec *exec, const float *logits, const ls_sampling *sampling, int64_t V)
{
    candidate *const all = malloc(sizeof *all * (size_t)V);
    if (all == NULL) {
        exec->status = LS_FAIL(LS_NO_MEMORY, "out of memory for sampling");
        return NULL;
    }
    for (int64_t i = 0; i < V; i++) all[i] = (candidate){(double)logits[i], 0.0, (int32_t)i};
    qsort(all, (size_t)V, sizeof *all, compare);
    if (!(sampling->temperature > 0.0)) {
        all[0].probability = 1.0;
        return all;
    }
    int64_t kept = sampling->top_k > 0 && sampling->top_k < V ? sampling->top_k : V;
    double total = 0.0, reached = 0.0;
    for (int64_t i = 0; i < kept; i++) {
        all[i].probability = exp((all[i].logit - all[0].logit) / sampling->temperature);
        total += all[i].probability;
    }
    if (sampling->top_p < 1.0) {
        int64_t fewest = 0;
        while (fewest < kept && reached < sampling->top_p * total) reached += all[fewest++].probability;
        for (int64_t i = fewest; i < kept; i++) all[i].probability = 0.0;
        kept = fewest;
        total = reached;
    }
    for (int64_t i = 0; i < kept; i++) all[i].probability /= total;
    return all;
}

/* p [V] in order of ids. */
static void by_id(double *p, const candidate *all, int64_t V)
{
    for (int64_t i = 0; i < V; i++) p[all[i].id] = all[i].probability;
}

static double uniform(const ls_sampling *sampling, const ls_round *round, int64_t i, uint32_t purpose)
{
    return ls_random_uniform(sampling->seed, LS_STREAM_SAMPLING, (uint32_t)(round->position + 1 + i), purpose, 0);
}

/* Where u falls when the weights lie side by side; never at a weight of 0. */
static int32_t draw(const double *weight, int64_t V, double u)
{
    double total = 0.0, sum = 0.0;
    int32_t last = 0;
    for (int64_t i = 0; i < V; i++) total += weight[i];
    for (int64_t i = 0; i < V; i++) {
        if (!(weight[i] > 0.0)) continue;
        sum += weight[i] / total;
        last = (int32_t)i;
        if (u < sum) break;
    }
    return last;
}

static double largest_probability(const candidate *all, int64_t V)
{
    double sum = 0.0;
    for (int64_t i = 0; i < V; i++) sum += exp(all[i].logit - all[0].logit);
    return 1.0 / sum;
}

void ls_draft_token_ref(ls_exec *exec, ls_round *round, double *q, const float *logits, const ls_sampling *sampling,
                        double confidence, int32_t end_of_text, int64_t V)
{
    if (round->stopped != LS_ROUND_OPEN) return;
    candidate *const all = distribution(exec, logits, sampling, V);
    if (all == NULL) return;
    if (!isfinite(all[0].logit)) round->not_finite = 1;
    if (round->not_finite || (confidence > 0.0 && largest_probability(all, V) < confidence)) {
        round->stopped = LS_ROUND_UNSURE;
        free(all);
        return;
    }
    int32_t token = all[0].id;
    if (sampling->temperature > 0.0) {
        by_id(q, all, V);
        token = draw(q, V, uniform(sampling, round, round->drafted, LS_DRAW_DRAFT));
    }
    round->drafted++;
    round->token[round->drafted] = token;
    if (token == end_of_text) round->stopped = LS_ROUND_ENDED;
    free(all);
}

/* The token after token[i] when the row is judged by p; true when it is the draft. p is spent. */
static bool judge(int32_t *token, double *p, const ls_round *round, const double *q, const ls_sampling *sampling,
                  int64_t i, int64_t V)
{
    if (i < round->drafted) {
        const int32_t draft = round->token[i + 1];
        const double certainty = q == NULL ? 1.0 : q[draft];
        *token = draft;
        if (uniform(sampling, round, i, LS_DRAW_ACCEPT) * certainty < p[draft]) return true;
        double rest = 0.0;
        for (int64_t v = 0; v < V; v++) rest += fmax(p[v] - (q != NULL ? q[v] : v == draft ? 1.0 : 0.0), 0.0);
        for (int64_t v = 0; v < V && rest > 0.0; v++)
            p[v] = fmax(p[v] - (q != NULL ? q[v] : v == draft ? 1.0 : 0.0), 0.0);
    }
    *token = draw(p, V, uniform(sampling, round, i, LS_DRAW_FULL));
    return false;
}

/* One row; leaves the round as it is when memory is out. */
static void decide(ls_exec *exec, ls_round *round, const double *q, const float *logits, const ls_sampling *sampling,
                   int64_t i, int64_t V)
{
    candidate *const all = distribution(exec, logits, sampling, V);
    double *const p = malloc(sizeof *p * (size_t)V);
    if (all == NULL || p == NULL) {
        if (all != NULL) exec->status = LS_FAIL(LS_NO_MEMORY, "out of memory for sampling");
    } else if (!isfinite(all[0].logit)) {
        round->not_finite = round->decided = 1;
    } else {
        int32_t token = all[0].id;
        bool agreed = i < round->drafted && token == round->token[i + 1];
        by_id(p, all, V);
        if (sampling->temperature > 0.0) agreed = judge(&token, p, round, q, sampling, i, V);
        round->count++;
        round->token[round->count] = token;
        round->accepted += agreed;
        round->decided = !agreed;
    }
    free(all);
    free(p);
}

void ls_accept_drafts_ref(ls_exec *exec, ls_round *round, const double *q, const float *logits,
                          const ls_sampling *sampling, int64_t first, int64_t R, int64_t V)
{
    const int64_t rows = round->drafted + (round->stopped == LS_ROUND_ENDED ? 0 : 1);
    for (int64_t r = 0; r < R && first + r < rows && !round->decided && exec->status == LS_OK; r++)
        decide(exec, round, q == NULL ? NULL : q + (first + r) * V, logits + r * V, sampling, first + r, V);
}

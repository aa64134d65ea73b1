/* From logits to a distribution to a token, and the rule that makes drafts lossless: what the cpu backend's ops of
 * sampling and acceptance are made of.
 *
 * Draws are the caller's (u in [0,1), counter-based), so everything here is a pure function of its arguments. Ties are
 * broken by the lowest id everywhere: top_k = 1 is greedy. */
#ifndef LS_KERNELS_SAMPLING_H
#define LS_KERNELS_SAMPLING_H

#include "core/status.h"
#include "kernels/ops.h"

#include <stdbool.h>

typedef struct ls_candidate {
    float logit;
    int32_t id;
} ls_candidate;

/* temperature >= 0, top_k >= 0, 0 < top_p <= 1; else LS_BAD_INPUT naming the option. */
ls_status ls_sampling_check(const ls_sampling *sampling);
/* Largest logit, the lowest id on ties; 0 when every logit is NaN. V >= 1. */
int32_t ls_argmax(const float *logits, int64_t V);
/* Softmax probability of the token `id`, temperature 1. */
double ls_softmax_at(const float *logits, int64_t V, int32_t id);
/* probability[V] = softmax(logits / temperature) cut to the top_k largest, then to the smallest set of largest ones
 * that reaches top_p of what is left, renormalised (Hugging Face's order). temperature > 0. scratch [V]. */
void ls_distribution(double *probability, const float *logits, int64_t V, const ls_sampling *sampling,
                     ls_candidate *scratch);
/* Inverse-CDF draw with u in [0,1); never a token of probability 0. */
int32_t ls_draw(const double *probability, int64_t V, double u);

/* Speculative sampling (Leviathan et al. 2023, section 2.3): a token drawn from q is kept with probability
 * min(1, p/q), u in [0,1). q NULL: the token was certain. */
bool ls_accept_draft(const double *p, const double *q, int32_t token, double u);
/* What is drawn from after the token's rejection, in place: p = max(p - q, 0) normalised. p and q are [V]; q NULL: the
 * token was certain. */
void ls_residual_distribution(double *p, const double *q, int32_t token, int64_t V);

#endif

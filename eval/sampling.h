/* From logits to a distribution to a token. */
#ifndef LS_EVAL_SAMPLING_H
#define LS_EVAL_SAMPLING_H

#include "core/status.h"

#include <stdint.h>

typedef struct ls_sampling {
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: off */
    double top_p;       /* 1: off */
    uint64_t seed;
} ls_sampling;

/* Largest logit, the lowest id on ties. */
int32_t ls_argmax(const float *logits, int64_t V);
/* probability[V] = softmax(logits / temperature) cut to top-k, then to the smallest set reaching top_p, renormalised
 * (Hugging Face's order). temperature > 0. `scratch` holds V (float, index) pairs. */
void ls_distribution(double *probability, const float *logits, int64_t V, const ls_sampling *sampling, void *scratch);
/* Inverse-CDF draw with u in [0,1). */
int32_t ls_draw(const double *probability, int64_t V, double u);

#endif

/* What one step does, as data: who survives in each layer, and what each exit weighs.
 *
 * The recipe (train/) fills it from (config, step, seed); the model executes it and knows neither curricula nor
 * probabilities. Layers and exits count from 0: exit l sees the output of block l, x[l+1]. */
#ifndef LS_MODEL_STEP_PLAN_H
#define LS_MODEL_STEP_PLAN_H

#include "core/status.h"

#include <stdint.h>

typedef struct ls_step_plan {
    int layers;            /* L */
    int samples;           /* B */
    int *survivor_count;   /* [L], 0..B */
    int32_t *survivors;    /* [L][B]; the first survivor_count[l] of row l, ascending sample numbers */
    float *residual_scale; /* [L]; factor of the block's output, 1 unless rescaling is chosen */
    float *exit_weight;    /* [L]; e~(t,l): 0 = exit off, the weights sum to 1 */
} ls_step_plan;

ls_status ls_step_plan_create(ls_step_plan *out, int layers, int samples);
void ls_step_plan_destroy(ls_step_plan *plan);
/* Everyone survives, only the last layer's exit counts: an ordinary step. */
void ls_step_plan_set_plain(ls_step_plan *plan);

#endif

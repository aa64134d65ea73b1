/* Storage of a step plan. */
#include "model/step_plan.h"

#include <stdlib.h>
#include <string.h>

ls_status ls_step_plan_create(ls_step_plan *out, int layers, int samples)
{
    *out = (ls_step_plan){.layers = layers, .samples = samples};
    const size_t L = (size_t)layers, B = (size_t)samples;
    out->survivor_count = calloc(L, sizeof *out->survivor_count);
    out->survivors = calloc(L * B, sizeof *out->survivors);
    out->residual_scale = calloc(L, sizeof *out->residual_scale);
    out->exit_weight = calloc(L, sizeof *out->exit_weight);
    if (out->survivor_count == NULL || out->survivors == NULL || out->residual_scale == NULL ||
        out->exit_weight == NULL) {
        ls_step_plan_destroy(out);
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the plan of a step");
    }
    ls_step_plan_set_plain(out);
    return LS_OK;
}

void ls_step_plan_destroy(ls_step_plan *plan)
{
    free(plan->survivor_count);
    free(plan->survivors);
    free(plan->residual_scale);
    free(plan->exit_weight);
    *plan = (ls_step_plan){0};
}

void ls_step_plan_set_plain(ls_step_plan *plan)
{
    for (int l = 0; l < plan->layers; l++) {
        plan->survivor_count[l] = plan->samples;
        for (int b = 0; b < plan->samples; b++) plan->survivors[l * plan->samples + b] = b;
        plan->residual_scale[l] = 1.0f;
        plan->exit_weight[l] = l == plan->layers - 1 ? 1.0f : 0.0f;
    }
}

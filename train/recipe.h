/* The LayerSkip recipe (Elhoushi et al. 2024, arXiv 2404.16710) as pure functions of (options, step, seed).
 *
 * Layers count from 0, steps from 0. Equation numbers are the paper's.
 *   dropout    p[l,t] = S(t) * D(l) * rate,  D(l) = 2^(l/(L-1)) - 1                          (1)
 *   exit loss  J = sum_l e~(t,l) * CE(head(norm(x[l+1])), Y),  e~ = C(t,l) e(l) / sum_i C(t,i) e(i)   (4), (5)
 *   e(l) = e_scale * l(l+1)/2 for l < L-1;  e(L-1) = (L-1) + e_scale * (L-2)(L-1)/2           (6) */
#ifndef LS_TRAIN_RECIPE_H
#define LS_TRAIN_RECIPE_H

#include "core/config.h"
#include "model/step_plan.h"

typedef enum ls_shape {                   /* of a rate across depth or time, v in [0,1] */
                        LS_SHAPE_EXP = 0, /* 2^v - 1, the paper's */
                        LS_SHAPE_UNIFORM, /* 1 */
                        LS_SHAPE_LINEAR,  /* v */
                        LS_SHAPE_LOG,     /* across depth log(l+1)/log(L); across time log(t+1)/log(T) */
                        LS_SHAPE_SIN,     /* sin(pi v / 2) */
                        LS_SHAPE_SIGMOID, /* 1 / (1 + e^(-10 (v - 0.5))) */
                        LS_SHAPE_STEP,    /* 0 below step_at (a layer, or a step of time), 1 from it on */
                        LS_SHAPE_LIST,    /* depth only: 1 for the listed layers, 0 elsewhere (LayerDrop) */
} ls_shape;

typedef enum ls_exit_weighting {
    LS_EXIT_PAPER = 0,
    LS_EXIT_UNIFORM,
    LS_EXIT_LINEAR,  /* l+1 */
    LS_EXIT_SQRT,    /* sqrt(l+1) */
    LS_EXIT_INVERSE, /* 1/(l+1) */
    LS_EXIT_INVERSE_SQRT,
    LS_EXIT_TARGET, /* the named exits, equal to the last layer or with the given weights */
} ls_exit_weighting;

typedef enum ls_curriculum {
    LS_CURRICULUM_NONE = 0,   /* every named exit at every step */
    LS_CURRICULUM_ROTATIONAL, /* every R-th named exit, moving on by one each step */
    LS_CURRICULUM_GRADUAL,    /* from the last down to the first, one every T/(2L) steps */
} ls_curriculum;

extern const char *const ls_shape_names[], *const ls_exit_weighting_names[], *const ls_curriculum_names[];

typedef struct ls_recipe {
    int layers;    /* L */
    int64_t steps; /* T */
    /* layer dropout */
    double rate; /* p_max */
    ls_shape depth_shape;
    int64_t depth_step;       /* first layer of LS_SHAPE_STEP */
    ls_int_list depth_layers; /* of LS_SHAPE_LIST */
    ls_shape time_shape;      /* uniform: S = 1 */
    int64_t time_step;
    bool time_falling; /* S(T-1-t) */
    bool rescale;      /* residual branch times 1/(1-p) */
    /* early exit */
    bool early_exit; /* false: last layer only */
    double scale;    /* e_scale */
    ls_exit_weighting weighting;
    ls_int_list exit_layers;       /* which may exit; the last layer always does */
    ls_double_list target_weights; /* with weighting target: one a named exit, relative to the last layer's 1 */
    ls_curriculum curriculum;
    int64_t rotation; /* R */
} ls_recipe;

/* Refuses what cannot work, naming the config key. */
ls_status ls_recipe_check(const ls_recipe *recipe);

double ls_recipe_depth_shape(const ls_recipe *recipe, int layer);                    /* D(l) */
double ls_recipe_time_shape(const ls_recipe *recipe, int64_t step);                  /* S(t) */
double ls_recipe_dropout_rate(const ls_recipe *recipe, int layer, int64_t step);     /* p[l,t] */
double ls_recipe_exit_scale(const ls_recipe *recipe, int layer);                     /* e(l) before normalising */
bool ls_recipe_exit_enabled(const ls_recipe *recipe, int layer, int64_t step);       /* C(t,l) */
void ls_recipe_exit_weights(const ls_recipe *recipe, int64_t step, double *weights); /* e~(t,l), [L], sums to 1 */

/* Fills the plan for micro-batch number `micro_batch` of the step's global batch. A sample is dropped from a layer with
 * probability p[l,t]. How many survive depends on (seed, step, layer) alone, so all micro-batches of a step cost the
 * same and no process waits for another; who survives depends on the sample's number in the global batch too. The plan
 * of a step therefore is the same for any number of processes. */
void ls_recipe_plan(const ls_recipe *recipe, int64_t step, int64_t micro_batch, uint64_t seed, ls_step_plan *plan);

#endif

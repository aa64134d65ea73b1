/* The recipe's formulas and the plan of a micro-batch: pure functions, nothing is kept between steps, so a resumed run
 * continues its curriculum, rotation and dropout stream by passing the step alone. Called by train/trainer.c and
 * train/inspect_command.c. */
#include "train/recipe.h"

#include "core/random.h"

#include <math.h>

const char *const ls_shape_names[] = {"exp", "uniform", "linear", "log", "sin", "sigmoid", "step", "list", NULL};
const char *const ls_exit_weighting_names[] = {"paper",   "uniform",      "linear", "sqrt",
                                               "inverse", "inverse_sqrt", "target", NULL};
const char *const ls_curriculum_names[] = {"none", "rotational", "gradual", NULL};

/* Whether `layer` is in the list over 0..layers-1; *position is its place there, *count the list's length. The last two
 * may be NULL. */
static bool listed(const ls_int_list *list, int64_t layer, int64_t layers, int64_t *position, int64_t *count)
{
    int64_t found = -1;
    int64_t length = list->count;
    if (list->all || list->slice) {
        const int64_t start = list->all ? 0 : list->start;
        const int64_t stop = list->all || list->stop < 0 || list->stop > layers ? layers : list->stop;
        const int64_t stride = list->all ? 1 : list->step;
        length = stop > start ? (stop - start + stride - 1) / stride : 0;
        if (layer >= start && layer < stop && (layer - start) % stride == 0) found = (layer - start) / stride;
    } else {
        for (int i = 0; i < list->count; i++)
            if (list->values[i] == layer) found = i;
    }
    if (position != NULL) *position = found;
    if (count != NULL) *count = length;
    return found >= 0;
}

/* ---- layer dropout ----------------------------------------------------------------------------------------------- */

/* Place of `index` in 0..count-1 as v in [0,1]; a single place is the start. */
static double fraction(int64_t index, int64_t count) { return count > 1 ? (double)index / (double)(count - 1) : 0.0; }

static double shape_value(ls_shape shape, int64_t index, int64_t count, int64_t step_at)
{
    const double v = fraction(index, count);
    switch (shape) {
    case LS_SHAPE_EXP:
        return exp2(v) - 1.0;
    case LS_SHAPE_UNIFORM:
        return 1.0;
    case LS_SHAPE_LINEAR:
        return v;
    case LS_SHAPE_LOG:
        return count > 1 ? log((double)(index + 1)) / log((double)count) : 0.0;
    case LS_SHAPE_SIN:
        return sin(1.57079632679489661923 * v);
    case LS_SHAPE_SIGMOID:
        return 1.0 / (1.0 + exp(-10.0 * (v - 0.5)));
    case LS_SHAPE_STEP:
        return index >= step_at ? 1.0 : 0.0;
    case LS_SHAPE_LIST:
        break; /* depth only, see the caller */
    }
    return 0.0;
}

double ls_recipe_depth_shape(const ls_recipe *recipe, int layer)
{
    if (recipe->depth_shape == LS_SHAPE_LIST)
        return listed(&recipe->depth_layers, layer, recipe->layers, NULL, NULL) ? 1.0 : 0.0;
    return shape_value(recipe->depth_shape, layer, recipe->layers, recipe->depth_step);
}

double ls_recipe_time_shape(const ls_recipe *recipe, int64_t step)
{
    const int64_t time = recipe->time_falling ? recipe->steps - 1 - step : step;
    return shape_value(recipe->time_shape, time, recipe->steps, recipe->time_step);
}

double ls_recipe_dropout_rate(const ls_recipe *recipe, int layer, int64_t step)
{
    return ls_recipe_time_shape(recipe, step) * ls_recipe_depth_shape(recipe, layer) * recipe->rate;
}

/* ---- early exit loss --------------------------------------------------------------------------------------------- */

double ls_recipe_exit_scale(const ls_recipe *recipe, int layer)
{
    const double l = layer;
    const double last = recipe->layers - 1;
    const double below = layer < recipe->layers - 1 ? recipe->scale : 1.0;
    int64_t position = 0;
    switch (recipe->weighting) {
    case LS_EXIT_PAPER: /* (6), over all layers whichever of them may exit */
        return layer < recipe->layers - 1 ? recipe->scale * l * (l + 1.0) / 2.0
                                          : last + recipe->scale * (last - 1.0) * last / 2.0;
    case LS_EXIT_UNIFORM:
        return below;
    case LS_EXIT_LINEAR:
        return below * (l + 1.0);
    case LS_EXIT_SQRT:
        return below * sqrt(l + 1.0);
    case LS_EXIT_INVERSE:
        return below / (l + 1.0);
    case LS_EXIT_INVERSE_SQRT:
        return below / sqrt(l + 1.0);
    case LS_EXIT_TARGET:
        if (layer == recipe->layers - 1) return 1.0;
        if (!listed(&recipe->exit_layers, layer, recipe->layers, &position, NULL)) return 0.0;
        return recipe->target_weights.count > 0 ? recipe->target_weights.values[position] : 1.0;
    }
    return 0.0;
}

bool ls_recipe_exit_enabled(const ls_recipe *recipe, int layer, int64_t step)
{
    int64_t position, count;
    if (layer == recipe->layers - 1) return true;
    if (!recipe->early_exit || !listed(&recipe->exit_layers, layer, recipe->layers, &position, &count)) return false;
    switch (recipe->curriculum) {
    case LS_CURRICULUM_NONE:
        return true;
    case LS_CURRICULUM_ROTATIONAL:
        return position % recipe->rotation == step % recipe->rotation;
    /* Exit number k from the end (k = 1, 2, ... count) from step k T / (2 count) on. */
    case LS_CURRICULUM_GRADUAL:
        return 2 * count * step >= (count - position) * recipe->steps;
    }
    return false;
}

/* C(t,l) e(l) */
static double curriculum_weight(const ls_recipe *recipe, int layer, int64_t step)
{
    return ls_recipe_exit_enabled(recipe, layer, step) ? ls_recipe_exit_scale(recipe, layer) : 0.0;
}

static double weight_sum(const ls_recipe *recipe, int64_t step)
{
    double sum = 0.0;
    for (int l = 0; l < recipe->layers; l++) sum += curriculum_weight(recipe, l, step);
    return sum;
}

/* (5). A sum of zero is a model of one layer under the paper's e, whose e(0) is 0: its only exit weighs everything. */
static double normalised_weight(const ls_recipe *recipe, int layer, int64_t step, double sum)
{
    if (!(sum > 0.0)) return layer == recipe->layers - 1 ? 1.0 : 0.0;
    return curriculum_weight(recipe, layer, step) / sum;
}

void ls_recipe_exit_weights(const ls_recipe *recipe, int64_t step, double *weights)
{
    const double sum = weight_sum(recipe, step);
    for (int l = 0; l < recipe->layers; l++) weights[l] = normalised_weight(recipe, l, step, sum);
}

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

/* How many of `samples` survive in each micro-batch of the step. */
static int count_survivors(double rate, uint64_t seed, int64_t step, int layer, int samples)
{
    int count = 0;
    for (int j = 0; j < samples; j++) {
        const double u = ls_random_uniform(seed, LS_STREAM_LAYER_DROPOUT, (uint32_t)step, (uint32_t)layer, (uint32_t)j);
        count += !(u < rate);
    }
    return count;
}

#define CHOICE_KEY UINT32_MAX /* stands where a layer would: never a layer's number */

/* The seed of who survives, so that it does not depend on the draws of how many. */
static uint64_t choice_seed(uint64_t seed)
{
    const ls_random_words words = ls_random(seed, LS_STREAM_LAYER_DROPOUT, 0, CHOICE_KEY, 0);
    return (uint64_t)words.word[0] << 32 | words.word[1];
}

/* survivors[0..count-1]: a uniform choice of `count` of `samples`, ascending (Knuth's selection sampling). */
static void choose(int32_t *survivors, int count, uint64_t seed, int64_t step, int layer, uint32_t first, int samples)
{
    int taken = 0;
    for (int j = 0; j < samples && taken < count; j++) {
        const uint64_t draw = ls_random_below(seed, LS_STREAM_LAYER_DROPOUT, (uint32_t)step, (uint32_t)layer,
                                              first + (uint32_t)j, (uint64_t)(samples - j));
        if (draw < (uint64_t)(count - taken)) survivors[taken++] = j;
    }
}

void ls_recipe_plan(const ls_recipe *recipe, int64_t step, int64_t micro_batch, uint64_t seed, ls_step_plan *plan)
{
    LS_ASSERT(plan->layers == recipe->layers);
    const uint32_t first = (uint32_t)(micro_batch * plan->samples);
    const uint64_t own_seed = choice_seed(seed);
    const double sum = weight_sum(recipe, step);
    for (int l = 0; l < recipe->layers; l++) {
        const double rate = ls_recipe_dropout_rate(recipe, l, step);
        plan->survivor_count[l] = count_survivors(rate, seed, step, l, plan->samples);
        choose(plan->survivors + (int64_t)l * plan->samples, plan->survivor_count[l], own_seed, step, l, first,
               plan->samples);
        plan->residual_scale[l] = recipe->rescale ? (float)(1.0 / (1.0 - rate)) : 1.0f;
        plan->exit_weight[l] = (float)normalised_weight(recipe, l, step, sum);
    }
}

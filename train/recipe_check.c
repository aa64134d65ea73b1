/* What a recipe must fulfil beyond the ranges of its single keys. Called once, before the first step. */
#include "train/recipe.h"

#define REFUSE(key, format, ...) LS_FAIL(LS_BAD_INPUT, "%s: " key ": " format, ls_config_place(key), __VA_ARGS__)

/* What is wrong with a list over layers 0..layers-1. */
typedef enum list_fault { LIST_FINE, LIST_RANGE, LIST_ORDER } list_fault;

static list_fault check_list(const ls_int_list *list, int layers, int64_t *culprit)
{
    if (list->all) return LIST_FINE;
    if (list->slice) {
        *culprit = list->start < 0 || list->start >= layers ? list->start : list->stop;
        return *culprit == list->start || list->stop > layers || list->step < 1 ? LIST_RANGE : LIST_FINE;
    }
    for (int i = 0; i < list->count; i++) {
        *culprit = list->values[i];
        if (*culprit < 0 || *culprit >= layers) return LIST_RANGE;
        if (i > 0 && *culprit <= list->values[i - 1]) return LIST_ORDER;
    }
    return LIST_FINE;
}

static bool names_layers(const ls_int_list *list) { return list->all || list->slice || list->count > 0; }

/* Values that another key switches off: whoever gives one means it to count. */
static ls_status check_unused(const ls_recipe *recipe)
{
    if (recipe->depth_shape != LS_SHAPE_LIST && names_layers(&recipe->depth_layers))
        return REFUSE("layer_dropout.layers", "only layer_dropout.depth: %s takes layers",
                      ls_shape_names[LS_SHAPE_LIST]);
    if (recipe->depth_shape != LS_SHAPE_STEP && recipe->depth_step != 0)
        return REFUSE("layer_dropout.depth_step", "only layer_dropout.depth: %s has a first layer",
                      ls_shape_names[LS_SHAPE_STEP]);
    if (recipe->time_shape != LS_SHAPE_STEP && recipe->time_step != 0)
        return REFUSE("layer_dropout.time_step", "only layer_dropout.time: %s has a first step",
                      ls_shape_names[LS_SHAPE_STEP]);
    return LS_OK;
}

static ls_status check_dropout(const ls_recipe *recipe)
{
    int64_t culprit = 0;
    if (!(recipe->rate >= 0.0 && recipe->rate <= 1.0))
        return REFUSE("layer_dropout.rate", "%g is not in [0, 1]", recipe->rate);
    if (recipe->rescale && recipe->rate >= 1.0)
        return REFUSE("layer_dropout.rescale", "1/(1-p) needs a rate below 1, not %g", recipe->rate);
    if (recipe->time_shape == LS_SHAPE_LIST)
        return REFUSE("layer_dropout.time", "'%s' is a shape of depth, not of time", ls_shape_names[LS_SHAPE_LIST]);
    if (recipe->depth_shape == LS_SHAPE_STEP && (recipe->depth_step < 0 || recipe->depth_step > recipe->layers))
        return REFUSE("layer_dropout.depth_step", "%lld is not in [0, %d]", (long long)recipe->depth_step,
                      recipe->layers);
    LS_TRY(check_unused(recipe));
    if (recipe->depth_shape != LS_SHAPE_LIST) return LS_OK;
    if (!names_layers(&recipe->depth_layers))
        return REFUSE("layer_dropout.depth", "'%s' needs the layers named in layer_dropout.layers",
                      ls_shape_names[LS_SHAPE_LIST]);
    switch (check_list(&recipe->depth_layers, recipe->layers, &culprit)) {
    case LIST_FINE:
        return LS_OK;
    case LIST_RANGE:
        return REFUSE("layer_dropout.layers", "%lld is not a layer in 0..%d", (long long)culprit, recipe->layers - 1);
    case LIST_ORDER:
        return REFUSE("layer_dropout.layers", "%lld stands out of order; name layers ascending, each once",
                      (long long)culprit);
    }
    return LS_OK;
}

static ls_status check_target_weights(const ls_recipe *recipe)
{
    const ls_int_list *named = &recipe->exit_layers;
    const int count = recipe->target_weights.count;
    if (count == 0) return LS_OK;
    if (recipe->weighting != LS_EXIT_TARGET)
        return REFUSE("early_exit.target_weights", "only early_exit.weights: %s takes weights",
                      ls_exit_weighting_names[LS_EXIT_TARGET]);
    if (named->all || named->slice || named->count != count)
        return REFUSE("early_exit.target_weights", "%d weights need a list of as many early_exit.layers", count);
    if (named->values[count - 1] == recipe->layers - 1)
        return REFUSE("early_exit.target_weights", "layer %d is the last and always weighs 1; leave it out",
                      recipe->layers - 1);
    for (int i = 0; i < count; i++)
        if (!(recipe->target_weights.values[i] >= 0.0 && recipe->target_weights.values[i] <= 1e6))
            return REFUSE("early_exit.target_weights", "%g is not in [0, 1e6]", recipe->target_weights.values[i]);
    return LS_OK;
}

static ls_status check_exits(const ls_recipe *recipe)
{
    int64_t culprit = 0;
    if (!(recipe->scale >= 0.0 && recipe->scale <= 1.0))
        return REFUSE("early_exit.scale", "%g is not in [0, 1]", recipe->scale);
    if (recipe->rotation < 1) return REFUSE("early_exit.rotation", "%lld is below 1", (long long)recipe->rotation);
    switch (check_list(&recipe->exit_layers, recipe->layers, &culprit)) {
    case LIST_FINE:
        break;
    case LIST_RANGE:
        return REFUSE("early_exit.layers", "%lld is not a layer in 0..%d", (long long)culprit, recipe->layers - 1);
    case LIST_ORDER:
        return REFUSE("early_exit.layers", "%lld stands out of order; name layers ascending, each once",
                      (long long)culprit);
    }
    return check_target_weights(recipe);
}

ls_status ls_recipe_check(const ls_recipe *recipe)
{
    if (recipe->layers < 1) return REFUSE("model.num_hidden_layers", "%d is below 1", recipe->layers);
    if (recipe->steps < 1) return REFUSE("training.steps", "%lld is below 1", (long long)recipe->steps);
    LS_TRY(check_dropout(recipe));
    return check_exits(recipe);
}

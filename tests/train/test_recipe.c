/* The recipe against values worked out by hand from the paper's formulas. */
#include "train/recipe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_LAYERS = 40 };

/* The paper's recipe from scratch, every layer an exit, all of them on. */
static ls_recipe paper(int layers, double scale)
{
    return (ls_recipe){.layers = layers,
                       .steps = 101,
                       .rate = 0.2,
                       .depth_shape = LS_SHAPE_EXP,
                       .time_shape = LS_SHAPE_EXP,
                       .early_exit = true,
                       .scale = scale,
                       .weighting = LS_EXIT_PAPER,
                       .exit_layers = {.all = true},
                       .curriculum = LS_CURRICULUM_NONE,
                       .rotation = 1};
}

static void check_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) fail_msg("%.15g, expected %.15g", value, expected);
}

static void check_weights(const ls_recipe *recipe, int64_t step, const double *expected)
{
    double weights[MAX_LAYERS], sum = 0.0;
    ls_recipe_exit_weights(recipe, step, weights);
    for (int l = 0; l < recipe->layers; l++) {
        if (!(fabs(weights[l] - expected[l]) <= 1e-12))
            fail_msg("step %lld, layer %d: %.15g, expected %.15g", (long long)step, l, weights[l], expected[l]);
        sum += weights[l];
    }
    check_near(sum, 1.0, 1e-12);
}

static int exits_on(const ls_recipe *recipe, int64_t step)
{
    int count = 0;
    for (int l = 0; l < recipe->layers; l++) count += ls_recipe_exit_enabled(recipe, l, step);
    return count;
}

/* ---- layer dropout ----------------------------------------------------------------------------------------------- */

static void test_depth_exp(void **state)
{
    (void)state;
    const ls_recipe recipe = paper(32, 0.2);
    double sum = 0.0;
    for (int l = 0; l < 32; l++) sum += ls_recipe_depth_shape(&recipe, l);
    assert_true(ls_recipe_depth_shape(&recipe, 0) == 0.0);
    assert_true(ls_recipe_depth_shape(&recipe, 31) == 1.0);
    check_near(sum / 32, 0.4445, 5e-5);
    const ls_recipe three = paper(3, 0.2);
    check_near(ls_recipe_depth_shape(&three, 1), sqrt(2.0) - 1.0, 1e-15);
    const ls_recipe deep = paper(24, 0.2);
    check_near(ls_recipe_depth_shape(&deep, 12), 0.4356848851694506, 1e-12);
}

static void test_dropped_share(void **state)
{
    (void)state;
    ls_recipe recipe = paper(32, 0.2);
    double sum = 0.0;
    for (int l = 0; l < 32; l++) sum += ls_recipe_dropout_rate(&recipe, l, recipe.steps - 1);
    check_near(sum / 32, 0.089, 5e-4);
}

static void test_time_exp(void **state)
{
    (void)state;
    const ls_recipe recipe = paper(8, 0.2);
    assert_true(ls_recipe_time_shape(&recipe, 0) == 0.0);
    assert_true(ls_recipe_time_shape(&recipe, 100) == 1.0);
    check_near(ls_recipe_time_shape(&recipe, 50), 0.41421356237309515, 1e-15);
    check_near(ls_recipe_dropout_rate(&recipe, 7, 50), 0.2 * 0.41421356237309515, 1e-15);
    ls_recipe continual = recipe;
    continual.time_shape = LS_SHAPE_UNIFORM;
    assert_true(ls_recipe_time_shape(&continual, 0) == 1.0);
    check_near(ls_recipe_dropout_rate(&continual, 7, 0), 0.2, 1e-15);
    ls_recipe falling = recipe;
    falling.time_falling = true;
    assert_true(ls_recipe_time_shape(&falling, 0) == 1.0);
    assert_true(ls_recipe_time_shape(&falling, 100) == 0.0);
}

static void test_other_shapes(void **state)
{
    (void)state;
    static const struct {
        ls_shape shape;
        double at[5]; /* l = 0, 1, 2, 3, 4 of L = 5: v = 0, .25, .5, .75, 1 */
    } rows[] = {
        {LS_SHAPE_UNIFORM, {1, 1, 1, 1, 1}},
        {LS_SHAPE_LINEAR, {0, 0.25, 0.5, 0.75, 1}},
        {LS_SHAPE_LOG, {0, 0.43067655807339306, 0.6826061944859854, 0.8613531161467861, 1}},
        {LS_SHAPE_SIN, {0, 0.3826834323650898, 0.7071067811865476, 0.9238795325112867, 1}},
        {LS_SHAPE_SIGMOID, {0.0066928509242848554, 0.07585818002124355, 0.5, 0.9241418199787566, 0.9933071490757153}},
        {LS_SHAPE_STEP, {0, 0, 0, 1, 1}},
        {LS_SHAPE_LIST, {0, 1, 0, 1, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ls_recipe recipe = paper(5, 0.2);
        recipe.steps = 5;
        recipe.depth_shape = rows[i].shape;
        recipe.depth_step = recipe.time_step = 3;
        recipe.depth_layers = (ls_int_list){.slice = true, .start = 1, .stop = -1, .step = 2};
        for (int l = 0; l < 5; l++) check_near(ls_recipe_depth_shape(&recipe, l), rows[i].at[l], 1e-12);
        if (rows[i].shape == LS_SHAPE_LIST) continue;
        recipe.time_shape = rows[i].shape;
        for (int t = 0; t < 5; t++) check_near(ls_recipe_time_shape(&recipe, t), rows[i].at[t], 1e-12);
    }
}

static void test_single_layer_and_step(void **state)
{
    (void)state;
    for (int shape = LS_SHAPE_EXP; shape <= LS_SHAPE_LIST; shape++) {
        ls_recipe recipe = paper(1, 0.2);
        recipe.steps = 1;
        recipe.depth_shape = (ls_shape)shape;
        const double rate = ls_recipe_dropout_rate(&recipe, 0, 0);
        assert_true(rate >= 0.0 && rate <= 0.2);
        check_weights(&recipe, 0, (const double[]){1.0});
    }
}

/* ---- early exit loss --------------------------------------------------------------------------------------------- */

static void test_exit_scale(void **state)
{
    (void)state;
    static const double e[] = {0, 0.5, 1.5, 3, 7}; /* L = 5, e_scale = 0.5; the last: 4 + 0.5 * 3 * 4 / 2 */
    const ls_recipe recipe = paper(5, 0.5);
    for (int l = 0; l < 5; l++) check_near(ls_recipe_exit_scale(&recipe, l), e[l], 1e-15);
    check_weights(&recipe, 0, (const double[]){0, 0.5 / 12, 1.5 / 12, 3.0 / 12, 7.0 / 12});
    const ls_recipe plain = paper(5, 0.0);
    check_weights(&plain, 0, (const double[]){0, 0, 0, 0, 1});
}

static double last_weight(int layers, double scale, int mid)
{
    double weights[MAX_LAYERS];
    int64_t layer = mid;
    ls_recipe recipe = paper(layers, scale);
    if (mid >= 0) recipe.exit_layers = (ls_int_list){.values = &layer, .count = 1};
    ls_recipe_exit_weights(&recipe, 0, weights);
    return weights[layers - 1];
}

static void test_last_layer_weights(void **state)
{
    (void)state;
    check_near(last_weight(32, 0.2, -1), 124.0 / 1116.0, 1e-12); /* 0.111 */
    check_near(last_weight(32, 0.2, 16), 124.0 / 151.2, 1e-12);  /* 0.82 */
    check_near(last_weight(24, 1.0, -1), 0.12, 1e-12);
    check_near(last_weight(24, 1.0, 12), 276.0 / 354.0, 1e-12); /* 0.78 */
}

/* e(l) runs over all layers: naming exits must not renumber them. */
static void test_named_exits_keep_their_number(void **state)
{
    (void)state;
    int64_t named[] = {4, 8};
    ls_recipe recipe = paper(12, 1.0);
    recipe.exit_layers = (ls_int_list){.values = named, .count = 2};
    check_weights(&recipe, 0, (const double[]){0, 0, 0, 0, 10.0 / 112, 0, 0, 0, 36.0 / 112, 0, 0, 66.0 / 112});
    recipe.exit_layers = (ls_int_list){.slice = true, .start = 1, .stop = 8, .step = 3}; /* 1, 4, 7 */
    check_weights(&recipe, 0, (const double[]){0, 1.0 / 105, 0, 0, 10.0 / 105, 0, 0, 28.0 / 105, 0, 0, 0, 66.0 / 105});
    recipe.early_exit = false;
    check_weights(&recipe, 0, (const double[]){0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
}

static void test_other_weightings(void **state)
{
    (void)state;
    static const struct {
        ls_exit_weighting weighting;
        double e[4]; /* L = 4, e_scale = 0.5 */
    } rows[] = {
        {LS_EXIT_UNIFORM, {0.5, 0.5, 0.5, 1}},
        {LS_EXIT_LINEAR, {0.5, 1, 1.5, 4}},
        {LS_EXIT_SQRT, {0.5, 0.7071067811865476, 0.8660254037844386, 2}},
        {LS_EXIT_INVERSE, {0.5, 0.25, 0.16666666666666666, 0.25}},
        {LS_EXIT_INVERSE_SQRT, {0.5, 0.3535533905932738, 0.2886751345948129, 0.5}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ls_recipe recipe = paper(4, 0.5);
        recipe.weighting = rows[i].weighting;
        for (int l = 0; l < 4; l++) check_near(ls_recipe_exit_scale(&recipe, l), rows[i].e[l], 1e-15);
    }
}

static void test_target_weighting(void **state)
{
    (void)state;
    int64_t named[] = {1, 2};
    double given[] = {0.5, 0.25};
    ls_recipe recipe = paper(12, 0.2);
    recipe.weighting = LS_EXIT_TARGET;
    recipe.exit_layers = (ls_int_list){.values = named, .count = 2};
    const double third = 1.0 / 3.0;
    check_weights(&recipe, 0, (const double[]){0, third, third, 0, 0, 0, 0, 0, 0, 0, 0, third});
    recipe.curriculum = LS_CURRICULUM_ROTATIONAL;
    recipe.rotation = 2;
    check_weights(&recipe, 6, (const double[]){0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5});
    check_weights(&recipe, 7, (const double[]){0, 0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.5});
    recipe.target_weights = (ls_double_list){given, 2};
    check_weights(&recipe, 7, (const double[]){0, 0, 0.2, 0, 0, 0, 0, 0, 0, 0, 0, 0.8});
}

/* ---- curricula --------------------------------------------------------------------------------------------------- */

static void test_rotation(void **state)
{
    (void)state;
    static const struct {
        int layers, rotation;
    } rows[] = {{32, 8}, {40, 39}, {24, 23}, {32, 31}, {32, 16}, {12, 5}, {5, 2}, {4, 9}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int L = rows[i].layers, R = rows[i].rotation;
        ls_recipe recipe = paper(L, 0.2);
        recipe.curriculum = LS_CURRICULUM_ROTATIONAL;
        recipe.rotation = R;
        int most = 0;
        for (int64_t start = 0; start < 3 * R; start += 7) { /* any R steps in a row */
            int times[MAX_LAYERS] = {0};
            for (int64_t t = start; t < start + R; t++) {
                int on = 0;
                for (int l = 0; l < L; l++) {
                    const bool enabled = ls_recipe_exit_enabled(&recipe, l, t);
                    times[l] += enabled;
                    on += enabled && (l < L - 1 || l % R == t % R); /* the last layer's own turn counts */
                    /* the pattern moves on by one layer a step */
                    if (l > 0 && l < L - 1)
                        assert_int_equal(enabled, ls_recipe_exit_enabled(&recipe, l - 1, t + R - 1));
                }
                assert_true(ls_recipe_exit_enabled(&recipe, L - 1, t));
                if (on > most) most = on;
            }
            for (int l = 0; l < L - 1; l++) assert_int_equal(times[l], 1);
        }
        assert_int_equal(most, (L + R - 1) / R);
    }
}

static void test_rotation_weights(void **state)
{
    (void)state;
    ls_recipe recipe = paper(5, 0.5);
    recipe.curriculum = LS_CURRICULUM_ROTATIONAL;
    recipe.rotation = 2;
    check_weights(&recipe, 0, (const double[]){0, 0, 1.5 / 8.5, 0, 7 / 8.5});
    check_weights(&recipe, 1, (const double[]){0, 0.5 / 10.5, 0, 3 / 10.5, 7 / 10.5});
    check_weights(&recipe, 2, (const double[]){0, 0, 1.5 / 8.5, 0, 7 / 8.5});
}

static void test_gradual(void **state)
{
    (void)state;
    ls_recipe recipe = paper(24, 1.0);
    recipe.steps = 4800; /* one exit every 100 steps */
    recipe.curriculum = LS_CURRICULUM_GRADUAL;
    assert_int_equal(exits_on(&recipe, 0), 1);
    assert_int_equal(exits_on(&recipe, 199), 1);
    assert_int_equal(exits_on(&recipe, 200), 2);
    assert_true(ls_recipe_exit_enabled(&recipe, 22, 200));
    assert_false(ls_recipe_exit_enabled(&recipe, 21, 299));
    assert_true(ls_recipe_exit_enabled(&recipe, 21, 300));
    assert_int_equal(exits_on(&recipe, 2399), 23);
    assert_int_equal(exits_on(&recipe, 2400), 24);
    assert_int_equal(exits_on(&recipe, 4799), 24);
    int64_t named[] = {3, 9};
    recipe.exit_layers = (ls_int_list){.values = named, .count = 2}; /* over the named exits: T/4 apart */
    assert_false(ls_recipe_exit_enabled(&recipe, 9, 1199));
    assert_true(ls_recipe_exit_enabled(&recipe, 9, 1200));
    assert_false(ls_recipe_exit_enabled(&recipe, 3, 2399));
    assert_true(ls_recipe_exit_enabled(&recipe, 3, 2400));
}

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

static void make_plan(ls_step_plan *plan, const ls_recipe *recipe, int samples)
{
    assert_int_equal(ls_step_plan_create(plan, recipe->layers, samples), LS_OK);
}

static void check_well_formed(const ls_step_plan *plan)
{
    for (int l = 0; l < plan->layers; l++) {
        const int32_t *row = plan->survivors + (int64_t)l * plan->samples;
        assert_in_range(plan->survivor_count[l], 0, plan->samples);
        for (int j = 0; j < plan->survivor_count[l]; j++) {
            assert_in_range(row[j], 0, plan->samples - 1);
            if (j > 0) assert_true(row[j] > row[j - 1]);
        }
    }
}

static void test_plan_ends(void **state)
{
    (void)state;
    ls_step_plan plan;
    ls_recipe recipe = paper(6, 0.5);
    make_plan(&plan, &recipe, 7);
    recipe.rate = 0.0;
    ls_recipe_plan(&recipe, 100, 0, 5, &plan);
    for (int l = 0; l < 6; l++) assert_int_equal(plan.survivor_count[l], 7);
    check_well_formed(&plan);
    recipe.rate = 1.0;
    ls_recipe_plan(&recipe, 100, 0, 5, &plan);
    assert_int_equal(plan.survivor_count[0], 7); /* D(0) = 0 */
    assert_int_equal(plan.survivor_count[5], 0); /* D(L-1) = 1 */
    for (int l = 0; l < 6; l++) assert_true(plan.residual_scale[l] == 1.0f);
    double weights[6];
    ls_recipe_exit_weights(&recipe, 100, weights);
    for (int l = 0; l < 6; l++) assert_true(plan.exit_weight[l] == (float)weights[l]);
    ls_step_plan_destroy(&plan);
}

static void test_rescaling(void **state)
{
    (void)state;
    ls_step_plan plan;
    ls_recipe recipe = paper(4, 0.5);
    recipe.rate = 0.6;
    recipe.depth_shape = LS_SHAPE_LINEAR;
    recipe.rescale = true;
    make_plan(&plan, &recipe, 2);
    ls_recipe_plan(&recipe, 100, 0, 5, &plan);
    static const float expected[] = {1.0f, 1.25f, 1.0f / 0.6f, 2.5f};
    for (int l = 0; l < 4; l++) check_near(plan.residual_scale[l], expected[l], 1e-6);
    ls_step_plan_destroy(&plan);
}

/* Each sample is dropped on its own with p[l,t]: counted over 4000 micro-batches, and no sample is favoured. */
static void test_frequencies(void **state)
{
    (void)state;
    enum { B = 6, L = 5, DRAWS = 4000 };
    ls_step_plan plan;
    ls_recipe recipe = paper(L, 0.5);
    recipe.rate = 0.7;
    recipe.steps = 2000;
    recipe.time_shape = LS_SHAPE_UNIFORM;
    make_plan(&plan, &recipe, B);
    int kept[L][B] = {{0}}, pairs = 0, together = 0;
    for (int draw = 0; draw < DRAWS; draw++) {
        ls_recipe_plan(&recipe, draw % 2000, draw / 2000, (uint64_t)(11 + draw / 2000), &plan);
        check_well_formed(&plan);
        bool alive[B] = {false};
        for (int l = 0; l < L; l++)
            for (int j = 0; j < plan.survivor_count[l]; j++) {
                const int32_t sample = plan.survivors[l * B + j];
                kept[l][sample]++;
                if (l == L - 1) alive[sample] = true;
            }
        pairs++;
        together += alive[0] && alive[1];
    }
    for (int l = 0; l < L; l++) {
        const double p = ls_recipe_dropout_rate(&recipe, l, 0);
        for (int j = 0; j < B; j++) /* 4.5 standard deviations */
            check_near((double)kept[l][j] / DRAWS, 1.0 - p, 4.5 * sqrt(p * (1.0 - p) / DRAWS) + 1e-12);
    }
    const double both = 0.3 * 0.3; /* independence between samples */
    check_near((double)together / pairs, both, 4.5 * sqrt(both * (1.0 - both) / pairs));
    ls_step_plan_destroy(&plan);
}

static bool same_choice(const ls_step_plan *a, const ls_step_plan *b)
{
    for (int l = 0; l < a->layers; l++)
        if (a->survivor_count[l] != b->survivor_count[l] ||
            memcmp(a->survivors + (int64_t)l * a->samples, b->survivors + (int64_t)l * b->samples,
                   sizeof(int32_t) * (size_t)a->survivor_count[l]) != 0)
            return false;
    return true;
}

/* Micro-batches of a step, whichever process has them, cost the same and drop different samples. */
static void test_micro_batches(void **state)
{
    (void)state;
    ls_step_plan first, second;
    ls_recipe recipe = paper(8, 0.5);
    recipe.rate = 0.6;
    recipe.time_shape = LS_SHAPE_UNIFORM;
    make_plan(&first, &recipe, 16);
    make_plan(&second, &recipe, 16);
    int different = 0;
    for (int64_t t = 0; t < 50; t++) {
        ls_recipe_plan(&recipe, t, 3, 9, &first);
        ls_recipe_plan(&recipe, t, 4, 9, &second);
        assert_memory_equal(first.survivor_count, second.survivor_count, sizeof(int) * 8);
        different += !same_choice(&first, &second);
    }
    assert_true(different >= 49);
    ls_step_plan_destroy(&first);
    ls_step_plan_destroy(&second);
}

/* A resumed run asks for step t without having asked for the ones before. */
static void test_plan_is_pure(void **state)
{
    (void)state;
    enum { STEPS = 40 };
    ls_step_plan inorder[STEPS], again;
    ls_recipe recipe = paper(8, 0.5);
    recipe.rate = 0.6;
    recipe.curriculum = LS_CURRICULUM_ROTATIONAL;
    recipe.rotation = 3;
    make_plan(&again, &recipe, 5);
    for (int t = 0; t < STEPS; t++) {
        make_plan(&inorder[t], &recipe, 5);
        ls_recipe_plan(&recipe, t + 50, 0, 9, &inorder[t]);
    }
    int changes = 0, other_seed = 0, other_micro = 0;
    for (int t = STEPS - 1; t >= 0; t -= 3) {
        ls_recipe_plan(&recipe, t + 50, 0, 9, &again);
        assert_true(same_choice(&again, &inorder[t]));
        assert_memory_equal(again.exit_weight, inorder[t].exit_weight, sizeof(float) * 8);
        changes += t > 0 && !same_choice(&again, &inorder[t - 1]);
        ls_recipe_plan(&recipe, t + 50, 1, 9, &again);
        other_micro += !same_choice(&again, &inorder[t]);
        ls_recipe_plan(&recipe, t + 50, 0, 10, &again);
        other_seed += !same_choice(&again, &inorder[t]);
    }
    assert_true(changes >= 10 && other_micro >= 10 && other_seed >= 10);
    for (int t = 0; t < STEPS; t++) ls_step_plan_destroy(&inorder[t]);
    ls_step_plan_destroy(&again);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void check_refused(const ls_recipe *recipe, const char *key)
{
    assert_int_equal(ls_recipe_check(recipe), LS_BAD_INPUT);
    if (strstr(ls_error_text(), key) == NULL) fail_msg("'%s' does not name %s", ls_error_text(), key);
    ls_error_clear();
}

static void test_refusals(void **state)
{
    (void)state;
    const ls_recipe good = paper(12, 0.2);
    assert_int_equal(ls_recipe_check(&good), LS_OK);
    ls_recipe bad = good;
    bad.rate = 1.5;
    check_refused(&bad, "layer_dropout.rate");
    bad.rate = (double)NAN;
    check_refused(&bad, "layer_dropout.rate");
    bad = good;
    bad.rate = 1.0;
    bad.rescale = true;
    check_refused(&bad, "layer_dropout.rescale");
    bad = good;
    bad.scale = -0.1;
    check_refused(&bad, "early_exit.scale");
    bad = good;
    bad.rotation = 0;
    check_refused(&bad, "early_exit.rotation");
    bad = good;
    bad.depth_shape = LS_SHAPE_LIST;
    check_refused(&bad, "layer_dropout.layers");
    bad = good;
    bad.depth_layers = (ls_int_list){.slice = true, .start = 1, .stop = -1, .step = 2};
    check_refused(&bad, "only layer_dropout.depth: list");
    bad = good;
    bad.depth_step = 3;
    check_refused(&bad, "only layer_dropout.depth: step");
    bad = good;
    bad.time_step = 3;
    check_refused(&bad, "only layer_dropout.time: step");
    bad.time_shape = LS_SHAPE_STEP;
    assert_int_equal(ls_recipe_check(&bad), LS_OK);
    int64_t beyond[] = {2, 12}, unordered[] = {3, 2}, last[] = {2, 11}, fine[] = {1, 2};
    double one[] = {1.0}, two[] = {1.0, 1.0};
    bad = good;
    bad.exit_layers = (ls_int_list){.values = beyond, .count = 2};
    check_refused(&bad, "12");
    bad.exit_layers = (ls_int_list){.values = unordered, .count = 2};
    check_refused(&bad, "early_exit.layers");
    bad.exit_layers = (ls_int_list){.values = fine, .count = 2};
    bad.target_weights = (ls_double_list){one, 1};
    check_refused(&bad, "early_exit.target_weights");
    bad.weighting = LS_EXIT_TARGET;
    check_refused(&bad, "early_exit.target_weights");
    bad.target_weights = (ls_double_list){two, 2};
    assert_int_equal(ls_recipe_check(&bad), LS_OK);
    bad.exit_layers = (ls_int_list){.values = last, .count = 2};
    check_refused(&bad, "early_exit.target_weights");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depth_exp),
        cmocka_unit_test(test_dropped_share),
        cmocka_unit_test(test_time_exp),
        cmocka_unit_test(test_other_shapes),
        cmocka_unit_test(test_single_layer_and_step),
        cmocka_unit_test(test_exit_scale),
        cmocka_unit_test(test_last_layer_weights),
        cmocka_unit_test(test_named_exits_keep_their_number),
        cmocka_unit_test(test_other_weightings),
        cmocka_unit_test(test_target_weighting),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_rotation_weights),
        cmocka_unit_test(test_gradual),
        cmocka_unit_test(test_plan_ends),
        cmocka_unit_test(test_rescaling),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_plan_is_pure),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

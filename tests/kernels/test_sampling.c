/* Distributions and draws against brute force, with ties. */
#include "core/random.h"
#include "kernels/sampling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST 257

static double uniform(uint32_t a, uint32_t b) { return ls_random_uniform(11, LS_STREAM_TEST, a, b, 0); }

/* Logits on a coarse grid, so that ties are common. */
static void fill_logits(float *logits, int64_t V, uint32_t number, double grid)
{
    for (int64_t i = 0; i < V; i++) logits[i] = (float)(floor(uniform(number, (uint32_t)i) * 8.0 / grid) * grid - 4.0);
}

/* Straight from the definition: sort by (logit down, id up), keep k, keep until top_p of what is kept. */
static void brute_force(double *probability, const float *logits, int64_t V, const ls_sampling *sampling)
{
    int64_t order[MOST];
    for (int64_t i = 0; i < V; i++) {
        int64_t at = i;
        for (; at > 0 && logits[order[at - 1]] < logits[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    int64_t kept = sampling->top_k > 0 && sampling->top_k < V ? sampling->top_k : V;
    double weight[MOST], total = 0.0, reached = 0.0;
    for (int64_t i = 0; i < kept; i++) {
        weight[i] = exp(((double)logits[order[i]] - (double)logits[order[0]]) / sampling->temperature);
        total += weight[i];
    }
    if (sampling->top_p < 1.0) {
        int64_t count = 0;
        while (count < kept && reached < sampling->top_p * total * (1.0 - 1e-13)) reached += weight[count++];
        kept = count;
    } else {
        reached = total;
    }
    for (int64_t i = 0; i < V; i++) probability[i] = 0.0;
    for (int64_t i = 0; i < kept; i++) probability[order[i]] = weight[i] / reached;
}

static void distribution_matches_brute_force(void **state)
{
    (void)state;
    const int64_t sizes[] = {1, 2, 3, 5, 16, 17, 31, 257};
    const int64_t top_k[] = {0, 1, 2, 5, 40, 1000};
    /* Not sums of equal shares, where rounding alone would decide who is in. */
    const double top_p[] = {1.0, 0.90137, 0.5003, 1e-9};
    const double temperature[] = {1.0, 0.3, 2.5};
    const double grid[] = {0.01, 1.0, 4.0};
    ls_candidate scratch[MOST];
    uint32_t number = 0;
    for (size_t v = 0; v < 8; v++)
        for (size_t k = 0; k < 6; k++)
            for (size_t p = 0; p < 4; p++)
                for (size_t t = 0; t < 3; t++)
                    for (size_t g = 0; g < 3; g++) {
                        float logits[MOST];
                        double got[MOST], wanted[MOST];
                        const ls_sampling sampling = {temperature[t], top_k[k], top_p[p], 0};
                        fill_logits(logits, sizes[v], number++, grid[g]);
                        ls_distribution(got, logits, sizes[v], &sampling, scratch);
                        brute_force(wanted, logits, sizes[v], &sampling);
                        for (int64_t i = 0; i < sizes[v]; i++)
                            if (!(fabs(got[i] - wanted[i]) <= 1e-12))
                                fail_msg("V %d k %d p %g T %g: token %d has %g, not %g", (int)sizes[v], (int)top_k[k],
                                         top_p[p], temperature[t], (int)i, got[i], wanted[i]);
                    }
}

static void top_k_of_one_is_argmax(void **state)
{
    (void)state;
    ls_candidate scratch[MOST];
    const ls_sampling one = {0.8, 1, 1.0, 0}, tiny = {0.8, 0, 1e-12, 0};
    for (uint32_t number = 0; number < 50; number++) {
        float logits[MOST];
        double probability[MOST];
        fill_logits(logits, MOST, 1000 + number, 2.0);
        const int32_t best = ls_argmax(logits, MOST);
        ls_distribution(probability, logits, MOST, &one, scratch);
        assert_true(probability[best] == 1.0);
        ls_distribution(probability, logits, MOST, &tiny, scratch);
        assert_true(probability[best] == 1.0);
    }
}

static void argmax_takes_the_lowest_of_ties(void **state)
{
    (void)state;
    for (int64_t V = 1; V <= 70; V++)
        for (int64_t at = 0; at < V; at++) {
            float logits[70];
            for (int64_t i = 0; i < V; i++) logits[i] = i < at ? -1.0f : i % 3 == at % 3 ? 2.0f : 1.0f;
            assert_int_equal(ls_argmax(logits, V), at);
        }
    const float strange[] = {NAN, -INFINITY, 3.0f, NAN, 3.0f};
    assert_int_equal(ls_argmax(strange, 5), 2);
    const float nothing[] = {NAN, NAN};
    assert_int_equal(ls_argmax(nothing, 2), 0);
}

static void draw_inverts_the_distribution(void **state)
{
    (void)state;
    const double probability[] = {0.0, 0.25, 0.0, 0.5, 0.25, 0.0};
    assert_int_equal(ls_draw(probability, 6, 0.0), 1);
    assert_int_equal(ls_draw(probability, 6, 0.2499), 1);
    assert_int_equal(ls_draw(probability, 6, 0.25), 3);
    assert_int_equal(ls_draw(probability, 6, 0.7499), 3);
    assert_int_equal(ls_draw(probability, 6, 0.75), 4);
    assert_int_equal(ls_draw(probability, 6, 0x1.fffffffffffffp-1), 4);
    const double short_of_one[] = {0.3, 0.3, 0.0};
    assert_int_equal(ls_draw(short_of_one, 3, 0.99), 1);
}

static void acceptance_follows_the_ratio(void **state)
{
    (void)state;
    const double p[] = {0.2, 0.8, 0.0}, q[] = {0.5, 0.25, 0.25};
    assert_true(ls_accept_draft(p, q, 0, 0.399));
    assert_false(ls_accept_draft(p, q, 0, 0.401));
    assert_true(ls_accept_draft(p, q, 1, 0x1.fffffffffffffp-1));
    assert_false(ls_accept_draft(p, q, 2, 0.0));
    double rest[] = {0.2, 0.8, 0.0};
    ls_residual_distribution(rest, q, 0, 3);
    assert_true(rest[0] == 0.0 && rest[1] == 1.0 && rest[2] == 0.0);
    double same[] = {0.5, 0.25, 0.25};
    ls_residual_distribution(same, q, 0, 3);
    assert_true(same[0] == 0.5 && same[1] == 0.25 && same[2] == 0.25);
    /* A certain draft: kept with its own probability, else never drawn again. */
    assert_true(ls_accept_draft(p, NULL, 0, 0.199));
    assert_false(ls_accept_draft(p, NULL, 0, 0.201));
    double others[] = {0.5, 0.125, 0.375};
    ls_residual_distribution(others, NULL, 0, 3);
    assert_true(others[0] == 0.0 && others[1] == 0.25 && others[2] == 0.75);
}

static void softmax_at_sums_to_one(void **state)
{
    (void)state;
    float logits[37];
    fill_logits(logits, 37, 7, 0.01);
    double sum = 0.0;
    for (int32_t i = 0; i < 37; i++) sum += ls_softmax_at(logits, 37, i);
    assert_true(fabs(sum - 1.0) <= 1e-12);
    for (int32_t i = 0; i < 37; i++)
        assert_true(ls_softmax_at(logits, 37, ls_argmax(logits, 37)) >= ls_softmax_at(logits, 37, i));
}

static void bad_settings_are_refused(void **state)
{
    (void)state;
    const ls_sampling bad[] = {{-0.1, 0, 1.0, 0}, {NAN, 0, 1.0, 0}, {INFINITY, 0, 1.0, 0}, {1.0, -1, 1.0, 0},
                               {1.0, 0, 0.0, 0},  {1.0, 0, 1.1, 0}, {1.0, 0, NAN, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ls_sampling_check(bad + i), LS_BAD_INPUT);
        assert_true(strlen(ls_error_text()) > 10);
        ls_error_clear();
    }
    const ls_sampling good[] = {{0.0, 0, 1.0, 0}, {1.5, 50, 1e-6, 9}};
    for (size_t i = 0; i < 2; i++) assert_int_equal(ls_sampling_check(good + i), LS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distribution_matches_brute_force), cmocka_unit_test(top_k_of_one_is_argmax),
        cmocka_unit_test(argmax_takes_the_lowest_of_ties),  cmocka_unit_test(draw_inverts_the_distribution),
        cmocka_unit_test(acceptance_follows_the_ratio),     cmocka_unit_test(softmax_at_sums_to_one),
        cmocka_unit_test(bad_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

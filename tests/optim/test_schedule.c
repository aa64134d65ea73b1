/* Learning-rate schedules at their corners, by hand. */
#include "optim/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void check(const ls_schedule *schedule, int64_t step, double expected)
{
    const double rate = ls_schedule_rate(schedule, step);
    if (!(fabs(rate - expected) <= 1e-12 * fmax(1.0, fabs(expected))))
        fail_msg("step %lld: %.15g, expected %.15g", (long long)step, rate, expected);
}

static void test_warmup(void **state)
{
    (void)state;
    for (int kind = LS_SCHEDULE_COSINE; kind <= LS_SCHEDULE_WARMUP_STABLE_DECAY; kind++) {
        const ls_schedule schedule = {.kind = (ls_schedule_kind)kind,
                                      .peak = 2.0,
                                      .final_ratio = 0.1,
                                      .steps = 100,
                                      .warmup_steps = 4,
                                      .decay_steps = 20};
        check(&schedule, 0, 0.5);
        check(&schedule, 1, 1.0);
        check(&schedule, 2, 1.5);
        check(&schedule, 3, 2.0);
        check(&schedule, 99, kind == LS_SCHEDULE_CONSTANT ? 2.0 : 0.2);
    }
}

static void test_cosine(void **state)
{
    (void)state;
    const ls_schedule schedule = {
        .kind = LS_SCHEDULE_COSINE, .peak = 1.0, .final_ratio = 0.2, .steps = 101, .warmup_steps = 0};
    check(&schedule, 0, 1.0);
    check(&schedule, 50, 0.6);
    check(&schedule, 25, 0.2 + 0.8 * 0.5 * (1.0 + sqrt(0.5)));
    check(&schedule, 100, 0.2);
}

static void test_linear(void **state)
{
    (void)state;
    const ls_schedule schedule = {
        .kind = LS_SCHEDULE_LINEAR, .peak = 3.0, .final_ratio = 0.0, .steps = 12, .warmup_steps = 2};
    check(&schedule, 1, 3.0);
    check(&schedule, 6, 1.5);
    check(&schedule, 11, 0.0);
}

static void test_stable_decay(void **state)
{
    (void)state;
    const ls_schedule schedule = {.kind = LS_SCHEDULE_WARMUP_STABLE_DECAY,
                                  .peak = 1.0,
                                  .final_ratio = 0.0,
                                  .steps = 100,
                                  .warmup_steps = 10,
                                  .decay_steps = 16};
    check(&schedule, 10, 1.0);
    check(&schedule, 83, 1.0);
    check(&schedule, 87, 0.5); /* 4 of 16 decay steps taken */
    check(&schedule, 92, 0.25);
    check(&schedule, 99, 0.0);
}

static void test_short_runs(void **state)
{
    (void)state;
    for (int kind = LS_SCHEDULE_COSINE; kind <= LS_SCHEDULE_WARMUP_STABLE_DECAY; kind++) {
        const ls_schedule one = {.kind = (ls_schedule_kind)kind, .peak = 1.0, .final_ratio = 0.5, .steps = 1};
        check(&one, 0, 1.0);
        const ls_schedule all_warmup = {
            .kind = (ls_schedule_kind)kind, .peak = 1.0, .final_ratio = 0.5, .steps = 3, .warmup_steps = 3};
        check(&all_warmup, 2, 1.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warmup),       cmocka_unit_test(test_cosine),     cmocka_unit_test(test_linear),
        cmocka_unit_test(test_stable_decay), cmocka_unit_test(test_short_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

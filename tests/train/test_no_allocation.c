/* A step allocates nothing: the project's own calls of malloc and its kin are counted (linked with --wrap), from the
 * third step on, when the libraries' plans for every shape of this run have been made. */
#include "run_fixture.h"

#include "train/trainer.h"

#include <stdlib.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);

static int calls;

void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
    calls++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes)
{
    calls++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes)
{
    calls++;
    return __real_realloc(block, bytes);
}

static void check(const run_fixture *fixture, const char *recompute)
{
    const char *const overrides[] = {"training.micro_batch_size=2", "training.global_batch_size=4", recompute, NULL};
    ls_train_config config;
    ls_trainer trainer;
    ls_step_report report;
    run_fixture_config(&config, fixture, "allocations", overrides);
    expect_ok(ls_trainer_create(&trainer, &config));
    expect_ok(ls_trainer_initialize(&trainer));
    assert_true(calls > 0);
    for (int i = 0; i < 2; i++) expect_ok(ls_trainer_step(&trainer, &report));
    calls = 0;
    for (int i = 0; i < 3; i++) expect_ok(ls_trainer_step(&trainer, &report));
    assert_int_equal(0, calls);
    ls_trainer_destroy(&trainer);
    ls_train_config_free(&config);
}

static void test_steps(void **state)
{
    (void)state;
    run_fixture fixture;
    run_fixture_create(&fixture, 4000, 1);
    check(&fixture, "training.recompute=false");
    check(&fixture, "training.recompute=true");
    run_fixture_destroy(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

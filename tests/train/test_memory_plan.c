/* What `inspect --memory` tells is what a run allocates, to the byte. */
#include "run_fixture.h"

#include "core/text.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

static void check(const run_fixture *fixture, const char *precision, const char *recompute, const char *micro_batch)
{
    char *overrides[] = {ls_text_format("precision=%s", precision),
                         ls_text_format("training.recompute=%s", recompute),
                         ls_text_format("training.micro_batch_size=%s", micro_batch),
                         ls_text_format("training.global_batch_size=%s", micro_batch),
                         ls_text_format("optimizer.offload=moments"),
                         NULL};
    ls_train_config config;
    ls_trainer trainer;
    ls_exec counted;
    int64_t saved;
    run_fixture_config(&config, fixture, "memory", (const char *const *)overrides);
    expect_ok(ls_trainer_create(&trainer, &config));
    expect_ok(ls_trainer_plan(&counted, &saved, &config, 1));
    assert_int_equal(saved, trainer.model.table.elements);
    assert_true(counted.bytes > 0);
    assert_int_equal(counted.bytes, trainer.exec.bytes);
    assert_int_equal(counted.pinned_bytes, 0); /* where the moments would be offloaded to is where they are */
    assert_int_equal(trainer.exec.pinned_bytes, 0);
    assert_int_equal(counted.block_count, trainer.exec.block_count);
    size_t sum = 0;
    for (int i = 0; i < counted.block_count; i++) {
        assert_string_equal(counted.blocks[i].what, trainer.exec.blocks[i].what);
        assert_int_equal(counted.blocks[i].bytes, trainer.exec.blocks[i].bytes);
        sum += counted.blocks[i].bytes;
    }
    assert_int_equal(sum, counted.bytes);
    ls_trainer_destroy(&trainer);
    ls_train_config_free(&config);
    for (int i = 0; overrides[i] != NULL; i++) free(overrides[i]);
}

static void test_equal(void **state)
{
    (void)state;
    run_fixture fixture;
    run_fixture_create(&fixture, 4000, 1);
    check(&fixture, "fp32", "false", "2");
    check(&fixture, "bf16", "false", "4");
    check(&fixture, "bf16", "true", "3");
    run_fixture_destroy(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

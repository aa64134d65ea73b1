/* Checkpoints: what is saved comes back, and nothing that goes wrong costs an older one. */
#include "run_fixture.h"

#include "core/file.h"
#include "core/random.h"
#include "core/text.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct fixture {
    run_fixture run;
    ls_train_config config;
    ls_trainer trainer;
} fixture;

static void fill(float *block, const ls_parameter_table *table, uint32_t which)
{
    for (int i = 0; i < table->count; i++) {
        const ls_parameter *entry = &table->entries[i];
        for (int64_t j = 0; j < entry->rows * entry->cols; j++)
            block[entry->offset + j] =
                (float)ls_random_normal(5, LS_STREAM_TEST, which, (uint32_t)(entry->offset + j), 0);
    }
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    run_fixture_create(&f->run, 600, 1);
    run_fixture_config(&f->config, &f->run, "run", NULL);
    expect_ok(ls_trainer_create(&f->trainer, &f->config));
    fill(f->trainer.optimizer.master, &f->trainer.model.table, 1);
    fill(f->trainer.optimizer.moment1, &f->trainer.model.table, 2);
    fill(f->trainer.optimizer.moment2, &f->trainer.model.table, 3);
    f->trainer.optimizer.updates = 7;
    f->trainer.step = 7;
    f->trainer.cursor = 42;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    ls_trainer_destroy(&f->trainer);
    ls_train_config_free(&f->config);
    run_fixture_destroy(&f->run);
    free(f);
    return 0;
}

static char *checkpoint_path(const fixture *f, int64_t step)
{
    return ls_text_format("%s/checkpoints/step-%08lld.h5", f->config.run_dir, (long long)step);
}

static void test_everything_comes_back(void **state)
{
    fixture *f = *state;
    const size_t bytes = sizeof(float) * (size_t)f->trainer.model.table.elements;
    expect_ok(ls_trainer_save(&f->trainer));
    char *path;
    expect_ok(ls_checkpoint_newest(&path, f->config.run_dir));

    ls_train_config config;
    ls_trainer again;
    run_fixture_config(&config, &f->run, "run", NULL);
    expect_ok(ls_trainer_create(&again, &config));
    expect_ok(ls_trainer_resume(&again, path));
    assert_int_equal(again.step, 7);
    assert_int_equal(again.cursor, 42);
    assert_int_equal(again.optimizer.updates, 7);
    assert_memory_equal(again.optimizer.master, f->trainer.optimizer.master, bytes);
    assert_memory_equal(again.optimizer.moment1, f->trainer.optimizer.moment1, bytes);
    assert_memory_equal(again.optimizer.moment2, f->trainer.optimizer.moment2, bytes);
    assert_memory_equal(again.model.weights, again.optimizer.master, bytes);

    ls_checkpoint saved;
    expect_ok(ls_checkpoint_read(&saved, path));
    assert_string_equal(saved.config, f->trainer.config_text);
    assert_string_equal(saved.tokenizer, "bytes");
    assert_int_equal(saved.seed, 1);
    ls_checkpoint_free(&saved);
    ls_trainer_destroy(&again);
    ls_train_config_free(&config);
    free(path);
}

/* A sum that is not that of the numbers refuses the file; files of before there was one have none. */
static void test_sum(void **state)
{
    fixture *f = *state;
    expect_ok(ls_trainer_save(&f->trainer));
    char *path = checkpoint_path(f, 7);
    expect_ok(ls_trainer_resume(&f->trainer, path));
    for (int last = 0; last < 2; last++) {
        const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        int64_t sum = 0;
        expect_ok(ls_hdf5_read_int(file, path, "sum", &sum));
        if (last)
            assert_true(H5Adelete(file, "sum") >= 0);
        else
            expect_ok(ls_hdf5_write_int(file, "sum", sum + 1));
        assert_true(H5Fclose(file) >= 0);
        if (last)
            expect_ok(ls_trainer_resume(&f->trainer, path));
        else
            expect_failure(ls_trainer_resume(&f->trainer, path), LS_BAD_INPUT, "its numbers are not those");
    }
    free(path);
}

/* What the run does after it has begun a save is not in the file, which has no name until that ends. */
static void test_background(void **state)
{
    fixture *f = *state;
    const size_t bytes = sizeof(float) * (size_t)f->trainer.model.table.elements;
    float *const blocks[] = {f->trainer.optimizer.moment2, f->trainer.optimizer.moment1, f->trainer.optimizer.master};
    double seconds;
    expect_ok(ls_background_save_create(&f->trainer.background, &f->trainer.optimizer));
    assert_false(ls_background_save_running(f->trainer.background));
    expect_ok(ls_trainer_save_in_background(&f->trainer));
    for (int i = 0; i < 3; i++) memset(blocks[i], 0, bytes);
    assert_true(ls_background_save_running(f->trainer.background));
    char *path;
    expect_ok(ls_checkpoint_newest(&path, f->config.run_dir));
    assert_null(path);
    expect_ok(ls_background_save_end(f->trainer.background, &seconds));
    assert_false(ls_background_save_running(f->trainer.background));
    expect_ok(ls_background_save_end(f->trainer.background, &seconds));
    expect_ok(ls_checkpoint_newest(&path, f->config.run_dir));

    float *wanted = calloc(1, bytes);
    expect_ok(ls_trainer_resume(&f->trainer, path));
    for (uint32_t i = 0; i < 3; i++) {
        fill(wanted, &f->trainer.model.table, 3 - i);
        assert_memory_equal(blocks[i], wanted, bytes);
    }
    free(wanted);
    free(path);
}

static bool there(const fixture *f, int64_t step)
{
    char *path = checkpoint_path(f, step);
    const bool is = ls_file_exists(path);
    free(path);
    return is;
}

static void test_keeps_the_last(void **state)
{
    fixture *f = *state;
    f->config.checkpoint.keep = 2;
    static const int64_t steps[] = {8, 9, 100, 12345};
    for (int i = 0; i < 4; i++) {
        f->trainer.step = steps[i];
        expect_ok(ls_trainer_save(&f->trainer));
        assert_true(there(f, steps[i]));
        assert_int_equal(i >= 1 && there(f, steps[i - 1]), i >= 1);
        assert_false(i >= 2 && there(f, steps[i - 2]));
    }
}

static void test_leftovers(void **state)
{
    fixture *f = *state;
    expect_ok(ls_trainer_save(&f->trainer));
    char *half = ls_text_format("%s/checkpoints/step-00000009.h5.tmp", f->config.run_dir);
    char *other = ls_text_format("%s/checkpoints/step-9.h5.bak", f->config.run_dir);
    expect_ok(ls_file_write_atomic(half, "half", 4));
    expect_ok(ls_file_write_atomic(other, "mine", 4));
    char *newest, *expected = checkpoint_path(f, 7);
    expect_ok(ls_checkpoint_newest(&newest, f->config.run_dir));
    assert_string_equal(newest, expected);
    ls_checkpoint_clean(f->config.run_dir);
    assert_false(ls_file_exists(half));
    assert_true(ls_file_exists(other));
    assert_true(ls_file_exists(expected));
    free(newest);
    free(expected);
    free(half);
    free(other);
}

static void test_no_checkpoint(void **state)
{
    fixture *f = *state;
    char *newest;
    expect_ok(ls_checkpoint_newest(&newest, f->config.run_dir));
    assert_null(newest);
}

static long file_size(const char *path)
{
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    return (long)about.st_size;
}

/* A limit on the size of files stands for a full disk, wherever in the file it strikes. */
static void test_full_disk(void **state)
{
    fixture *f = *state;
    expect_ok(ls_trainer_save(&f->trainer));
    char *old = checkpoint_path(f, 7), *text, *after;
    size_t length, length_after;
    expect_ok(ls_file_read(&text, &length, old));
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    const long size = file_size(old);
    f->config.checkpoint.keep = 1;
    for (int part = 1; part <= 9; part += 2) {
        const struct rlimit small = {(rlim_t)(size / 10 * part), limit.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        f->trainer.step = 8;
        const ls_status status = ls_trainer_save(&f->trainer);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        expect_failure(status, LS_IO, "step-00000008.h5");
        assert_false(there(f, 8));
        char *temporary = ls_text_format("%s/checkpoints/step-00000008.h5.tmp", f->config.run_dir);
        assert_false(ls_file_exists(temporary));
        free(temporary);
    }
    expect_ok(ls_file_read(&after, &length_after, old));
    assert_int_equal(length, length_after);
    assert_memory_equal(text, after, length);
    expect_ok(ls_trainer_save(&f->trainer)); /* the disk has room again */
    assert_true(there(f, 8));
    assert_false(there(f, 7));
    free(old);
    free(text);
    free(after);
}

static void test_truncated(void **state)
{
    fixture *f = *state;
    expect_ok(ls_trainer_save(&f->trainer));
    char *path = checkpoint_path(f, 7);
    const long size = file_size(path);
    for (int part = 9; part >= 1; part -= 4) {
        assert_int_equal(truncate(path, size / 10 * part), 0);
        expect_failure(ls_trainer_resume(&f->trainer, path), LS_BAD_INPUT, "step-00000007.h5");
    }
    free(path);
}

static void refuse_resume(const fixture *f, const char *override, const char *says)
{
    ls_train_config config;
    ls_trainer other;
    char *path = checkpoint_path(f, 7);
    run_fixture_config(&config, &f->run, "other", (const char *const[]){override, NULL});
    expect_ok(ls_trainer_create(&other, &config));
    expect_failure(ls_trainer_resume(&other, path), LS_BAD_INPUT, says);
    ls_trainer_destroy(&other);
    ls_train_config_free(&config);
    free(path);
}

static void test_resume_refusals(void **state)
{
    fixture *f = *state;
    expect_ok(ls_trainer_save(&f->trainer));
    refuse_resume(f, "model.hidden_size=64", "model.hidden_size is 64");
    refuse_resume(f, "seed=2", "seed");
    refuse_resume(f, "early_exit.layers=[1, 2]", "early_exit.layers is [1, 2]");
    refuse_resume(f, "layer_dropout.rate=0.39", "layer_dropout.rate is 0.39");
    char *tokens = run_fixture_path(&f->run, "other.h5"), *override = ls_text_format("data.tokens=%s", tokens);
    run_fixture_write_tokens(tokens, 600, 2, "bytes");
    refuse_resume(f, override, "other.h5 is not the token file");
    free(tokens);
    free(override);
}

/* Continual pretraining: the weights alone, from a run of the same shape and tokenizer. */
static void test_init_from(void **state)
{
    fixture *f = *state;
    const size_t bytes = sizeof(float) * (size_t)f->trainer.model.table.elements;
    expect_ok(ls_trainer_save(&f->trainer));
    char *path = checkpoint_path(f, 7);
    char *init = ls_text_format("init_from=%s", path);
    ls_train_config config;
    ls_trainer next;
    run_fixture_config(&config, &f->run, "next",
                       (const char *const[]){init, "layer_dropout.rate=0.1", "optimizer.learning_rate=1e-5", NULL});
    expect_ok(ls_trainer_create(&next, &config));
    expect_ok(ls_trainer_initialize(&next));
    assert_memory_equal(next.model.weights, f->trainer.optimizer.master, bytes);
    assert_int_equal(next.step, 0);
    assert_int_equal(next.optimizer.updates, 0);
    for (int64_t i = 0; i < next.model.table.elements; i++) assert_true(next.optimizer.moment1[i] == 0.0f);
    ls_trainer_destroy(&next);
    ls_train_config_free(&config);

    run_fixture_config(&config, &f->run, "next", (const char *const[]){init, "model.intermediate_size=64", NULL});
    expect_ok(ls_trainer_create(&next, &config));
    expect_failure(ls_trainer_initialize(&next), LS_BAD_INPUT, "intermediate_size");
    expect_failure(ls_checkpoint_restore_weights(&next.optimizer, "another tokenizer", path), LS_BAD_INPUT,
                   "another tokenizer");
    ls_trainer_destroy(&next);
    ls_train_config_free(&config);
    free(init);
    free(path);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_everything_comes_back),
        TEST(test_sum),
        TEST(test_background),
        TEST(test_keeps_the_last),
        TEST(test_leftovers),
        TEST(test_no_checkpoint),
        TEST(test_full_disk),
        TEST(test_truncated),
        TEST(test_resume_refusals),
        TEST(test_init_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Training itself: it learns, resumes bit for bit, and stops at a NaN naming step and layer. */
#include "run_fixture.h"

#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "train/loop.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static run_fixture fixture;
static char *of_documents, *of_records; /* data.tokens=... */

static int set_up(void **state)
{
    (void)state;
    ls_log_set_quiet(1);
    run_fixture_create(&fixture, 1500, 1);
    char *records = run_fixture_path(&fixture, "records.h5");
    run_fixture_write_records(records, 100, 1, false);
    of_documents = ls_text_format("data.tokens=%s", fixture.tokens);
    of_records = ls_text_format("data.tokens=%s", records);
    free(records);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    run_fixture_destroy(&fixture);
    free(of_documents);
    free(of_records);
    return 0;
}

typedef struct session {
    ls_train_config config;
    ls_trainer trainer;
} session;

static void open_session(session *out, const char *run_name, const char *const *overrides)
{
    run_fixture_config(&out->config, &fixture, run_name, overrides);
    expect_ok(ls_trainer_create(&out->trainer, &out->config));
}

static void close_session(session *self)
{
    ls_trainer_destroy(&self->trainer);
    ls_train_config_free(&self->config);
}

/* ---- learning ---------------------------------------------------------------------------------------------------- */

static void overfit(const char *device, const char *precision)
{
    session self;
    ls_step_report report = {0};
    char *tokens = run_fixture_path(&fixture, "one.h5"); /* a single sample of 24 tokens */
    run_fixture_write_tokens(tokens, 26, 3, "bytes");
    char *overrides[] = {ls_text_format("data.tokens=%s", tokens),      ls_text_format("device=%s", device),
                         ls_text_format("precision=%s", precision),     ls_text_format("training.steps=120"),
                         ls_text_format("training.micro_batch_size=2"), ls_text_format("training.global_batch_size=2"),
                         ls_text_format("layer_dropout.rate=0.1"),      ls_text_format("optimizer.learning_rate=0.01"),
                         ls_text_format("data.document_mask=false"),    NULL};
    open_session(&self, "overfit", (const char *const *)overrides);
    expect_ok(ls_trainer_initialize(&self.trainer));
    double first = 0.0;
    for (int i = 0; i < 120; i++) {
        expect_ok(ls_trainer_step(&self.trainer, &report));
        if (i == 0) first = report.loss;
    }
    assert_true(fabs(first - log(257.0)) <= 0.5); /* a fresh model knows nothing */
    if (!(report.loss <= 0.1)) fail_msg("%s %s: loss %g after 120 steps on one sample", device, precision, report.loss);
    close_session(&self);
    for (int i = 0; overrides[i] != NULL; i++) free(overrides[i]);
    free(tokens);
}

static void test_overfits_one_sample(void **state)
{
    (void)state;
    overfit("cpu", "fp32");
    overfit("cpu", "bf16");
    overfit("reference", "fp32");
}

/* The loss is normalised over the target tokens of the whole step: how it is cut into micro-batches changes nothing
 * but rounding, although with document masks the micro-batches hold different numbers of targets. */
static void accumulate(const char *tokens)
{
    static const char *const sizes[] = {"training.micro_batch_size=6", "training.micro_batch_size=3",
                                        "training.micro_batch_size=1"};
    ls_step_report reports[3];
    float *weights[3];
    int64_t elements = 0;
    for (int i = 0; i < 3; i++) {
        session self;
        open_session(&self, "accumulate",
                     (const char *const[]){sizes[i], tokens, "layer_dropout.rate=0", "optimizer.epsilon=0.001", NULL});
        expect_ok(ls_trainer_initialize(&self.trainer));
        expect_ok(ls_trainer_step(&self.trainer, &reports[i]));
        elements = self.trainer.model.table.elements;
        weights[i] = malloc(sizeof(float) * (size_t)elements);
        memcpy(weights[i], self.trainer.optimizer.master, sizeof(float) * (size_t)elements);
        close_session(&self);
    }
    for (int i = 1; i < 3; i++) {
        assert_true(fabs(reports[i].loss - reports[0].loss) <= 1e-5 * reports[0].loss);
        assert_true(fabs(reports[i].objective - reports[0].objective) <= 1e-5 * reports[0].objective);
        assert_true(fabs(reports[i].gradient_norm - reports[0].gradient_norm) <= 1e-4 * reports[0].gradient_norm);
        for (int64_t j = 0; j < elements; j++) assert_true(fabsf(weights[i][j] - weights[0][j]) <= 1e-5f);
    }
    for (int i = 0; i < 3; i++) free(weights[i]);
}

static void test_accumulation(void **state)
{
    (void)state;
    accumulate(of_documents);
    accumulate(of_records);
}

/* ---- resume ------------------------------------------------------------------------------------------------------ */

enum { STEPS = 24, LAYERS = 4 };

typedef struct record {
    ls_step_report report;
    double exit_loss[LAYERS];
    float exit_weight[LAYERS];
    int survivor_count[LAYERS];
    int32_t first_token;
} record;

static void run_steps(session *self, record *records, int64_t until)
{
    while (self->trainer.step < until) {
        record *out = &records[self->trainer.step];
        memset(out, 0, sizeof *out);
        expect_ok(ls_trainer_step(&self->trainer, &out->report));
        memcpy(out->exit_loss, self->trainer.exit_loss, sizeof out->exit_loss);
        memcpy(out->exit_weight, self->trainer.plan.exit_weight, sizeof out->exit_weight);
        memcpy(out->survivor_count, self->trainer.plan.survivor_count, sizeof out->survivor_count);
        out->first_token = self->trainer.samples.tokens[0];
    }
}

static void compare_records(const record *one, const record *two)
{
    for (int i = 0; i < STEPS; i++)
        if (memcmp(&one[i], &two[i], sizeof one[i]) != 0)
            fail_msg("step %d differs: loss %.17g and %.17g, gradient norm %.17g and %.17g", i, one[i].report.loss,
                     two[i].report.loss, one[i].report.gradient_norm, two[i].report.gradient_norm);
}

/* Uninterrupted on 2 threads, against stops after 5 and 16 steps resumed on 1, computing blocks again, and on 3. */
static void check_resume(const char *device, const char *precision, const char *tokens)
{
    static record whole[STEPS], parts[STEPS];
    char *place = ls_text_format("device=%s", device), *type = ls_text_format("precision=%s", precision);
    static const char *const threads[] = {"threads=2", "threads=1", "threads=3"};
    static const char *const memory[] = {"training.recompute=false", "training.recompute=true",
                                         "training.recompute=false"};
    static const int64_t stops[] = {5, 16, STEPS};
    session self;
    char *name = ls_text_format("resume-%s-%s%s", device, precision, strrchr(tokens, '/') + 1), *path = NULL;
    open_session(&self, name, (const char *const[]){place, type, tokens, "threads=2", NULL});
    expect_ok(ls_trainer_initialize(&self.trainer));
    run_steps(&self, whole, STEPS);
    const size_t bytes = sizeof(float) * (size_t)self.trainer.model.table.elements;
    float *weights = malloc(bytes), *moments = malloc(bytes);
    memcpy(weights, self.trainer.optimizer.master, bytes);
    memcpy(moments, self.trainer.optimizer.moment2, bytes);
    close_session(&self);

    for (int i = 0; i < 3; i++) {
        open_session(&self, name, (const char *const[]){place, type, tokens, threads[i], memory[i], NULL});
        if (i == 0)
            expect_ok(ls_trainer_initialize(&self.trainer));
        else
            expect_ok(ls_trainer_resume(&self.trainer, path));
        run_steps(&self, parts, stops[i]);
        if (i < 2) {
            expect_ok(ls_trainer_save(&self.trainer));
            free(path);
            expect_ok(ls_checkpoint_newest(&path, self.config.run_dir));
        } else {
            assert_memory_equal(weights, self.trainer.optimizer.master, bytes);
            assert_memory_equal(moments, self.trainer.optimizer.moment2, bytes);
        }
        close_session(&self);
    }
    compare_records(whole, parts);
    free(weights);
    free(moments);
    free(path);
    free(name);
    free(place);
    free(type);
}

static void test_resume_bit_for_bit(void **state)
{
    (void)state;
    check_resume("cpu", "fp32", of_documents);
    check_resume("cpu", "bf16", of_documents);
    check_resume("reference", "fp32", of_documents);
    check_resume("cpu", "bf16", of_records);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void test_run_folder(void **state)
{
    (void)state;
    ls_train_config config;
    static const char *const overrides[] = {"checkpoint.every=5", "evaluation.every=10", "checkpoint.keep=3", NULL};
    run_fixture_config(&config, &fixture, "folder", overrides);
    expect_failure(ls_train_run(&config, LS_START_RESUME), LS_BAD_INPUT, "no checkpoint to continue");
    assert_false(ls_file_exists(config.run_dir));
    expect_ok(ls_train_run(&config, LS_START_NEW));
    static const char *const files[] = {"config.yaml", "metrics.jsonl", "checkpoints/step-00000015.h5",
                                        "checkpoints/step-00000024.h5"};
    for (int i = 0; i < 4; i++) {
        char *path = ls_file_join(config.run_dir, files[i]);
        assert_true(ls_file_exists(path));
        free(path);
    }
    char *metrics = ls_file_join(config.run_dir, "metrics.jsonl"), *text;
    size_t length, lines = 0;
    expect_ok(ls_file_read(&text, &length, metrics));
    for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
    assert_int_equal(lines, 24 + 3); /* evaluations after 10, 20 and the last */
    expect_failure(ls_train_run(&config, LS_START_NEW), LS_BAD_INPUT, "--resume");
    expect_ok(ls_train_run(&config, LS_START_RESUME)); /* nothing left to do */
    free(text);
    free(metrics);
    ls_train_config_free(&config);
}

/* Two batches of three: six samples, spread over all that is held out. */
static void test_evaluation_reads_the_whole_split(void **state)
{
    (void)state;
    session self;
    double loss[LAYERS], tokens;
    int32_t window[24];
    open_session(&self, "evaluation", (const char *const[]){"evaluation.every=10", "evaluation.batches=2", NULL});
    expect_ok(ls_trainer_initialize(&self.trainer));
    expect_ok(ls_trainer_evaluate(&self.trainer, loss, &tokens));
    assert_true(tokens > 0.0);
    const int64_t samples = ls_loader_samples_per_epoch(self.trainer.held_out);
    assert_true(samples >= 12);
    for (int64_t j = 0; j < 3; j++) { /* the second batch is what the buffers hold now */
        const int64_t start = (3 + j) * samples / 6 * 24;
        expect_ok(ls_token_file_read(&self.trainer.tokens, LS_SPLIT_VALIDATION, start, 24, window));
        assert_memory_equal(window, self.trainer.samples.tokens + j * 24, sizeof window);
    }
    close_session(&self);
}

/* ---- numbers that are not finite --------------------------------------------------------------------------------- */

static void poison_weight(session *self, int layer)
{
    const ls_layer_offsets *offsets = &self->trainer.model.table.layers[layer];
    self->trainer.optimizer.master[offsets->attention_out + 3] = NAN;
    ls_optimizer_publish(&self->trainer.optimizer);
}

static void test_nan_in_the_loss(void **state)
{
    (void)state;
    static const char *const layers[] = {"from layer 0 on", "from layer 1 on", "from layer 2 on", "from layer 3 on"};
    for (int layer = 0; layer < LAYERS; layer++) {
        session self;
        ls_step_report report;
        open_session(&self, "nan", (const char *const[]){"layer_dropout.rate=0", NULL});
        expect_ok(ls_trainer_initialize(&self.trainer));
        for (int i = 0; i < 3; i++) expect_ok(ls_trainer_step(&self.trainer, &report));
        const size_t bytes = sizeof(float) * (size_t)self.trainer.model.table.elements;
        poison_weight(&self, layer);
        float *weights = malloc(bytes);
        memcpy(weights, self.trainer.optimizer.master, bytes);
        assert_int_equal(ls_trainer_step(&self.trainer, &report), LS_NOT_FINITE);
        assert_non_null(strstr(ls_error_text(), "step 4"));
        expect_failure(LS_NOT_FINITE, LS_NOT_FINITE, layers[layer]);
        assert_memory_equal(weights, self.trainer.optimizer.master, bytes);
        assert_int_equal(self.trainer.step, 3);
        free(weights);
        close_session(&self);
    }
}

static void test_nan_in_the_gradient(void **state)
{
    (void)state;
    session self;
    ls_step_report report;
    open_session(&self, "nan", NULL);
    expect_ok(ls_trainer_initialize(&self.trainer));
    expect_ok(ls_trainer_step(&self.trainer, &report));
    const size_t bytes = sizeof(float) * (size_t)self.trainer.model.table.elements;
    float *weights = malloc(bytes);
    memcpy(weights, self.trainer.optimizer.master, bytes);
    for (int layer = 0; layer <= 2; layer++)
        self.trainer.optimizer.gradients[self.trainer.model.table.layers[layer].gate_up] = INFINITY;
    assert_int_equal(ls_trainer_step(&self.trainer, &report), LS_NOT_FINITE);
    assert_non_null(strstr(ls_error_text(), "step 2"));
    expect_failure(LS_NOT_FINITE, LS_NOT_FINITE, "from layer 2 down");
    assert_memory_equal(weights, self.trainer.optimizer.master, bytes);
    free(weights);
    close_session(&self);
}

/* A run that diverges stops with a sentence, and its last good checkpoint can be resumed. */
static void test_divergence_keeps_the_checkpoint(void **state)
{
    (void)state;
    ls_train_config config;
    run_fixture_config(&config, &fixture, "diverge",
                       (const char *const[]){"optimizer.learning_rate=10", "optimizer.weight_decay=10",
                                             "training.steps=300", "checkpoint.every=2", "schedule.kind=constant",
                                             "early_exit.rotation=3", NULL});
    assert_int_equal(ls_train_run(&config, LS_START_NEW), LS_NOT_FINITE);
    assert_non_null(strstr(ls_error_text(), "step "));
    assert_non_null(strstr(ls_error_text(), "layer"));
    expect_failure(LS_NOT_FINITE, LS_NOT_FINITE, "last good checkpoint is");
    char *newest;
    ls_checkpoint saved;
    expect_ok(ls_checkpoint_newest(&newest, config.run_dir));
    assert_non_null(newest);
    expect_ok(ls_checkpoint_read(&saved, newest));
    assert_in_range(saved.step, 2, 300);
    ls_checkpoint_free(&saved);
    free(newest);
    ls_train_config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overfits_one_sample),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_resume_bit_for_bit),
        cmocka_unit_test(test_run_folder),
        cmocka_unit_test(test_evaluation_reads_the_whole_split),
        cmocka_unit_test(test_nan_in_the_loss),
        cmocka_unit_test(test_nan_in_the_gradient),
        cmocka_unit_test(test_divergence_keeps_the_checkpoint),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

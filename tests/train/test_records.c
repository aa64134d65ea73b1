/* Training on fine-tuning records: what is given leaves no gradient, records do not see each other, completions are
 * learnt, and a run does not go on with records whose targets are others. */
#include "run_fixture.h"

#include "core/log.h"
#include "core/text.h"
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 24, B = 6, LAYERS = 4, CELLS = B * T };

static run_fixture fixture;
static char *of_completions, *of_all; /* data.tokens=..., the same records */

typedef struct session {
    ls_train_config config;
    ls_trainer trainer;
    float *gradients; /* of the exec, [elements] */
    size_t bytes;
} session;

static int set_up(void **state)
{
    (void)state;
    ls_log_set_quiet(1);
    run_fixture_create(&fixture, 1500, 1);
    char *completions = run_fixture_path(&fixture, "completions.h5"), *all = run_fixture_path(&fixture, "all.h5");
    run_fixture_write_records(completions, 40, 5, false);
    run_fixture_write_records(all, 40, 5, true);
    of_completions = ls_text_format("data.tokens=%s", completions);
    of_all = ls_text_format("data.tokens=%s", all);
    free(completions);
    free(all);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    run_fixture_destroy(&fixture);
    free(of_completions);
    free(of_all);
    return 0;
}

static void open_session(session *out, const char *tokens)
{
    run_fixture_config(&out->config, &fixture, "records",
                       (const char *const[]){tokens, "training.micro_batch_size=6", "training.global_batch_size=6",
                                             "layer_dropout.rate=0", "early_exit.curriculum=none", NULL});
    expect_ok(ls_trainer_create(&out->trainer, &out->config));
    expect_ok(ls_trainer_initialize(&out->trainer));
    out->bytes = sizeof(float) * (size_t)out->trainer.model.table.elements;
    void *gradients;
    expect_ok(ls_exec_allocate(&out->trainer.exec, &gradients, out->bytes, "the test's gradients"));
    out->gradients = gradients;
}

static void close_session(session *self)
{
    ls_exec_free(&self->trainer.exec, self->gradients, self->bytes);
    ls_trainer_destroy(&self->trainer);
    ls_train_config_free(&self->config);
}

/* The trainer's samples, read by its loader. */
static ls_batch read_batch(session *self)
{
    const ls_samples *samples = &self->trainer.samples;
    expect_ok(ls_loader_read(self->trainer.loader, 0, B, samples));
    return (ls_batch){.B = B,
                      .T = T,
                      .tokens = samples->tokens,
                      .targets = samples->targets,
                      .first_key = samples->first_key,
                      .positions = samples->positions};
}

/* Gradients of the batch, to out: [bytes]. Returns the last exit's summed loss. */
static double run(session *self, const ls_batch *batch, double targets, float *out)
{
    double loss[LAYERS] = {0};
    memset(self->gradients, 0, self->bytes);
    expect_ok(ls_training_run(self->trainer.training, loss, self->gradients, batch, &self->trainer.everyone, targets));
    memcpy(out, self->gradients, self->bytes);
    return loss[LAYERS - 1];
}

static double count(const int32_t *targets)
{
    double sum = 0;
    for (int i = 0; i < CELLS; i++) sum += targets[i] >= 0;
    return sum;
}

/* Of the file in which everything is to be learnt the prompts' targets are taken away by hand: up to the ':', which the
 * last letter of a prompt predicts. The gradients are the same to the bit, and others than before. */
static void test_prompts_leave_no_gradient(void **state)
{
    (void)state;
    session given, all;
    int32_t targets[CELLS];
    open_session(&given, of_completions);
    open_session(&all, of_all);
    float *one = malloc(given.bytes), *two = malloc(given.bytes);
    const ls_batch wanted = read_batch(&given);
    ls_batch batch = read_batch(&all);
    const double loss = run(&given, &wanted, count(wanted.targets), one);
    const double other = run(&all, &batch, count(wanted.targets), two);
    assert_true(other > loss + 1.0);
    assert_memory_not_equal(one, two, given.bytes);
    memcpy(targets, batch.targets, sizeof targets);
    for (int row = 0; row < B; row++) {
        bool prompt = true;
        for (int t = 0; t < T; t++) {
            const int at = row * T + t;
            if (batch.first_key[at] == t) prompt = true;
            if (batch.tokens[at] == ':') prompt = false;
            if (prompt) targets[at] = -1;
        }
    }
    batch.targets = targets;
    assert_true(run(&all, &batch, count(targets), two) == loss);
    assert_memory_equal(one, two, given.bytes);
    free(one);
    free(two);
    close_session(&given);
    close_session(&all);
}

/* Each record on its own, at the beginning of a row, has the loss and the gradient that it has among the others. */
static void test_records_do_not_see_each_other(void **state)
{
    (void)state;
    session self;
    open_session(&self, of_completions);
    const ls_batch batch = read_batch(&self);
    float *together = malloc(self.bytes), *alone = malloc(self.bytes);
    double *sum = calloc(1, 2 * self.bytes), loss = 0, largest = 0;
    const double targets = count(batch.targets);
    const double expected = run(&self, &batch, targets, together);
    int records = 0;
    for (int start = 0, end; start < CELLS; start = end) {
        int32_t tokens[CELLS] = {0}, wanted[CELLS]; /* the other rows have no target */
        for (int i = 0; i < CELLS; i++) wanted[i] = -1;
        for (end = start + 1; end % T != 0 && batch.first_key[end] == start % T; end++) continue;
        for (int i = start; i < end; i++) {
            tokens[i - start] = batch.tokens[i];
            wanted[i - start] = batch.targets[i];
        }
        if (end == start + 1 && batch.targets[start] < 0) continue;
        const ls_batch single = {.B = B, .T = T, .tokens = tokens, .targets = wanted};
        loss += run(&self, &single, targets, alone);
        for (size_t i = 0; i < self.bytes / sizeof *alone; i++) sum[i] += (double)alone[i];
        records++;
    }
    assert_true(records > 2 * B);
    assert_true(fabs(loss - expected) <= 1e-5 * expected);
    for (size_t i = 0; i < self.bytes / sizeof *alone; i++) largest = fmax(largest, fabs((double)together[i]));
    for (size_t i = 0; i < self.bytes / sizeof *alone; i++)
        if (!(fabs(sum[i] - (double)together[i]) <= 1e-5 * largest))
            fail_msg("parameter %zu: gradient %g together, %g alone", i, (double)together[i], sum[i]);
    free(together);
    free(alone);
    free(sum);
    close_session(&self);
}

/* Letters back to front: learnt from a few records, which the completion's loss shows alone. */
static void test_completions_are_learnt(void **state)
{
    (void)state;
    session self;
    ls_step_report report = {0};
    char *tokens = run_fixture_path(&fixture, "few.h5");
    run_fixture_write_records(tokens, 8, 6, false);
    char *option = ls_text_format("data.tokens=%s", tokens);
    run_fixture_config(
        &self.config, &fixture, "learn",
        (const char *const[]){option, "training.steps=150", "layer_dropout.rate=0.1", "evaluation.every=150", NULL});
    expect_ok(ls_trainer_create(&self.trainer, &self.config));
    expect_ok(ls_trainer_initialize(&self.trainer));
    for (int i = 0; i < 150; i++) expect_ok(ls_trainer_step(&self.trainer, &report));
    if (!(report.loss <= 0.1)) fail_msg("loss %g after 150 steps on 8 records", report.loss);
    double exits[LAYERS], held_out = 0;
    expect_ok(ls_trainer_evaluate(&self.trainer, exits, &held_out));
    assert_true(held_out > 0 && isfinite(exits[0]));
    ls_trainer_destroy(&self.trainer);
    ls_train_config_free(&self.config);
    free(option);
    free(tokens);
}

static void test_other_targets_are_another_file(void **state)
{
    (void)state;
    session self;
    char *path = NULL;
    open_session(&self, of_completions);
    expect_ok(ls_trainer_save(&self.trainer));
    expect_ok(ls_checkpoint_newest(&path, self.config.run_dir));
    close_session(&self);
    open_session(&self, of_completions);
    expect_ok(ls_trainer_resume(&self.trainer, path));
    close_session(&self);
    open_session(&self, of_all);
    expect_failure(ls_trainer_resume(&self.trainer, path), LS_BAD_INPUT, "is not the token file");
    close_session(&self);
    free(path);
}

static void test_masks_cannot_be_off(void **state)
{
    (void)state;
    session self;
    run_fixture_config(&self.config, &fixture, "off",
                       (const char *const[]){of_completions, "data.document_mask=false", NULL});
    expect_failure(ls_trainer_create(&self.trainer, &self.config), LS_BAD_INPUT, "must not see each other");
    ls_train_config_free(&self.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_leave_no_gradient), cmocka_unit_test(test_records_do_not_see_each_other),
        cmocka_unit_test(test_completions_are_learnt),    cmocka_unit_test(test_other_targets_are_another_file),
        cmocka_unit_test(test_masks_cannot_be_off),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

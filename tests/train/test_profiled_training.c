/* profile: true: names and times of ops in metrics.jsonl that fit the step and the model, and not a bit changed. */
#include "run_fixture.h"

#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "core/text.h"
#include "train/loop.h"
#include "train/profile_summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static run_fixture fixture;

static int set_up(void **state)
{
    (void)state;
    ls_log_set_quiet(1);
    run_fixture_create(&fixture, 1500, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    run_fixture_destroy(&fixture);
    return 0;
}

/* Trains and returns the text of a file of the run. */
static char *train(const char *run_name, const char *device, const char *profile, const char *file)
{
    char *device_key = ls_text_format("device=%s", device), *text;
    const char *overrides[] = {device_key,
                               profile,
                               "layer_dropout.rate=0",
                               "measure_peak=false",
                               "training.steps=12",
                               "schedule.warmup_steps=0",
                               "data.document_mask=true",
                               NULL};
    size_t length;
    ls_train_config config;
    run_fixture_config(&config, &fixture, run_name, overrides);
    expect_ok(ls_train_run(&config, LS_START_NEW));
    char *path = ls_file_join(config.run_dir, file);
    expect_ok(ls_file_read(&text, &length, path));
    ls_train_config_free(&config);
    free(device_key);
    free(path);
    return text;
}

static const cJSON *item(const cJSON *object, const char *key)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, key);
    if (found == NULL) fail_msg("no %s", key);
    return found;
}

static double number(const cJSON *object, const char *key) { return item(object, key)->valuedouble; }

/* Two micro-batches a step over four layers with nobody dropped; `exits` are on. */
static void check_calls(const cJSON *ops, int exits)
{
    const struct {
        const char *op;
        int calls;
    } expected[] = {
        /* a layer: 4 products forward, 8 backward; an exit: 3; and the gradient's zeros */
        {"matmul", 2 * (4 * 12 + 3 * exits + 1)},
        {"attention_forward", 2 * 4},
        {"attention_backward", 2 * 4},
        {"rope", 2 * 4 * 2},
        {"swiglu_forward", 2 * 4},
        {"swiglu_backward", 2 * 4},
        {"rmsnorm_backward", 2 * (4 * 2 + exits)},
        {"cross_entropy", 2 * exits},
        {"embedding_forward", 2},
        {"embedding_backward", 2},
        {"row_sums", 2},
        {"sum_of_squares", 1},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (number(item(ops, expected[i].op), "calls") != expected[i].calls)
            fail_msg("%g calls of %s, expected %d", number(item(ops, expected[i].op), "calls"), expected[i].op,
                     expected[i].calls);
    assert_true(number(item(ops, "adamw"), "calls") >= 1);
    assert_null(cJSON_GetObjectItemCaseSensitive(ops, "matmul_rows"));
}

/* The ops' share of the step's time. */
static double check_line(const char *line, size_t length)
{
    cJSON *document;
    expect_ok(ls_json_parse(&document, line, length, "metrics.jsonl"));
    const cJSON *profile = item(document, "profile"), *ops = item(profile, "ops"), *op;
    check_calls(ops, cJSON_GetArraySize(item(document, "exit_loss")));
    double milliseconds = 0.0, shares = 0.0;
    cJSON_ArrayForEach(op, ops)
    {
        assert_true(number(op, "milliseconds") > 0.0);
        milliseconds += number(op, "milliseconds");
        shares += number(op, "share");
    }
    assert_true(fabs(shares - 1.0) <= 1e-9);
    assert_true(fabs(milliseconds - number(profile, "ops_milliseconds")) <= 1e-9 * milliseconds);
    const double share = milliseconds / number(profile, "milliseconds");
    assert_true(share <= 1.0);
    cJSON_Delete(document);
    return share;
}

static void test_lines(const char *device)
{
    char *name = ls_text_format("lines-%s", device), *text = train(name, device, "profile=true", "metrics.jsonl");
    int lines = 0;
    double best = 0.0;
    for (const char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, lines++)
        best = fmax(best, check_line(at, (size_t)(end - at)));
    assert_int_equal(lines, 12);
    if (!(best >= 0.3)) fail_msg("%s: ops are %.0f %% of the best of 12 steps", device, 100.0 * best);
    free(text);
    free(name);
}

static void test_lines_of_reference(void **state)
{
    (void)state;
    test_lines("reference");
}

static void test_lines_of_cpu(void **state)
{
    (void)state;
    test_lines("cpu");
}

/* The line up to what is timed. */
static void cut_times(char *text)
{
    char *out = text;
    for (char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        *end = '\0';
        char *times = strstr(at, ", \"tokens_per_second\"");
        assert_non_null(times);
        memmove(out, at, (size_t)(times - at));
        out += times - at;
    }
    *out = '\0';
}

static void test_same_bits(void **state)
{
    (void)state;
    const char *const devices[] = {"reference", "cpu"};
    for (int i = 0; i < 2; i++) {
        char *plain_name = ls_text_format("plain-%s", devices[i]), *timed_name = ls_text_format("timed-%s", devices[i]);
        char *plain = train(plain_name, devices[i], "profile=false", "metrics.jsonl");
        char *timed = train(timed_name, devices[i], "profile=true", "metrics.jsonl");
        assert_null(strstr(plain, "profile"));
        assert_non_null(strstr(timed, "profile"));
        cut_times(plain);
        cut_times(timed);
        assert_true(strlen(plain) > 12 * 40);
        assert_string_equal(plain, timed);
        free(plain_name);
        free(timed_name);
        free(plain);
        free(timed);
    }
}

static void test_summary_leaves_the_first_step_out(void **state)
{
    (void)state;
    ls_profile_summary summary = {0};
    ls_profile_table step = {0};
    for (int i = 0; i < 4; i++) {
        step.calls[LS_PROFILE_matmul] = i + 1;
        step.seconds[LS_PROFILE_matmul] = 1.0;
        ls_profile_summary_add(&summary, &step, 2.0);
        const int steps = i == 0 ? 1 : i;
        assert_int_equal(summary.steps, steps);
        assert_true(summary.seconds == 2.0 * steps);
        assert_true(summary.table.seconds[LS_PROFILE_matmul] == 1.0 * steps);
    }
    assert_int_equal(summary.table.calls[LS_PROFILE_matmul], 2 + 3 + 4);
    ls_profile_summary_tell(&summary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_of_reference),
        cmocka_unit_test(test_lines_of_cpu),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_summary_leaves_the_first_step_out),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

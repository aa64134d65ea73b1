/* metrics.jsonl: valid JSON line by line, and cut to the resumed step. */
#include "train/metrics.h"

#include "core/file.h"
#include "core/json.h"
#include "tests/core/core_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char path[] = "metrics.jsonl"; /* in the scratch folder */

static void write_step(ls_metrics *metrics, int64_t step, double loss)
{
    static const double exit_loss[] = {0.0, 1.0 / 3.0, 2.5};
    static const float weight[] = {0.0f, 0.5f, 0.5f};
    const ls_step_metrics values = {.step = step,
                                    .loss = loss,
                                    .objective = 1.0,
                                    .layers = 3,
                                    .exit_loss = exit_loss,
                                    .weight = weight,
                                    .learning_rate = 1e-3,
                                    .gradient_norm = 0.1,
                                    .tokens = 100,
                                    .tokens_per_second = 10.0,
                                    .share_of_peak = -1.0,
                                    .seconds = 1.0};
    assert_int_equal(ls_metrics_step(metrics, &values), LS_OK);
}

static cJSON *read_line(const char **text)
{
    cJSON *line;
    const char *end = strchr(*text, '\n');
    assert_non_null(end);
    assert_int_equal(ls_json_parse(&line, *text, (size_t)(end - *text), "line"), LS_OK);
    *text = end + 1;
    return line;
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static void test_lines(void **state)
{
    (void)state;
    ls_metrics metrics;
    const double held_out[] = {3.0, 2.0, 1.0};
    assert_int_equal(ls_metrics_open(&metrics, ".", 0), LS_OK);
    write_step(&metrics, 1, 2.5);
    write_step(&metrics, 2, (double)NAN);
    assert_int_equal(ls_metrics_evaluation(&metrics, 2, 3, held_out, 64), LS_OK);

    char *text; /* read before closing: every line is flushed */
    size_t length;
    assert_int_equal(ls_file_read(&text, &length, path), LS_OK);
    const char *at = text;
    cJSON *first = read_line(&at), *second = read_line(&at), *third = read_line(&at);
    assert_int_equal(at - text, length);
    assert_true(number(first, "loss") == 2.5);
    const cJSON *exits = cJSON_GetObjectItemCaseSensitive(first, "exit_loss");
    assert_int_equal(cJSON_GetArraySize(exits), 2);
    assert_true(number(exits, "1") == 1.0 / 3.0);
    assert_null(cJSON_GetObjectItemCaseSensitive(first, "share_of_peak"));
    assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(second, "loss")));
    const cJSON *rows =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(third, "evaluation"), "exits");
    assert_int_equal(cJSON_GetArraySize(rows), 3);
    assert_true(fabs(number(cJSON_GetArrayItem(rows, 1), "perplexity") - exp(2.0)) <= 1e-12);
    cJSON_Delete(first);
    cJSON_Delete(second);
    cJSON_Delete(third);
    free(text);
    assert_int_equal(ls_metrics_close(&metrics), LS_OK);
}

static void check_steps(const char *expected)
{
    char *text, seen[64] = "";
    size_t length, used = 0;
    assert_int_equal(ls_file_read(&text, &length, path), LS_OK);
    for (const char *at = text; *at != '\0';) {
        cJSON *line = read_line(&at);
        used += (size_t)snprintf(seen + used, sizeof seen - used, "%.0f ", number(line, "step"));
        cJSON_Delete(line);
    }
    assert_string_equal(seen, expected);
    free(text);
}

static void test_cut_at_resume(void **state)
{
    (void)state;
    ls_metrics metrics;
    const double held_out[] = {3.0, 2.0, 1.0};
    (void)unlink(path);
    assert_int_equal(ls_metrics_open(&metrics, ".", 0), LS_OK);
    for (int64_t step = 1; step <= 5; step++) {
        write_step(&metrics, step, 1.0);
        if (step == 3) assert_int_equal(ls_metrics_evaluation(&metrics, step, 3, held_out, 64), LS_OK);
    }
    (void)fputs("{\"step\": 6, \"loss\": 2.1", metrics.file); /* killed within a line */
    assert_int_equal(ls_metrics_close(&metrics), LS_OK);

    assert_int_equal(ls_metrics_open(&metrics, ".", 10), LS_OK);
    check_steps("1 2 3 3 4 5 ");
    assert_int_equal(ls_metrics_close(&metrics), LS_OK);
    assert_int_equal(ls_metrics_open(&metrics, ".", 3), LS_OK);
    write_step(&metrics, 4, 1.0);
    check_steps("1 2 3 3 4 ");
    assert_int_equal(ls_metrics_close(&metrics), LS_OK);
    assert_int_equal(ls_metrics_open(&metrics, ".", 0), LS_OK);
    check_steps("");
    assert_int_equal(ls_metrics_close(&metrics), LS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_cut_at_resume),
    };
    return cmocka_run_group_tests(tests, check_enter_scratch, check_leave_scratch);
}

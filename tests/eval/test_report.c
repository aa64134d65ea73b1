/* The report of a run folder: what it shows, what it escapes, what it does without. */
#include "eval/report.h"
#include "core/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char metrics[] =
    "{\"step\": 1, \"loss\": 5.5, \"objective\": 5.75, \"exit_loss\": {\"0\": 6.0, \"2\": 5.5}, \"learning_rate\": "
    "0.001, "
    "\"gradient_norm\": 1.5, \"tokens\": 128, \"tokens_per_second\": 900, \"seconds\": 0.1}\n"
    "{\"step\": 2, \"loss\": null, \"objective\": 5.25, \"exit_loss\": {\"1\": 5.6, \"2\": 5.0}, \"learning_rate\": "
    "0.001, "
    "\"gradient_norm\": 1.25, \"tokens\": 256, \"tokens_per_second\": 910, \"seconds\": 0.2}\n"
    "{\"step\": 2, \"evaluation\": {\"tokens\": 4096, \"exits\": [{\"layer\": 0, \"loss\": 6.1234, \"perplexity\": "
    "456}, "
    "{\"layer\": 1, \"loss\": 5.4321, \"perplexity\": 228}, {\"layer\": 2, \"loss\": 5.0, \"perplexity\": 148.4}]}}\n";

static const char sweep[] =
    "{\"prompts\": 8, \"prompt_tokens\": 64, \"max_new_tokens\": 128, \"autoregressive\": {\"tokens_per_second\": "
    "777.7}, "
    "\"settings\": [{\"decode\": \"self-speculative\", \"exit_layer\": 2, \"draft_tokens\": 4, \"acceptance\": 0.764, "
    "\"tokens_per_round\": 3.21, \"tokens_per_second\": 1234.5, \"speedup\": 1.59, \"speedup_low\": 1.4, "
    "\"speedup_high\": 1.8, \"identical\": true}, {\"decode\": \"prompt-lookup\", \"exit_layer\": null, "
    "\"draft_tokens\": 4, \"acceptance\": null, \"tokens_per_round\": 1, \"tokens_per_second\": 700, \"speedup\": 0.9, "
    "\"speedup_low\": 0.8, \"speedup_high\": 1, \"identical\": false}], \"best\": null, \"identical\": false}";

static char folder[64];

static void put(const char *name, const char *text)
{
    char *path = ls_file_join(folder, name);
    assert_int_equal(ls_file_write_atomic(path, text, strlen(text)), LS_OK);
    free(path);
}

static void take_away(const char *name)
{
    char *path = ls_file_join(folder, name);
    (void)unlink(path);
    free(path);
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "report_%d_<b>", (int)getpid());
    return ls_file_make_folders(folder) == LS_OK ? 0 : 1;
}

static int remove_folder(void **state)
{
    (void)state;
    const char *const names[] = {"metrics.jsonl", "config.yaml", "sweep.json", "sample.json", "report.html"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) take_away(names[i]);
    return rmdir(folder);
}

/* malloc'ed page */
static char *report(void)
{
    char *path = NULL, *page = NULL;
    size_t length;
    const ls_status status = ls_report_write(&path, folder);
    if (status != LS_OK) fail_msg("%s", ls_error_text());
    assert_int_equal(ls_file_read(&page, &length, path), LS_OK);
    free(path);
    assert_null(strstr(page, "nan"));
    assert_non_null(strstr(page, "</html>"));
    return page;
}

static void assert_holds(const char *page, const char *part)
{
    if (strstr(page, part) == NULL) fail_msg("the report lacks '%s'", part);
}

static void everything_is_shown(void **state)
{
    (void)state;
    put("metrics.jsonl", metrics);
    put("config.yaml", "model:\n  num_hidden_layers: 3\n  hidden_size: 64\nearly_exit:\n  weights: target\nseed: 7\n");
    put("sweep.json", sweep);
    put("sample.json", "{\"text\": \"if a < b && c:\\n    <script>x</script>\", \"drafted\": 9, \"accepted\": 7, "
                       "\"rounds\": 3, \"tokens_per_second\": 55.5}");
    char *page = report();
    assert_holds(page, "<tr><td>layers</td><td>3</td></tr>");
    assert_holds(page, "<tr><td>exit weights</td><td>target</td></tr>");
    assert_holds(page, "<tr><td>seed</td><td>7</td></tr>");
    assert_holds(page, "2 steps, 256 tokens");
    /* Layer 0 of the file is one layer run. */
    assert_holds(page, "<tr><td>1</td><td>6.1234</td><td>456.41</td></tr>");
    assert_holds(page, "<tr><td>3</td><td>5.0000</td><td>148.41</td></tr>");
    assert_holds(page,
                 "<td>76.4 %</td><td>3.21</td><td>1234.5</td><td>1.59</td><td>1.40</td><td>1.80</td><td>yes</td>");
    assert_holds(page, "<td>prompt-lookup</td><td>n/a</td><td>4</td><td>n/a</td>");
    assert_holds(page, "<td>NO</td>");
    assert_holds(page, "if a &lt; b &amp;&amp; c:\n    &lt;script&gt;");
    assert_holds(page, "_&lt;b&gt;</h1>");
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "<b>"));
    assert_null(strstr(page, "src="));
    free(page);
}

static void plots_are_inline_or_said_to_be_missing(void **state)
{
    (void)state;
    put("metrics.jsonl", metrics);
    char *old = getenv("PATH") == NULL ? NULL : strdup(getenv("PATH"));
    if (system("gnuplot --version >/dev/null 2>&1") == 0) {
        char *page = report();
        assert_holds(page, "<svg");
        assert_holds(page, "3 layers (all)");
        assert_null(strstr(page, "<?xml"));
        assert_null(strstr(page, "No plot"));
        free(page);
    }
    (void)setenv("PATH", "/nowhere", 1);
    char *page = report();
    if (old != NULL) (void)setenv("PATH", old, 1);
    assert_holds(page, "No plot: gnuplot");
    assert_null(strstr(page, "<svg"));
    free(page);
    free(old);
}

static void little_is_enough(void **state)
{
    (void)state;
    take_away("config.yaml");
    take_away("sweep.json");
    take_away("sample.json");
    put("metrics.jsonl", "");
    char *page = report();
    assert_holds(page, "recorded no training step");
    assert_holds(page, "recorded no evaluation");
    free(page);
    char *torn = malloc(sizeof metrics);
    memcpy(torn, metrics, sizeof metrics);
    torn[sizeof metrics - 40] = '\0';
    put("metrics.jsonl", torn);
    page = report();
    assert_holds(page, "2 steps");
    assert_holds(page, "recorded no evaluation");
    free(page);
    free(torn);
}

static void damage_is_named(void **state)
{
    (void)state;
    char *path = NULL;
    put("metrics.jsonl", "{\"step\": 1}\nnonsense\n{\"step\": 2}\n");
    assert_int_equal(ls_report_write(&path, folder), LS_BAD_INPUT);
    assert_non_null(strstr(ls_error_text(), "metrics.jsonl:2"));
    ls_error_clear();
    put("metrics.jsonl", metrics);
    put("sweep.json", "{\"settings\": [");
    assert_int_equal(ls_report_write(&path, folder), LS_BAD_INPUT);
    assert_non_null(strstr(ls_error_text(), "sweep.json"));
    ls_error_clear();
    assert_int_equal(ls_report_write(&path, "no_such_run"), LS_BAD_INPUT);
    assert_non_null(strstr(ls_error_text(), "no_such_run"));
    ls_error_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_shown),
        cmocka_unit_test(plots_are_inline_or_said_to_be_missing),
        cmocka_unit_test(little_is_enough),
        cmocka_unit_test(damage_is_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

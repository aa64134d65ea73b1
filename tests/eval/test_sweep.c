/* Held-out prompts, the sweep's counters, and that it sees a text that differs. */
#include "small_model.h"

#include "core/json.h"
#include "eval/held_out.h"
#include "eval/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { L = 4, PROMPTS = 3, LENGTH = 10, NEW = 20 };

static void expect_prompt(const ls_token_file *file, const int32_t *prompt, int64_t start)
{
    int32_t wanted[LENGTH];
    assert_int_equal(ls_token_file_read(file, LS_SPLIT_VALIDATION, start, LENGTH, wanted), LS_OK);
    assert_memory_equal(prompt, wanted, sizeof wanted);
}

static void prompts_begin_documents_that_are_long_enough(void **state)
{
    (void)state;
    const int64_t lengths[] = {40, 5, 29, 28, 60, 70, 3, 80, 30};
    ls_token_file file;
    ls_prompts prompts;
    token_file_create(&file, "sweep_prompts.h5", lengths, 9);
    const int64_t *start = file.documents[LS_SPLIT_VALIDATION];
    /* With end of text, documents 0, 2, 4, 5, 7, 8 hold 30 tokens or more; 3 of them are every second one. */
    assert_int_equal(ls_held_out_prompts(&prompts, 3, LENGTH, NEW, &file), LS_OK);
    for (int64_t p = 0; p <= 3; p++) assert_int_equal(prompts.start[p], p * LENGTH);
    expect_prompt(&file, prompts.tokens, start[0]);
    expect_prompt(&file, prompts.tokens + LENGTH, start[4]);
    expect_prompt(&file, prompts.tokens + 2 * LENGTH, start[7]);
    ls_prompts_free(&prompts);
    /* Too few of them: anywhere, from the first token to the last. */
    assert_int_equal(ls_held_out_prompts(&prompts, 7, LENGTH, NEW, &file), LS_OK);
    expect_prompt(&file, prompts.tokens, 0);
    expect_prompt(&file, prompts.tokens + 6 * LENGTH, file.token_count[LS_SPLIT_VALIDATION] - LENGTH);
    ls_prompts_free(&prompts);
    assert_int_equal(ls_held_out_prompts(&prompts, 1, 100000, NEW, &file), LS_BAD_INPUT);
    ls_error_clear();
    ls_token_file_close(&file);
    (void)unlink("sweep_prompts.h5");
}

/* What comes before the first token to be learnt, whole, of records where that is not too long. */
static void prompts_are_what_records_give(void **state)
{
    (void)state;
    const int64_t given[] = {4, 11, 1, 10, 5000, 7, 3, 9}, learnt[] = {1, 2, 3, 4, 5, 6, 7, 8};
    ls_token_file file;
    ls_prompts prompts;
    record_file_create(&file, "sweep_records.h5", given, learnt, 8);
    const int64_t *at = file.documents[LS_SPLIT_VALIDATION];
    /* Records 0, 2, 3, 5, 6 and 7 fit; 3 of them are every second one. */
    assert_int_equal(ls_held_out_prompts(&prompts, 3, 10, NEW, &file), LS_OK);
    const int chosen[] = {0, 3, 6};
    assert_int_equal(prompts.count, 3);
    assert_int_equal(prompts.shortest, 3);
    assert_int_equal(prompts.longest, 10);
    for (int p = 0; p < 3; p++) {
        int32_t wanted[10];
        const int64_t length = given[chosen[p]];
        assert_int_equal(prompts.start[p + 1] - prompts.start[p], length);
        assert_int_equal(ls_token_file_read(&file, LS_SPLIT_VALIDATION, at[chosen[p]], length, wanted), LS_OK);
        assert_memory_equal(prompts.tokens + prompts.start[p], wanted, (size_t)length * sizeof *wanted);
    }
    ls_prompts_free(&prompts);
    assert_int_equal(ls_held_out_prompts(&prompts, 8, 5000, NEW, &file), LS_OK);
    assert_int_equal(prompts.start[5] - prompts.start[4], 5000);
    ls_prompts_free(&prompts);
    assert_int_equal(ls_held_out_prompts(&prompts, 7, 10, NEW, &file), LS_BAD_INPUT);
    assert_non_null(strstr(ls_error_text(), "6 held-out records have prompts of at most 10 tokens"));
    ls_error_clear();
    ls_token_file_close(&file);
    (void)unlink("sweep_records.h5");
}

/* What the first setting accepts when the decoder is asked without a sweep. */
static int64_t accepted_alone(const small_model *small, const ls_prompts *prompts, const ls_sweep_setting *setting)
{
    int64_t accepted = 0;
    for (int64_t p = 0; p < prompts->count; p++) {
        int32_t tokens[NEW];
        ls_decode_result result;
        const ls_decode_options options = {.mode = setting->mode,
                                           .exit_layer = setting->exit_layer,
                                           .draft_tokens = setting->draft_tokens,
                                           .max_new_tokens = NEW,
                                           .end_of_text = -1,
                                           .sampling = {.top_p = 1.0}};
        assert_int_equal(ls_decoder_generate(small->decoder, &result, tokens, prompts->tokens + prompts->start[p],
                                             prompts->start[p + 1] - prompts->start[p], &options, NULL, NULL),
                         LS_OK);
        accepted += result.accepted;
    }
    return accepted;
}

static void run_sweep(ls_sweep *sweep, ls_sweep_setting *settings, int count, double max_seconds)
{
    small_model small;
    small_model_open(&small, LS_DEVICE_CPU, LS_F32, L, 97, 1, LENGTH + NEW);
    int32_t tokens[PROMPTS * LENGTH];
    int64_t start[] = {0, LENGTH, LENGTH + 3, 2 * LENGTH}; /* of several lengths */
    const ls_prompts prompts = {PROMPTS, start, tokens, 3, LENGTH};
    for (int i = 0; i < PROMPTS * LENGTH; i++) tokens[i] = (i * 37 + i / 7) % 97;
    *sweep = (ls_sweep){.model = "m",
                        .device = "cpu",
                        .precision = "fp32",
                        .threads = 1,
                        .max_new_tokens = NEW,
                        .repeats = 2,
                        .max_seconds = max_seconds,
                        .end_of_text = -1,
                        .settings = settings,
                        .count = count};
    assert_int_equal(ls_sweep_run(sweep, small.decoder, &prompts), LS_OK);
    if (sweep->prompts == PROMPTS) assert_int_equal(settings->accepted, accepted_alone(&small, &prompts, settings));
    small_model_close(&small);
}

static void counters_add_up(void **state)
{
    (void)state;
    ls_sweep_setting settings[] = {{.mode = LS_DECODE_SELF_SPECULATIVE, .exit_layer = 1, .draft_tokens = 2},
                                   {.mode = LS_DECODE_SELF_SPECULATIVE, .exit_layer = 3, .draft_tokens = 4},
                                   {.mode = LS_DECODE_PROMPT_LOOKUP, .draft_tokens = 3}};
    ls_sweep sweep;
    run_sweep(&sweep, settings, 3, 0.0);
    assert_true(ls_sweep_identical(&sweep));
    for (int s = 0; s < 3; s++) {
        const ls_sweep_setting *setting = settings + s;
        assert_int_equal(setting->tokens, PROMPTS * NEW);
        assert_int_equal(setting->accepted + setting->rounds, PROMPTS * NEW);
        assert_true(setting->accepted <= setting->drafted);
        assert_true(setting->seconds > 0.0 && setting->autoregressive_seconds > 0.0);
        assert_true(setting->speedup_low <= ls_sweep_speedup(setting));
        assert_true(setting->speedup_high >= ls_sweep_speedup(setting));
    }
    assert_int_equal(sweep.autoregressive_tokens, 3 * PROMPTS * NEW);
    const ls_sweep_setting *best = ls_sweep_best(&sweep);
    assert_true(best == settings || best == settings + 1);

    cJSON *document = ls_sweep_to_json(&sweep);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(document, "identical")));
    const cJSON *rows = cJSON_GetObjectItem(document, "settings");
    assert_int_equal(cJSON_GetArraySize(rows), 3);
    const cJSON *first = cJSON_GetArrayItem(rows, 0);
    const double acceptance = cJSON_GetObjectItem(first, "acceptance")->valuedouble;
    assert_true(acceptance == (double)settings[0].accepted / (double)settings[0].drafted);
    assert_int_equal(cJSON_GetObjectItem(first, "exit_layer")->valueint, 1);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 2), "exit_layer")));
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(cJSON_GetObjectItem(document, "best"), "speedup")));
    cJSON_Delete(document);

    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    ls_sweep_print(memory, &sweep);
    (void)fclose(memory);
    assert_non_null(strstr(text, "3 held-out prompts of 3 to 10 tokens"));
    assert_non_null(strstr(text, "best: --exit-layer"));
    assert_non_null(strstr(text, "identical output: yes"));
    free(text);
}

/* Early exit is another model: its text differs, and the sweep must say so. */
static void another_text_is_seen(void **state)
{
    (void)state;
    ls_sweep_setting settings[] = {{.mode = LS_DECODE_EARLY_EXIT, .exit_layer = 1, .draft_tokens = 1},
                                   {.mode = LS_DECODE_SELF_SPECULATIVE, .exit_layer = 2, .draft_tokens = 1}};
    ls_sweep sweep;
    run_sweep(&sweep, settings, 2, 0.0);
    assert_false(settings[0].identical);
    assert_true(settings[1].identical);
    assert_false(ls_sweep_identical(&sweep));
    cJSON *document = ls_sweep_to_json(&sweep);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(document, "identical")));
    /* Nothing was drafted: no acceptance, not 0 / 0. */
    const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(document, "settings"), 0);
    char *text = cJSON_PrintUnformatted(row);
    assert_non_null(strstr(text, "\"acceptance\":null"));
    cJSON_free(text);
    cJSON_Delete(document);
}

static void time_ends_between_prompts(void **state)
{
    (void)state;
    ls_sweep_setting settings[] = {{.mode = LS_DECODE_SELF_SPECULATIVE, .exit_layer = 1, .draft_tokens = 2},
                                   {.mode = LS_DECODE_SELF_SPECULATIVE, .exit_layer = 2, .draft_tokens = 1}};
    ls_sweep sweep;
    run_sweep(&sweep, settings, 2, 1e-9);
    assert_int_equal(sweep.prompts, 1);
    for (int s = 0; s < 2; s++) assert_int_equal(settings[s].tokens, NEW);
    run_sweep(&sweep, settings, 2, 1e9);
    assert_int_equal(sweep.prompts, PROMPTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_begin_documents_that_are_long_enough),
        cmocka_unit_test(prompts_are_what_records_give),
        cmocka_unit_test(counters_add_up),
        cmocka_unit_test(another_text_is_seen),
        cmocka_unit_test(time_ends_between_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Multiple choice: the texts and tokens of a question, and scores against a second way to the same numbers: layer by
 * layer through the decoder, in double. */
#include "small_model.h"

#include "core/text.h"
#include "eval/task/choice_scorer.h"
#include "eval/task/choice_task.h"
#include "eval/task/share.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { L = 4, V = BYTES_VOCABULARY };

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
}

/* ---- texts ------------------------------------------------------------------------------------------------------- */

static const char *const questions = "{\"q\": \"one\", \"list\": [\"a\", \"b\"], \"gold\": 1, \"n\": 2}\n"
                                     "\n"
                                     "{\"q\": \"two\", \"list\": [\"c\", \"d\", \"e\"], \"gold\": \"e\", \"n\": 4}\n"
                                     "{\"q\": \"three\", \"list\": [\"no\", \"yes\"], \"gold\": true, \"n\": 5}\n";

static void read_config(ls_task_config *config, const char *const *overrides, int count)
{
    write_file("choice.yaml", "kind: multiple_choice\ndata: choice.jsonl\nprompt: \"Q: {q}\\nA:\"\n"
                              "choices: \"{list}\"\ngold: gold\n");
    write_file("choice.jsonl", questions);
    if (ls_task_config_read(config, "choice.yaml", overrides, count) != LS_OK) fail_msg("%s", ls_error_text());
}

static void open_data(ls_task_data *data, const ls_task_config *config)
{
    if (ls_task_data_open(data, config) != LS_OK) fail_msg("%s", ls_error_text());
}

static void expect_prompt(const ls_task_data *data, int64_t question, const char *expected)
{
    char *prompt;
    assert_int_equal(ls_task_prompt(&prompt, data, question), LS_OK);
    assert_string_equal(prompt, expected);
    free(prompt);
}

static void examples_stand_before_the_question(void **state)
{
    (void)state;
    ls_task_config config;
    ls_task_data data;
    read_config(&config, (const char *[]){"shots=2", "shots_from=choice.jsonl", "separator=;"}, 3);
    open_data(&data, &config);
    assert_int_equal(data.count, 1); /* examples of the same file are not asked */
    expect_prompt(&data, 0, "Q: one\nA: b;Q: two\nA: e;Q: three\nA:");
    assert_int_equal(ls_task_line(&data, 0), 4);
    ls_task_data_close(&data);
    ls_task_config_free(&config);
}

static void the_right_choice_is_a_number_a_truth_or_a_text(void **state)
{
    (void)state;
    ls_task_config config;
    ls_task_data data;
    read_config(&config, NULL, 0);
    open_data(&data, &config);
    static const int counts[] = {2, 3, 2}, golds[] = {1, 2, 1};
    for (int q = 0; q < 3; q++) {
        ls_task_choices choices;
        assert_int_equal(ls_task_choices_make(&choices, &data, q), LS_OK);
        assert_int_equal(choices.count, counts[q]);
        assert_int_equal(choices.gold, golds[q]);
        ls_task_choices_free(&choices);
    }
    ls_task_data_close(&data);
    ls_task_config_free(&config);
}

static void choices_can_be_templates(void **state)
{
    (void)state;
    ls_task_config config;
    ls_task_data data;
    read_config(&config, (const char *[]){"choices=['{q}!', no]", "limit=1"}, 2);
    open_data(&data, &config);
    ls_task_choices choices;
    assert_int_equal(data.count, 1);
    assert_int_equal(ls_task_choices_make(&choices, &data, 0), LS_OK);
    assert_string_equal(choices.text[0], "one!");
    assert_string_equal(choices.text[1], "no");
    ls_task_choices_free(&choices);
    ls_task_data_close(&data);
    ls_task_config_free(&config);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static ls_tokenizer *open_tokenizer(const char *source)
{
    ls_tokenizer *tokenizer = NULL;
    if (ls_tokenizer_open(&tokenizer, source) != LS_OK) fail_msg("%s", ls_error_text());
    return tokenizer;
}

static void expect_pair(const ls_tokenizer *tokenizer, const char *prompt, const char *continuation, int64_t most,
                        const char *scored, bool cut, bool torn)
{
    ls_task_tokens tokens;
    if (ls_task_encode_pair(&tokens, tokenizer, prompt, continuation, most) != LS_OK) fail_msg("%s", ls_error_text());
    char *text;
    size_t length;
    assert_int_equal(
        ls_tokenizer_decode(tokenizer, tokens.ids + tokens.count - tokens.scored, tokens.scored, &text, &length),
        LS_OK);
    assert_string_equal(text, scored);
    assert_int_equal(tokens.cut, cut);
    assert_int_equal(tokens.torn, torn);
    assert_in_range(tokens.count, tokens.scored + 1, most);
    free(text);
    ls_task_tokens_free(&tokens);
}

static void a_blank_belongs_to_what_follows_it(void **state)
{
    (void)state;
    ls_tokenizer *bytes = open_tokenizer("bytes");
    expect_pair(bytes, "Answer:", " yes", 100, " yes", false, false);
    expect_pair(bytes, "Answer: ", "yes", 100, " yes", false, false);
    expect_pair(bytes, "Answer: \n", "yes", 100, " \nyes", false, false);
    expect_pair(bytes, "", "yes", 100, "yes", false, false); /* behind the end of a text */
    expect_pair(bytes, "Answer:", " yes", 7, " yes", true, false);
    ls_task_tokens tokens;
    assert_int_equal(ls_task_encode_pair(&tokens, bytes, "Answer:", " yes", 4), LS_BAD_INPUT);
    ls_error_clear();
    assert_int_equal(ls_task_encode_pair(&tokens, bytes, "Answer:", "", 100), LS_BAD_INPUT);
    ls_error_clear();
    ls_tokenizer_free(bytes);
}

/* "return" is one token of the shipped tokenizer, so that a border within it is none. */
static void a_token_across_the_border_is_scored_whole(void **state)
{
    (void)state;
    ls_tokenizer *shipped = open_tokenizer(LS_SHIPPED_TOKENIZER);
    expect_pair(shipped, "x = 1\n    return", " self", 100, " self", false, false);
    expect_pair(shipped, "x = 1\n    ret", "urn self", 100, " return self", false, true);
    ls_tokenizer_free(shipped);
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

static void choice_of(ls_task_tokens *out, uint32_t seed, int64_t count, int64_t scored)
{
    *out = (ls_task_tokens){.ids = calloc((size_t)count, sizeof *out->ids), .count = count, .scored = scored};
    for (int64_t i = 0; i < count; i++) out->ids[i] = (int32_t)((seed * 7919u + (uint32_t)(i * i) * 31u) % V);
}

/* Sum of the log-probabilities of the scored tokens at every exit. */
static void score_by_layers(double *sum, const ls_model *model, const ls_task_tokens *choice)
{
    const int64_t C = model->config.hidden_size, T = choice->count - 1;
    float *hidden = calloc((size_t)(T * C), sizeof *hidden), logits[V];
    ls_decode *decode = NULL;
    assert_int_equal(ls_decode_create(&decode, model, T, T), LS_OK);
    assert_int_equal(ls_decode_embed(decode, hidden, choice->ids, T), LS_OK);
    for (int l = 0; l < L; l++) {
        sum[l] = 0.0;
        assert_int_equal(ls_decode_layers(decode, hidden, l, l + 1, NULL, 0, T), LS_OK);
        for (int64_t t = choice->count - choice->scored; t < choice->count; t++) {
            assert_int_equal(ls_decode_logits(decode, logits, hidden + (t - 1) * C, 1), LS_OK);
            sum[l] += log(ls_softmax_at(logits, V, choice->ids[t]));
        }
    }
    ls_decode_destroy(decode);
    free(hidden);
}

enum { CHOICES = 5, LONGEST = 700 };

/* One pass of some choices, and questions that take several. */
static const int64_t lengths[][CHOICES] = {{2, 9, 33, 32, 31}, {LONGEST, 40, 600, 45, 97}};
static const int64_t scored[CHOICES] = {1, 8, 4, 30, 2};

static void make_question(ls_task_tokens *choices, int which)
{
    for (int i = 0; i < CHOICES; i++) choice_of(choices + i, (uint32_t)(i + 1), lengths[which][i], scored[i]);
}

static void free_question(ls_task_tokens *choices)
{
    for (int i = 0; i < CHOICES; i++) ls_task_tokens_free(choices + i);
}

static void scores_are_sums_of_log_probabilities(void **state)
{
    (void)state;
    small_model small;
    ls_choice_scorer *scorer;
    ls_task_tokens choices[CHOICES];
    double scores[L][CHOICES], expected[L];
    small_model_open(&small, LS_DEVICE_REFERENCE, LS_F32, L, V, 1, SMALL_CONTEXT);
    assert_int_equal(ls_choice_scorer_create(&scorer, &small.model, CHOICES, LONGEST), LS_OK);
    for (int which = 0; which < 2; which++) {
        make_question(choices, which);
        assert_int_equal(ls_choice_scorer_run(&scores[0][0], scorer, choices, CHOICES), LS_OK);
        for (int i = 0; i < CHOICES; i++) {
            score_by_layers(expected, &small.model, choices + i);
            for (int l = 0; l < L; l++)
                if (!(fabs(scores[l][i] - expected[l]) <= 2e-5 * (1.0 + fabs(expected[l]))))
                    fail_msg("question %d, choice %d, exit %d: %.6f, by layers %.6f", which, i, l, scores[l][i],
                             expected[l]);
            /* Exits that could be taken for each other would prove nothing. */
            assert_true(fabs(expected[0] - expected[L - 1]) > 1e-3);
        }
        free_question(choices);
    }
    ls_choice_scorer_destroy(scorer);
    small_model_close(&small);
}

/* The fast backend in bf16, where another shape or order of sums would show. */
static void score_with(double *scores, int threads, int most, int64_t longest, bool after_another)
{
    small_model small;
    ls_choice_scorer *scorer;
    ls_task_tokens choices[CHOICES], other[CHOICES];
    double thrown_away[L * CHOICES];
    small_model_open(&small, LS_DEVICE_CPU, LS_BF16, L, V, threads, SMALL_CONTEXT);
    assert_int_equal(ls_choice_scorer_create(&scorer, &small.model, most, longest), LS_OK);
    make_question(choices, 0);
    make_question(other, 1);
    if (after_another) assert_int_equal(ls_choice_scorer_run(thrown_away, scorer, other, CHOICES), LS_OK);
    assert_int_equal(ls_choice_scorer_run(scores, scorer, choices, CHOICES), LS_OK);
    free_question(other);
    free_question(choices);
    ls_choice_scorer_destroy(scorer);
    small_model_close(&small);
}

static void scores_do_not_depend_on_company_or_threads(void **state)
{
    (void)state;
    double alone[L * CHOICES], other[L * CHOICES];
    score_with(alone, 1, CHOICES, 33, false);
    score_with(other, 1, CHOICES, LONGEST, true);
    assert_memory_equal(alone, other, sizeof alone);
    score_with(other, 3, CHOICES + 6, 900, false);
    assert_memory_equal(alone, other, sizeof alone);
}

static void shares_have_the_error_of_a_sample(void **state)
{
    (void)state;
    assert_true(fabs(ls_task_share(3, 4) - 0.75) <= 1e-15);
    assert_true(fabs(ls_task_share_error(3, 4) - 0.25) <= 1e-15); /* sqrt(0.75 * 0.25 / 3) */
    assert_true(isnan(ls_task_share(0, 0)) && isnan(ls_task_share_error(1, 1)));
}

int main(void)
{
    char folder[] = "choice-XXXXXX";
    if (mkdtemp(folder) == NULL || chdir(folder) != 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_stand_before_the_question),
        cmocka_unit_test(the_right_choice_is_a_number_a_truth_or_a_text),
        cmocka_unit_test(choices_can_be_templates),
        cmocka_unit_test(a_blank_belongs_to_what_follows_it),
        cmocka_unit_test(a_token_across_the_border_is_scored_whole),
        cmocka_unit_test(scores_are_sums_of_log_probabilities),
        cmocka_unit_test(scores_do_not_depend_on_company_or_threads),
        cmocka_unit_test(shares_have_the_error_of_a_sample),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink("choice.yaml");
    (void)unlink("choice.jsonl");
    return chdir("..") != 0 || rmdir(folder) != 0 || failed != 0;
}

/* The decoder on small random models: greedy losslessness, limits, counters, and what runs where. */
#include "chi_square.h"
#include "small_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { L = 5, V = 97, CONTEXT = SMALL_CONTEXT };

/* ---- counting what runs ---- */

static int executions[L][CONTEXT]; /* of a layer at a position, since the last round began */
static int most_executions;        /* of any layer at any position within a round */
static int64_t below_exit;         /* row executions of layers below `exit_layer` */
static int exit_layer;
static int64_t enough; /* tokens after which the listener wants no more; 0: never */

ls_status __real_ls_decode_layers(ls_decode *decode, float *hidden, int first_layer, int last_layer,
                                  const int32_t *base, int64_t start, int64_t R);
ls_status __wrap_ls_decode_layers(ls_decode *decode, float *hidden, int first_layer, int last_layer,
                                  const int32_t *base, int64_t start, int64_t R);

ls_status __wrap_ls_decode_layers(ls_decode *decode, float *hidden, int first_layer, int last_layer,
                                  const int32_t *base, int64_t start, int64_t R)
{
    const int64_t first = start + (base == NULL ? 0 : *base);
    for (int l = first_layer; l < last_layer; l++)
        for (int64_t r = 0; r < R; r++) {
            const int count = ++executions[l][first + r];
            if (count > most_executions) most_executions = count;
            if (l < exit_layer) below_exit++;
        }
    return __real_ls_decode_layers(decode, hidden, first_layer, last_layer, base, start, R);
}

static ls_decode_options greedy(ls_decode_mode mode, int exit, int draft_tokens, int64_t max_new_tokens)
{
    return (ls_decode_options){.mode = mode,
                               .exit_layer = exit,
                               .draft_tokens = draft_tokens,
                               .max_new_tokens = max_new_tokens,
                               .end_of_text = -1,
                               .sampling = {.top_p = 1.0}};
}

/* ---- one generation, watched ---- */

typedef struct watched_run {
    ls_decode_result result;
    int32_t tokens[CONTEXT];
    int64_t heard, heard_accepted, rounds;
} watched_run;

static void begin_round(void) { memset(executions, 0, sizeof executions); }

static bool listen(void *context, const int32_t *tokens, int count, int accepted_drafts)
{
    watched_run *run = context;
    assert_true(count >= 1 && accepted_drafts >= 0 && accepted_drafts <= count);
    assert_memory_equal(tokens, run->tokens + run->heard, sizeof *tokens * (size_t)count);
    run->heard += count;
    run->heard_accepted += accepted_drafts;
    run->rounds++;
    begin_round();
    return enough == 0 || run->heard < enough;
}

static void generate(small_model *bench, watched_run *run, const int32_t *prompt, int64_t count,
                     const ls_decode_options *options)
{
    memset(run, 0, sizeof *run);
    begin_round();
    most_executions = 0;
    below_exit = 0;
    exit_layer = options->exit_layer;
    const ls_status status =
        ls_decoder_generate(bench->decoder, &run->result, run->tokens, prompt, count, options, listen, run);
    if (status != LS_OK) fail_msg("%s", ls_error_text());
    const ls_decode_result *result = &run->result;
    assert_int_equal(run->heard, result->count);
    assert_int_equal(run->heard_accepted, result->accepted);
    assert_int_equal(run->rounds, result->rounds);
    assert_true(result->accepted <= result->drafted);
    assert_true(result->count <= options->max_new_tokens);
    /* No layer ever ran twice at a position of a round: not below the exit, and not above. */
    assert_true(most_executions <= 1);
}

static void same_text(const watched_run *a, const watched_run *b, const char *what, int exit, int draft_tokens)
{
    if (a->result.count != b->result.count ||
        memcmp(a->tokens, b->tokens, sizeof(int32_t) * (size_t)a->result.count) != 0)
        fail_msg("%s, E %d, d %d: the text differs from the autoregressive one", what, exit, draft_tokens);
}

static const int32_t prompt[] = {5, 17, 17, 90, 3, 42, 8, 8, 61, 20, 5, 17, 33, 71, 2, 96, 0, 11, 54, 29};
enum { PROMPT = 20 };

/* Every exit layer and draft length, against autoregressive decoding. Returns accepted / drafted over all. */
static double compare_modes(ls_device device, ls_dtype dtype, int threads, int64_t prompt_count, int64_t new_tokens,
                            const int *draft_tokens, int lengths)
{
    small_model bench;
    small_model_open(&bench, device, dtype, L, V, threads, CONTEXT);
    watched_run plain, fast;
    ls_decode_options options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, new_tokens);
    generate(&bench, &plain, prompt, prompt_count, &options);
    assert_int_equal(plain.result.count, new_tokens);
    assert_int_equal(plain.result.rounds, new_tokens);
    assert_int_equal(plain.result.drafted, 0);
    double drafted = 0.0, accepted = 0.0;
    for (int i = 0; i < lengths; i++) {
        for (int exit = 1; exit < L; exit++) {
            options = greedy(LS_DECODE_SELF_SPECULATIVE, exit, draft_tokens[i], new_tokens);
            generate(&bench, &fast, prompt, prompt_count, &options);
            same_text(&plain, &fast, "self-speculative", exit, draft_tokens[i]);
            /* The full model gives one token a round, unless the round's last draft ends the text. */
            assert_int_equal(fast.result.accepted + fast.result.rounds, new_tokens);
            /* Layers below the exit: every drafted token once, the newest token of each round once, the prompt once. */
            assert_int_equal(below_exit, exit * (prompt_count - 1 + fast.result.drafted + fast.result.rounds));
            drafted += (double)fast.result.drafted;
            accepted += (double)fast.result.accepted;
        }
        options = greedy(LS_DECODE_PROMPT_LOOKUP, 0, draft_tokens[i], new_tokens);
        generate(&bench, &fast, prompt, prompt_count, &options);
        same_text(&plain, &fast, "prompt lookup", 0, draft_tokens[i]);
    }
    small_model_close(&bench);
    return accepted / drafted;
}

static const int all_lengths[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 20, 40};

static void greedy_is_lossless_on_cpu(void **state)
{
    (void)state;
    for (ls_dtype dtype = LS_F32; dtype <= LS_BF16; dtype++) {
        const double acceptance = compare_modes(LS_DEVICE_CPU, dtype, 1, PROMPT, 60, all_lengths, 16);
        print_message("%s: acceptance %.3f\n", ls_dtype_name(dtype), acceptance);
        /* The test must see both outcomes to say anything. */
        assert_true(acceptance > 0.2 && acceptance < 0.95);
        const int lengths[] = {3, 20};
        (void)compare_modes(LS_DEVICE_CPU, dtype, 2, PROMPT, 30, lengths, 2);
    }
}

static void greedy_is_lossless_on_reference(void **state)
{
    (void)state;
    const int lengths[] = {1, 3, 12, 20};
    for (ls_dtype dtype = LS_F32; dtype <= LS_BF16; dtype++)
        (void)compare_modes(LS_DEVICE_REFERENCE, dtype, 1, 7, 30, lengths, 4);
}

/* A one-token prompt has no prefill, one of two a prefill of one row. */
static void shortest_prompts(void **state)
{
    (void)state;
    const int lengths[] = {1, 4, 20};
    (void)compare_modes(LS_DEVICE_CPU, LS_F32, 1, 1, 25, lengths, 3);
    (void)compare_modes(LS_DEVICE_CPU, LS_F32, 1, 2, 25, lengths, 3);
}

/* The most probable token after the prompt, all of it in one pass. */
static int32_t next_token(const small_model *bench, const int32_t *tokens, int64_t count)
{
    ls_decode *decode = NULL;
    float *hidden = calloc((size_t)(count * SMALL_HIDDEN), sizeof *hidden), logits[V];
    assert_int_equal(ls_decode_create(&decode, &bench->model, count, count), LS_OK);
    assert_int_equal(ls_decode_embed(decode, hidden, tokens, count), LS_OK);
    assert_int_equal(ls_decode_layers(decode, hidden, 0, L, NULL, 0, count), LS_OK);
    assert_int_equal(ls_decode_logits(decode, logits, hidden + (count - 1) * SMALL_HIDDEN, 1), LS_OK);
    ls_decode_destroy(decode);
    free(hidden);
    return ls_argmax(logits, V);
}

/* Prefill goes in chunks; prompts that end just before, at and just after a chunk's end. */
static void long_prompts(void **state)
{
    (void)state;
    small_model bench;
    watched_run run;
    int32_t text[CONTEXT];
    for (int i = 0; i < CONTEXT; i++) text[i] = (int32_t)((uint32_t)i * 2654435761u >> 7) % V;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
    const int64_t counts[] = {17, 512, 513, 514, 1024, 1025, 1026};
    for (int i = 0; i < 7; i++) {
        const ls_decode_options options = greedy(LS_DECODE_SELF_SPECULATIVE, 2, 3, 5);
        generate(&bench, &run, text, counts[i], &options);
        assert_int_equal(below_exit, 2 * (counts[i] - 1 + run.result.drafted + run.result.rounds));
        assert_int_equal(run.tokens[0], next_token(&bench, text, counts[i]));
    }
    small_model_close(&bench);
}

/* Early exit at E is the model that has only E layers. */
static void early_exit_is_the_truncated_model(void **state)
{
    (void)state;
    for (int exit = 1; exit < L; exit++) {
        small_model whole, cut;
        watched_run early, plain;
        small_model_open(&whole, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
        small_model_open(&cut, LS_DEVICE_CPU, LS_F32, exit, V, 1, CONTEXT);
        ls_decode_options options = greedy(LS_DECODE_EARLY_EXIT, exit, 0, 40);
        generate(&whole, &early, prompt, PROMPT, &options);
        assert_int_equal(below_exit, exit * (PROMPT - 1 + 40));
        options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, 40);
        generate(&cut, &plain, prompt, PROMPT, &options);
        same_text(&early, &plain, "early exit", exit, 0);
        small_model_close(&whole);
        small_model_close(&cut);
    }
}

/* For every token of the autoregressive text as the end of text, and every length of text, both modes stop alike. */
static void texts_end_where_they_must(void **state)
{
    (void)state;
    small_model bench;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
    watched_run whole, plain, fast;
    ls_decode_options options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, 40);
    generate(&bench, &whole, prompt, PROMPT, &options);
    assert_string_equal(whole.result.finish_reason, "length");
    int inside_drafts = 0;
    for (int at = 0; at < 40; at += 3)
        for (int d = 1; d <= 20; d += d < 4 ? 1 : 8) {
            options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, 40);
            options.end_of_text = whole.tokens[at];
            generate(&bench, &plain, prompt, PROMPT, &options);
            assert_string_equal(plain.result.finish_reason, "end_of_text");
            assert_true(plain.result.count <= at + 1);
            assert_int_equal(plain.tokens[plain.result.count - 1], whole.tokens[at]);
            for (int mode = LS_DECODE_SELF_SPECULATIVE; mode <= LS_DECODE_PROMPT_LOOKUP; mode++) {
                options.mode = (ls_decode_mode)mode;
                options.exit_layer = 3;
                options.draft_tokens = d;
                options.max_new_tokens = 40;
                generate(&bench, &fast, prompt, PROMPT, &options);
                same_text(&plain, &fast, "end of text", mode, d);
                assert_string_equal(fast.result.finish_reason, "end_of_text");
                inside_drafts += fast.result.accepted + fast.result.rounds > fast.result.count;
                options.max_new_tokens = at + 1;
                options.end_of_text = -1;
                generate(&bench, &fast, prompt, PROMPT, &options);
                assert_int_equal(fast.result.count, at + 1);
                assert_memory_equal(fast.tokens, whole.tokens, sizeof(int32_t) * (size_t)(at + 1));
                assert_string_equal(fast.result.finish_reason, "length");
                options.end_of_text = whole.tokens[at];
            }
        }
    assert_true(inside_drafts > 10); /* end of text was drafted and accepted */
    small_model_close(&bench);
}

static void a_listener_ends_the_text_behind_its_round(void **state)
{
    (void)state;
    small_model bench;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
    watched_run whole, run;
    ls_decode_options options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, 40);
    generate(&bench, &whole, prompt, PROMPT, &options);
    enough = 7;
    generate(&bench, &run, prompt, PROMPT, &options);
    assert_int_equal(run.result.count, 7);
    assert_string_equal(run.result.finish_reason, "stopped");
    options = greedy(LS_DECODE_SELF_SPECULATIVE, 2, 5, 40);
    generate(&bench, &run, prompt, PROMPT, &options);
    assert_in_range(run.result.count, 7, 7 + 5);
    assert_memory_equal(run.tokens, whole.tokens, sizeof *run.tokens * (size_t)run.result.count);
    assert_string_equal(run.result.finish_reason, "stopped");
    enough = 0;
    small_model_close(&bench);
}

static void context_ends_the_text(void **state)
{
    (void)state;
    for (int64_t capacity = PROMPT; capacity < PROMPT + 24; capacity++) {
        small_model bench;
        watched_run plain, fast;
        small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, capacity);
        ls_decode_options options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, 100);
        generate(&bench, &plain, prompt, PROMPT, &options);
        assert_int_equal(plain.result.count, capacity - PROMPT);
        assert_string_equal(plain.result.finish_reason, "context");
        if (capacity > PROMPT) { /* what was asked for fits exactly */
            options.max_new_tokens = capacity - PROMPT;
            generate(&bench, &fast, prompt, PROMPT, &options);
            assert_string_equal(fast.result.finish_reason, "length");
        }
        options = greedy(LS_DECODE_SELF_SPECULATIVE, 3, 20, 100);
        generate(&bench, &fast, prompt, PROMPT, &options);
        same_text(&plain, &fast, "context", 3, 20);
        assert_string_equal(fast.result.finish_reason, "context");
        small_model_close(&bench);
    }
}

/* Nothing is drafted that could not be emitted. */
static void last_rounds_draft_no_more_than_fits(void **state)
{
    (void)state;
    small_model bench;
    watched_run fast;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
    for (int64_t most = 1; most <= 6; most++) {
        ls_decode_options options = greedy(LS_DECODE_SELF_SPECULATIVE, 3, 40, most);
        generate(&bench, &fast, prompt, PROMPT, &options);
        assert_true(fast.result.drafted <= (most - 1) * fast.result.rounds);
        if (most == 1) assert_int_equal(fast.result.drafted, 0);
    }
    small_model_close(&bench);
}

static void confidence_saves_drafts_and_changes_no_text(void **state)
{
    (void)state;
    small_model bench;
    watched_run plain, fast;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
    ls_decode_options options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, 60);
    generate(&bench, &plain, prompt, PROMPT, &options);
    int64_t last = INT64_MAX;
    const double thresholds[] = {0.0, 0.3, 0.6, 0.9, 1.0};
    for (int i = 0; i < 5; i++) {
        options = greedy(LS_DECODE_SELF_SPECULATIVE, 3, 6, 60);
        options.draft_confidence = thresholds[i];
        generate(&bench, &fast, prompt, PROMPT, &options);
        same_text(&plain, &fast, "confidence", 3, 6);
        assert_true(fast.result.drafted < last);
        last = fast.result.drafted;
    }
    small_model_close(&bench);
}

/* Same seed, same text, whatever went before; other seed, other text. */
static void sampling_depends_on_the_seed_alone(void **state)
{
    (void)state;
    small_model bench;
    watched_run first, again, other;
    small_model_open(&bench, LS_DEVICE_CPU, LS_BF16, L, V, 1, CONTEXT);
    for (int mode = 0; ls_decode_mode_names[mode] != NULL; mode++) {
        ls_decode_options options = greedy((ls_decode_mode)mode, 3, 4, 40);
        options.sampling = (ls_sampling){0.9, 20, 0.95, 5};
        generate(&bench, &first, prompt, PROMPT, &options);
        generate(&bench, &again, prompt, PROMPT, &options);
        same_text(&first, &again, "same seed", 3, 4);
        options.sampling.seed = 6;
        generate(&bench, &other, prompt, PROMPT, &options);
        assert_memory_not_equal(first.tokens, other.tokens, sizeof(int32_t) * 40);
    }
    small_model_close(&bench);
}

/* The exact distribution of the token after the prompt. */
static void exact_next(double *probability, small_model *bench, int64_t count, const ls_sampling *sampling)
{
    ls_decode *decode = NULL;
    float hidden[PROMPT * SMALL_HIDDEN], logits[V];
    ls_candidate scratch[V];
    assert_int_equal(ls_decode_create(&decode, &bench->model, count, count), LS_OK);
    assert_int_equal(ls_decode_embed(decode, hidden, prompt, count), LS_OK);
    assert_int_equal(ls_decode_layers(decode, hidden, 0, (int)bench->model.config.num_hidden_layers, NULL, 0, count),
                     LS_OK);
    assert_int_equal(ls_decode_logits(decode, logits, hidden + (count - 1) * SMALL_HIDDEN, 1), LS_OK);
    ls_decode_destroy(decode);
    ls_distribution(probability, logits, V, sampling, scratch);
}

/* 100,000 texts: their first tokens, drafted by one layer of three and judged by all, follow the full model. The draft
 * alone does not, so the statistic can tell. */
static void sampled_tokens_follow_the_full_model(void **state)
{
    (void)state;
    enum { TEXTS = 100000, COUNT = 4 };
    small_model bench;
    small_model_open(&bench, LS_DEVICE_CPU, LS_BF16, 3, V, 1, COUNT + 2);
    ls_decode_options options = greedy(LS_DECODE_SELF_SPECULATIVE, 1, 1, 2);
    options.sampling = (ls_sampling){1.3, 60, 0.98, 0};
    double exact[V], deviation[2];
    exact_next(exact, &bench, COUNT, &options.sampling);
    for (int early = 0; early < 2; early++) {
        const int texts = early == 1 ? TEXTS / 10 : TEXTS;
        int64_t count[V] = {0};
        chi_square chi = {0};
        if (early == 1) options.mode = LS_DECODE_EARLY_EXIT, options.max_new_tokens = 1;
        for (options.sampling.seed = 0; options.sampling.seed < (uint64_t)texts; options.sampling.seed++) {
            int32_t tokens[2];
            ls_decode_result result;
            assert_int_equal(ls_decoder_generate(bench.decoder, &result, tokens, prompt, COUNT, &options, NULL, NULL),
                             LS_OK);
            count[tokens[0]]++;
        }
        chi_square_add(&chi, count, exact, V, texts);
        deviation[early] = chi_square_deviation(&chi);
    }
    small_model_close(&bench);
    print_message("verified %+.2f sd, draft alone %+.2f sd\n", deviation[0], deviation[1]);
    assert_true(deviation[0] < 5.0);
    assert_true(deviation[1] > 20.0);
}

/* top_k = 1 at any temperature is greedy, drafts included. */
static void sampling_among_one_is_greedy(void **state)
{
    (void)state;
    small_model bench;
    watched_run plain, fast;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
    ls_decode_options options = greedy(LS_DECODE_AUTOREGRESSIVE, 0, 0, 40);
    generate(&bench, &plain, prompt, PROMPT, &options);
    options = greedy(LS_DECODE_SELF_SPECULATIVE, 2, 5, 40);
    options.sampling = (ls_sampling){1.7, 1, 1.0, 3};
    generate(&bench, &fast, prompt, PROMPT, &options);
    same_text(&plain, &fast, "top-k 1", 2, 5);
    small_model_close(&bench);
}

static void refuse(small_model *bench, const int32_t *tokens, int64_t count, const ls_decode_options *options,
                   const char *says)
{
    watched_run run;
    assert_int_equal(ls_decoder_generate(bench->decoder, &run.result, run.tokens, tokens, count, options, NULL, NULL),
                     LS_BAD_INPUT);
    if (strstr(ls_error_text(), says) == NULL) fail_msg("'%s' does not say '%s'", ls_error_text(), says);
    ls_error_clear();
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    small_model bench;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, PROMPT - 1);
    ls_decode_options good = greedy(LS_DECODE_SELF_SPECULATIVE, 2, 3, 10), bad;
    refuse(&bench, prompt, 0, &good, "prompt is empty");
    refuse(&bench, prompt, PROMPT, &good, "more than the context of 19");
    const int32_t beyond[] = {1, V}, negative[] = {-1};
    refuse(&bench, beyond, 2, &good, "vocabulary");
    refuse(&bench, negative, 1, &good, "vocabulary");
    for (int exit = -1; exit <= L + 1; exit++) {
        if (exit >= 1 && exit < L) continue;
        bad = greedy(LS_DECODE_SELF_SPECULATIVE, exit, 3, 10);
        refuse(&bench, prompt, 4, &bad, "1..4");
        bad.mode = LS_DECODE_EARLY_EXIT;
        refuse(&bench, prompt, 4, &bad, "1..4");
    }
    bad = greedy(LS_DECODE_SELF_SPECULATIVE, 2, 0, 10);
    refuse(&bench, prompt, 4, &bad, "draft");
    bad = good;
    bad.draft_confidence = 1.5;
    refuse(&bench, prompt, 4, &bad, "confidence");
    bad = good;
    bad.sampling.top_p = 0.0;
    refuse(&bench, prompt, 4, &bad, "top-p");
    small_model_close(&bench);

    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, 1, V, 1, CONTEXT);
    refuse(&bench, prompt, 4, &good, "one layer");
    small_model_close(&bench);
}

static void damaged_weights_are_named(void **state)
{
    (void)state;
    small_model bench;
    watched_run run;
    small_model_open(&bench, LS_DEVICE_CPU, LS_F32, L, V, 1, CONTEXT);
    float *weights = bench.model.weights;
    for (int64_t i = 0; i < SMALL_HIDDEN; i++) weights[bench.model.table.final_norm + i] = (float)NAN;
    for (int temperature = 0; temperature <= 1; temperature++) {
        ls_decode_options options = greedy(LS_DECODE_SELF_SPECULATIVE, 2, 3, 10);
        options.sampling.temperature = temperature;
        assert_int_equal(ls_decoder_generate(bench.decoder, &run.result, run.tokens, prompt, 4, &options, NULL, NULL),
                         LS_NOT_FINITE);
        ls_error_clear();
    }
    small_model_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_is_lossless_on_cpu),
        cmocka_unit_test(greedy_is_lossless_on_reference),
        cmocka_unit_test(shortest_prompts),
        cmocka_unit_test(long_prompts),
        cmocka_unit_test(early_exit_is_the_truncated_model),
        cmocka_unit_test(texts_end_where_they_must),
        cmocka_unit_test(a_listener_ends_the_text_behind_its_round),
        cmocka_unit_test(context_ends_the_text),
        cmocka_unit_test(last_rounds_draft_no_more_than_fits),
        cmocka_unit_test(confidence_saves_drafts_and_changes_no_text),
        cmocka_unit_test(sampling_depends_on_the_seed_alone),
        cmocka_unit_test(sampled_tokens_follow_the_full_model),
        cmocka_unit_test(sampling_among_one_is_greedy),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(damaged_weights_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Losses by exit against a second way to the same numbers: layer by layer through the decoder, cross-entropy in double.
 */
#include "small_model.h"

#include "eval/exit_loss.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { L = 4, V = BYTES_VOCABULARY };

static const int64_t lengths[] = {30, 1, 47, 12, 25};
enum { DOCUMENTS = 5, TOKENS = 30 + 1 + 47 + 12 + 25 + DOCUMENTS };

typedef struct loss_fixture {
    small_model small;
    ls_token_file file;
    char path[64];
} loss_fixture;

static void open_fixture(loss_fixture *fixture, ls_dtype dtype)
{
    small_model_open(&fixture->small, LS_DEVICE_REFERENCE, dtype, L, V, 1, SMALL_CONTEXT);
    (void)snprintf(fixture->path, sizeof fixture->path, "exit_loss_%d.h5", (int)getpid());
    token_file_create(&fixture->file, fixture->path, lengths, DOCUMENTS);
    assert_int_equal(fixture->file.token_count[LS_SPLIT_VALIDATION], TOKENS);
}

static void close_fixture(loss_fixture *fixture)
{
    ls_token_file_close(&fixture->file);
    (void)unlink(fixture->path);
    small_model_close(&fixture->small);
}

static int64_t losses(double *loss, loss_fixture *fixture, const ls_exit_loss_options *options, bool recompute)
{
    ls_training *training = NULL;
    int64_t tokens = 0;
    assert_int_equal(ls_training_create(&training, &fixture->small.model, options->B, options->T, recompute), LS_OK);
    const ls_status status = ls_exit_loss(loss, &tokens, training, &fixture->small.model, &fixture->file, options);
    if (status != LS_OK) fail_msg("%s", ls_error_text());
    ls_training_destroy(training);
    return tokens;
}

/* Adds the loss of every exit over tokens start+first..start+T given those from `start` on. */
static void add_some_by_layers(double *sum, const loss_fixture *fixture, int64_t start, int64_t first, int64_t T)
{
    const ls_model *model = &fixture->small.model;
    const int64_t C = model->config.hidden_size;
    int32_t tokens[SMALL_CONTEXT + 1];
    float *hidden = calloc((size_t)(T * C), sizeof *hidden), logits[V];
    ls_decode *decode = NULL;
    assert_int_equal(ls_decode_create(&decode, model, T, T), LS_OK);
    assert_int_equal(ls_token_file_read(&fixture->file, LS_SPLIT_VALIDATION, start, T + 1, tokens), LS_OK);
    assert_int_equal(ls_decode_embed(decode, hidden, tokens, T), LS_OK);
    for (int l = 0; l < L; l++) {
        assert_int_equal(ls_decode_layers(decode, hidden, l, l + 1, NULL, 0, T), LS_OK);
        for (int64_t t = first - 1; t < T; t++) {
            assert_int_equal(ls_decode_logits(decode, logits, hidden + t * C, 1), LS_OK);
            sum[l] -= log(ls_softmax_at(logits, V, tokens[t + 1]));
        }
    }
    ls_decode_destroy(decode);
    free(hidden);
}

static void add_by_layers(double *sum, const loss_fixture *fixture, int64_t start, int64_t T)
{
    add_some_by_layers(sum, fixture, start, 1, T);
}

static void assert_close(const double *loss, const double *sum, int64_t tokens)
{
    for (int l = 0; l < L; l++)
        if (!(fabs(loss[l] - sum[l] / (double)tokens) <= 2e-5))
            fail_msg("exit %d: loss %.6f, by layers %.6f", l, loss[l], sum[l] / (double)tokens);
    /* Exits that could be taken for each other would prove nothing. */
    for (int l = 1; l < L; l++) assert_true(fabs(loss[l] - loss[l - 1]) > 1e-4);
}

static void every_token_is_predicted_once_at_every_exit(void **state)
{
    (void)state;
    loss_fixture fixture;
    open_fixture(&fixture, LS_F32);
    const int64_t T = 16;
    double sum[L] = {0}, loss[L];
    for (int64_t start = 0; start + 1 < TOKENS; start += T)
        add_by_layers(sum, &fixture, start, start + T < TOKENS ? T : TOKENS - 1 - start);
    for (int64_t B = 1; B <= 20; B += 3) {
        const ls_exit_loss_options options = {.split = LS_SPLIT_VALIDATION, .B = B, .T = T};
        const int64_t tokens = losses(loss, &fixture, &options, B % 2 == 0);
        assert_int_equal(tokens, TOKENS - 1);
        assert_close(loss, sum, tokens);
    }
    close_fixture(&fixture);
}

static void the_same_call_gives_the_same_bits(void **state)
{
    (void)state;
    loss_fixture fixture;
    open_fixture(&fixture, LS_BF16);
    const ls_exit_loss_options options = {.split = LS_SPLIT_VALIDATION, .B = 3, .T = 16};
    double first[L], second[L];
    (void)losses(first, &fixture, &options, true);
    (void)losses(second, &fixture, &options, true);
    assert_memory_equal(first, second, sizeof first);
    close_fixture(&fixture);
}

static void some_samples_are_spread_over_the_split(void **state)
{
    (void)state;
    loss_fixture fixture;
    open_fixture(&fixture, LS_F32);
    const ls_exit_loss_options options = {.split = LS_SPLIT_VALIDATION, .B = 2, .T = 16, .max_samples = 3};
    double sum[L] = {0}, loss[L];
    const int64_t whole = (TOKENS - 1) / 16; /* 7: samples 0, 2 and 4 */
    for (int64_t i = 0; i < 3; i++) add_by_layers(sum, &fixture, i * whole / 3 * 16, 16);
    assert_int_equal(losses(loss, &fixture, &options, true), 48);
    assert_close(loss, sum, 48);
    close_fixture(&fixture);
}

/* Within documents, a sample that holds all of them is as good as each document on its own. */
static void documents_do_not_see_each_other(void **state)
{
    (void)state;
    loss_fixture fixture;
    open_fixture(&fixture, LS_F32);
    const ls_exit_loss_options options = {.split = LS_SPLIT_VALIDATION, .B = 1, .T = TOKENS - 1, .document_mask = true};
    double sum[L] = {0}, loss[L];
    const int64_t *start = fixture.file.documents[LS_SPLIT_VALIDATION];
    assert_int_equal(fixture.file.document_count[LS_SPLIT_VALIDATION], DOCUMENTS);
    for (int i = 0; i < DOCUMENTS; i++) add_by_layers(sum, &fixture, start[i], start[i + 1] - start[i] - 1);
    assert_int_equal(losses(loss, &fixture, &options, false), TOKENS - DOCUMENTS);
    assert_close(loss, sum, TOKENS - DOCUMENTS);
    close_fixture(&fixture);
}

/* Of records, whatever shares a sample: each completion after its own prompt, and no prompt. */
static void only_completions_count(void **state)
{
    (void)state;
    static const int64_t given[] = {12, 1, 30, 3, 20, 7}, learnt[] = {3, 5, 9, 1, 10, 2};
    enum { RECORDS = 6 };
    loss_fixture fixture;
    small_model_open(&fixture.small, LS_DEVICE_REFERENCE, LS_F32, L, V, 1, SMALL_CONTEXT);
    (void)snprintf(fixture.path, sizeof fixture.path, "exit_loss_%d.h5", (int)getpid());
    record_file_create(&fixture.file, fixture.path, given, learnt, RECORDS);
    double sum[L] = {0}, loss[L];
    int64_t tokens = 0;
    for (int i = 0; i < RECORDS; i++) {
        const int64_t start = fixture.file.documents[LS_SPLIT_VALIDATION][i];
        add_some_by_layers(sum, &fixture, start, given[i], given[i] + learnt[i]);
        tokens += learnt[i] + 1;
    }
    for (int64_t B = 1; B <= 3; B++) {
        for (int64_t T = 40; T <= 200; T += 80) {
            const ls_exit_loss_options options = {.split = LS_SPLIT_VALIDATION, .B = B, .T = T, .document_mask = true};
            assert_int_equal(losses(loss, &fixture, &options, B % 2 == 0), tokens);
            assert_close(loss, sum, tokens);
        }
    }
    close_fixture(&fixture);
}

static void empty_split_is_refused(void **state)
{
    (void)state;
    loss_fixture fixture;
    open_fixture(&fixture, LS_F32);
    ls_training *training = NULL;
    assert_int_equal(ls_training_create(&training, &fixture.small.model, 1, 8, true), LS_OK);
    const ls_exit_loss_options options = {.split = LS_SPLIT_VALIDATION, .B = 1, .T = 8};
    double loss[L];
    int64_t tokens;
    ls_token_file none = fixture.file;
    none.token_count[LS_SPLIT_VALIDATION] = 1;
    assert_int_equal(ls_exit_loss(loss, &tokens, training, &fixture.small.model, &none, &options), LS_BAD_INPUT);
    assert_non_null(strstr(ls_error_text(), fixture.path));
    ls_error_clear();
    ls_training_destroy(training);
    close_fixture(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_is_predicted_once_at_every_exit),
        cmocka_unit_test(the_same_call_gives_the_same_bits),
        cmocka_unit_test(some_samples_are_spread_over_the_split),
        cmocka_unit_test(documents_do_not_see_each_other),
        cmocka_unit_test(only_completions_count),
        cmocka_unit_test(empty_split_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

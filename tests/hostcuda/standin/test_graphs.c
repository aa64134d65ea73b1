/* What a GPU records and replays: ops, and rounds of decoding, whose tokens must be those of the CPU. Run on the
 * stand-ins; that it can fail is queue_mutations.py's to prove. */
#include "small_model.h"

#include <stdlib.h>
#include <string.h>

enum { COUNT = 1000, LAYERS = 3, VOCABULARY = 31, PROMPT = 121, NEW = 14 };

static void ok(ls_status status)
{
    if (status != LS_OK) fail_msg("%s", ls_error_text());
}

static float *on_device(ls_exec *exec, int64_t count)
{
    void *block;
    ok(ls_exec_allocate(exec, &block, sizeof(float) * (size_t)count, "a test"));
    return block;
}

static void expect(ls_exec *exec, const float *device, float first)
{
    float values[COUNT];
    ok(ls_exec_download(exec, values, device, sizeof values));
    for (int i = 0; i < COUNT; i++) assert_true(values[i] == first + (float)i);
}

static void set(ls_exec *exec, float *device, float first)
{
    float values[COUNT];
    for (int i = 0; i < COUNT; i++) values[i] = first + (float)i;
    ok(ls_exec_upload(exec, device, values, sizeof values));
}

/* Nothing runs while it is recorded; a replay works on what memory holds then, in turn with other ops. */
static void a_replay_works_on_what_is_there(void **state)
{
    (void)state;
    ls_exec exec;
    ls_recording *recording = NULL;
    ok(ls_exec_create(&exec, LS_DEVICE_CUDA, 1));
    float *const x = on_device(&exec, COUNT), *const y = on_device(&exec, COUNT);
    set(&exec, x, 1.0f);
    set(&exec, y, 2.0f);
    ok(exec.recorder->begin(&exec));
    exec.ops->convert(&exec, y, LS_F32, x, LS_F32, COUNT);
    ok(exec.recorder->end(&exec, &recording));
    expect(&exec, y, 2.0f);
    for (int i = 3; i < 6; i++) {
        set(&exec, x, (float)i);
        ok(exec.recorder->replay(&exec, recording));
        set(&exec, x, 0.0f);
        expect(&exec, y, (float)i);
    }
    exec.recorder->forget(&exec, recording);
    ls_exec_free(&exec, x, sizeof(float) * COUNT);
    ls_exec_free(&exec, y, sizeof(float) * COUNT);
    ls_exec_destroy(&exec);
}

static void a_recording_falls_with_its_scratch(void **state)
{
    (void)state;
    const int64_t small = 5000, large = 5000000;
    ls_exec exec;
    ls_recording *recording = NULL;
    ok(ls_exec_create(&exec, LS_DEVICE_CUDA, 1));
    float *const x = on_device(&exec, large);
    double *const sum = (double *)on_device(&exec, 2);
    exec.ops->sum_of_squares(&exec, sum, x, small);
    ok(exec.recorder->begin(&exec));
    exec.ops->sum_of_squares(&exec, sum, x, small);
    ok(exec.recorder->end(&exec, &recording));
    assert_true(exec.recorder->stands(&exec, recording));
    exec.ops->sum_of_squares(&exec, sum, x, large);
    assert_false(exec.recorder->stands(&exec, recording));
    exec.recorder->forget(&exec, recording);
    ls_exec_free(&exec, x, sizeof(float) * (size_t)large);
    ls_exec_free(&exec, sum, sizeof(double));
    ls_exec_destroy(&exec);
}

/* Copies, waits and growing scratch end in a sentence and leave no recording behind. */
static void a_recording_takes_ops_alone(void **state)
{
    (void)state;
    for (int what = 0; what < 4; what++) {
        ls_exec exec;
        ls_recording *recording = NULL;
        float values[COUNT] = {0};
        ok(ls_exec_create(&exec, LS_DEVICE_CUDA, 1));
        float *const x = on_device(&exec, COUNT);
        double *const sum = (double *)on_device(&exec, 2);
        ok(exec.recorder->begin(&exec));
        if (what == 0) assert_int_equal(ls_exec_upload(&exec, x, values, sizeof values), LS_INTERNAL);
        if (what == 1) assert_int_equal(ls_exec_download(&exec, values, x, sizeof values), LS_INTERNAL);
        if (what == 2) assert_int_equal(ls_exec_status(&exec), LS_INTERNAL);
        if (what == 3) exec.ops->sum_of_squares(&exec, sum, x, COUNT);
        assert_int_equal(ls_exec_failed(&exec), LS_INTERNAL);
        assert_int_equal(exec.recorder->end(&exec, &recording), LS_INTERNAL);
        assert_null(recording);
        ls_exec_free(&exec, x, sizeof(float) * COUNT);
        ls_exec_free(&exec, sum, 2 * sizeof(float));
        ls_exec_destroy(&exec);
    }
}

static void generate(int32_t *tokens, ls_decode_result *result, small_model *small, const ls_decode_options *options,
                     int64_t length)
{
    int32_t prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * i + 3) % 11 + (int32_t)(options->sampling.seed % 7);
    ok(ls_decoder_generate(small->decoder, result, tokens, prompt, length, options, NULL, NULL));
}

/* Texts of two lengths, one that grows over the border of a split of attention at 128, and of several settings, so that
 * a shape meets recordings of others and of other positions. */
static void rounds_are_the_same(void **state)
{
    static const ls_decode_options all[] = {
        {.mode = LS_DECODE_AUTOREGRESSIVE},
        {.mode = LS_DECODE_EARLY_EXIT, .exit_layer = 1},
        {.mode = LS_DECODE_EARLY_EXIT, .exit_layer = 2},
        {.mode = LS_DECODE_SELF_SPECULATIVE, .exit_layer = 1, .draft_tokens = 2, .draft_confidence = 0.3},
        {.mode = LS_DECODE_SELF_SPECULATIVE, .exit_layer = 2, .draft_tokens = 3},
        {.mode = LS_DECODE_PROMPT_LOOKUP, .draft_tokens = 3},
        {.mode = LS_DECODE_AUTOREGRESSIVE, .sampling = {.temperature = 0.9, .seed = 5}},
        {.mode = LS_DECODE_AUTOREGRESSIVE, .sampling = {.temperature = 0.9, .seed = 12}},
    };
    (void)state;
    small_model cpu, gpu;
    small_model_open(&cpu, LS_DEVICE_CPU, LS_F32, LAYERS, VOCABULARY, 1, PROMPT + NEW);
    small_model_open(&gpu, LS_DEVICE_CUDA, LS_F32, LAYERS, VOCABULARY, 1, PROMPT + NEW);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (int64_t length = PROMPT; length > 0; length -= PROMPT - 7) {
            ls_decode_options options = all[i];
            int32_t want[NEW], got[NEW];
            ls_decode_result here, there;
            options.max_new_tokens = NEW;
            options.end_of_text = -1;
            options.sampling.top_p = 1.0;
            generate(want, &here, &cpu, &options, length);
            generate(got, &there, &gpu, &options, length);
            assert_int_equal(there.count, here.count);
            assert_int_equal(there.rounds, here.rounds);
            assert_memory_equal(got, want, sizeof want);
        }
    small_model_close(&gpu);
    small_model_close(&cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_works_on_what_is_there),
        cmocka_unit_test(a_recording_falls_with_its_scratch),
        cmocka_unit_test(a_recording_takes_ops_alone),
        cmocka_unit_test(rounds_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

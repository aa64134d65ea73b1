/* Moments in the host's memory give the bits of moments on the device. Run on the stand-ins, whose streams go on in an
 * order that the environment chooses (HOSTCUDA_STREAMS): a wait that is left out shows, as queue_mutations.py proves.
 */
#include "core/random.h"
#include "optim/optimizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { STEPS = 5, REPLACED = 3 };

typedef struct outcome {
    float *block[LS_KEPT_BLOCKS];
    unsigned char *weights;
    size_t block_bytes, weight_bytes;
} outcome;

static void ok(ls_status status)
{
    if (status != LS_OK) fail_msg("%s", ls_error_text());
}

static void fill(float *values, int64_t count, int block)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)ls_random_normal(11, LS_STREAM_TEST, (uint32_t)block, (uint32_t)i, 0);
}

/* Before step REPLACED the first moments are replaced, as by a checkpoint. */
static void train(ls_optimizer *optimizer, float *values)
{
    const int64_t count = optimizer->model->table.elements;
    const size_t bytes = sizeof *values * (size_t)count;
    ls_exec *exec = optimizer->model->exec;
    for (int step = 0; step < STEPS; step++) {
        double norm;
        if (step == REPLACED) {
            fill(values, count, STEPS);
            ok(ls_exec_upload(exec, ls_optimizer_base(optimizer, LS_KEPT_MOMENT1), values, bytes));
        }
        fill(values, count, step);
        ok(ls_exec_upload(exec, optimizer->gradients, values, bytes));
        ok(ls_optimizer_step(optimizer, 0.01, &norm));
    }
}

static outcome run(ls_dtype dtype, ls_offload offload, int64_t lane_elements)
{
    ls_model_config config = {.hidden_size = 24,
                              .intermediate_size = 40,
                              .num_hidden_layers = 2,
                              .num_attention_heads = 3,
                              .num_key_value_heads = 1,
                              .vocab_size = 37,
                              .max_position_embeddings = 16,
                              .rope_theta = 10000,
                              .rms_norm_eps = 1e-5,
                              .initializer_range = 0.02};
    const ls_optimizer_options options = {.beta1 = 0.9,
                                          .beta2 = 0.95,
                                          .epsilon = 1e-8,
                                          .weight_decay = 0.1,
                                          .clip_norm = 1.0,
                                          .offload = offload,
                                          .lane_elements = lane_elements};
    ls_exec exec;
    ls_model model;
    ls_optimizer optimizer;
    ok(ls_model_config_check(&config));
    ok(ls_exec_create(&exec, LS_DEVICE_CUDA, 1));
    const size_t pinned = exec.pinned_bytes;
    ok(ls_model_create(&model, &exec, &config, dtype));
    ok(ls_optimizer_create(&optimizer, &model, &options));
    ok(ls_optimizer_initialize(&optimizer, 3));
    const size_t elements = (size_t)model.table.elements, bytes = sizeof(float) * elements;
    assert_int_equal(exec.pinned_bytes - pinned, offload == LS_OFFLOAD_MOMENTS ? 2 * bytes : 0);
    outcome out = {.block_bytes = bytes, .weight_bytes = ls_dtype_size(dtype) * elements};
    float *values = malloc(bytes);
    train(&optimizer, values);
    free(values);
    for (int block = LS_KEPT_BLOCKS - 1; block >= 0; block--) { /* moments first: nothing else has waited then */
        out.block[block] = malloc(bytes);
        ok(ls_exec_download(&exec, out.block[block], ls_optimizer_base(&optimizer, (ls_kept_block)block), bytes));
    }
    out.weights = malloc(out.weight_bytes);
    ok(ls_exec_download(&exec, out.weights, model.weights, out.weight_bytes));
    ls_optimizer_destroy(&optimizer);
    ls_model_destroy(&model);
    assert_int_equal(exec.pinned_bytes, pinned);
    ls_exec_destroy(&exec);
    return out;
}

static void release(outcome *o)
{
    for (int block = 0; block < LS_KEPT_BLOCKS; block++) free(o->block[block]);
    free(o->weights);
}

/* One lane, two, one more than there are places, many; the last one is shorter. */
static void test_equal_bits(void **state)
{
    (void)state;
    const int64_t lanes[] = {1 << 20, 7000, 2800, 300};
    for (int type = 0; type < 2; type++) {
        const ls_dtype dtype = type == 0 ? LS_F32 : LS_BF16;
        outcome near = run(dtype, LS_OFFLOAD_NONE, 0);
        for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) {
            outcome far = run(dtype, LS_OFFLOAD_MOMENTS, lanes[i]);
            for (int block = 0; block < LS_KEPT_BLOCKS; block++)
                assert_memory_equal(near.block[block], far.block[block], near.block_bytes);
            assert_memory_equal(near.weights, far.weights, near.weight_bytes);
            release(&far);
        }
        release(&near);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

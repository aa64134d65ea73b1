/* Rotary frequencies against those that Hugging Face's `transformers` 4.47 computes for the same configuration, every
 * seventh of them. Its fp32 power function may round the last place otherwise. */
#include "fixture.h"

#include "model/rotation.h"

#include <math.h>

typedef struct expectation {
    int64_t head_dim;
    double theta;
    ls_rope_scaling scaling;
    int count;
    float frequency[10];
} expectation;

static const expectation EXPECTED[] = {
    {64, 10000.0, {0}, 5, {0x1.000000p+0f, 0x1.111aeep-3f, 0x1.235a72p-6f, 0x1.36d21ap-9f, 0x1.4b96c0p-12f}},
    {80,
     10000.0,
     {.type = LS_ROPE_LINEAR, .factor = 4.0},
     6,
     {0x1.000000p-2f, 0x1.98a136p-5f, 0x1.462122p-7f, 0x1.044918p-9f, 0x1.9f7864p-12f, 0x1.4b96c0p-14f}},
    /* Llama 3.1 8B */
    {128,
     500000.0,
     {LS_ROPE_LLAMA3, 8.0, 1.0, 4.0, 8192},
     10,
     {0x1.000000p+0f, 0x1.e788c2p-3f, 0x1.d03ccep-5f, 0x1.ba0dd8p-7f, 0x1.a4ee40p-9f, 0x1.90d10cp-14f, 0x1.7da9e8p-16f,
      0x1.6b6d0ep-18f, 0x1.5a0f4ep-20f, 0x1.4985fep-22f}},
    /* Llama 3.2 1B */
    {64,
     500000.0,
     {LS_ROPE_LLAMA3, 32.0, 1.0, 4.0, 8192},
     5,
     {0x1.000000p+0f, 0x1.d03ccep-5f, 0x1.a4ee40p-9f, 0x1.7da9e8p-18f, 0x1.5a0f4ep-22f}},
};

static void frequencies_of_known_models(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof EXPECTED / sizeof EXPECTED[0]; c++) {
        const expectation *want = &EXPECTED[c];
        ls_model_config config = small_config(1, true);
        config.head_dim = want->head_dim;
        config.rope_theta = want->theta;
        config.rope_scaling = want->scaling;
        assert_ok(ls_model_config_check(&config));
        float frequency[LS_HEAD_DIM_MAX / 2];
        ls_rotation_frequencies(frequency, &config);
        for (int i = 0; i < want->count; i++)
            if (!(fabs((double)frequency[7 * i] / (double)want->frequency[i] - 1.0) <= 0x1p-22))
                fail_msg("case %zu, pair %d: %a instead of %a", c, 7 * i, (double)frequency[7 * i],
                         (double)want->frequency[i]);
    }
}

/* Between the two wavelengths the frequency is a mixture: (1 - s) f / 8 + s f. */
static void frequencies_between(void **state)
{
    (void)state;
    ls_model_config config = small_config(1, true);
    config.head_dim = 128;
    config.rope_theta = 500000.0;
    float plain[LS_HEAD_DIM_MAX / 2], stretched[LS_HEAD_DIM_MAX / 2];
    ls_rotation_frequencies(plain, &config);
    config.rope_scaling = (ls_rope_scaling){LS_ROPE_LLAMA3, 8.0, 1.0, 4.0, 8192};
    ls_rotation_frequencies(stretched, &config);
    int between = 0;
    for (int i = 0; i < 64; i++) {
        const double f = (double)plain[i], turns = 8192.0 * f / (2.0 * acos(-1.0));
        const double s = turns < 1.0 ? 0.0 : turns > 4.0 ? 1.0 : (turns - 1.0) / 3.0;
        between += s > 0.0 && s < 1.0;
        assert_true(fabs((double)stretched[i] / ((1.0 - s) * f / 8.0 + s * f) - 1.0) <= 1e-6);
    }
    assert_true(between >= 4);
}

/* The angle is the fp32 product: at a far position that differs from the exact one. */
static void tables_round_angles_like_fp32(void **state)
{
    (void)state;
    ls_model_config config = small_config(1, true);
    ls_exec exec;
    ls_model model;
    config.max_position_embeddings = 70001;
    config.rope_theta = 10.0;
    assert_ok(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 1));
    assert_ok(ls_model_create(&model, &exec, &config, LS_F32));
    float frequency[LS_HEAD_DIM_MAX / 2];
    ls_rotation_frequencies(frequency, &config);
    const float angle = 70000.0f * frequency[1];
    const int64_t at = 70000 * (config.head_dim / 2) + 1;
    assert_true(model.rope_cos[at] == (float)cos((double)angle) && model.rope_sin[at] == (float)sin((double)angle));
    assert_true(model.rope_sin[at] != (float)sin(70000.0 / sqrt(10.0)));
    ls_model_destroy(&model);
    ls_exec_destroy(&exec);
}

static void scaling_refusals(void **state)
{
    (void)state;
    static const struct {
        ls_rope_scaling scaling;
        const char *sentence;
    } cases[] = {
        {{.type = 3, .factor = 2.0}, "type 3"},
        {{.type = LS_ROPE_LINEAR, .factor = 0.0}, "factor 0"},
        {{LS_ROPE_LLAMA3, NAN, 1.0, 4.0, 8192}, "factor nan"},
        {{LS_ROPE_LLAMA3, 8.0, 4.0, 4.0, 8192}, "high_freq_factor 4"},
        {{LS_ROPE_LLAMA3, 8.0, 0.0, 4.0, 8192}, "low_freq_factor 0"},
        {{LS_ROPE_LLAMA3, 8.0, 1.0, 4.0, 0}, "original_max_position_embeddings 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ls_model_config config = small_config(1, true);
        config.rope_scaling = cases[i].scaling;
        assert_fails(ls_model_config_check(&config), LS_BAD_INPUT, cases[i].sentence);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_of_known_models),
        cmocka_unit_test(frequencies_between),
        cmocka_unit_test(tables_round_angles_like_fp32),
        cmocka_unit_test(scaling_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

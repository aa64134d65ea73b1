/* Decoding over the cache: equal to the training forward, rows independent, layers and positions composable. */
#include "fixture.h"

#include "model/decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POSITIONS 40

static const struct {
    ls_device device;
    ls_dtype dtype;
} variants[] = {
    {LS_DEVICE_REFERENCE, LS_F32}, {LS_DEVICE_REFERENCE, LS_BF16}, {LS_DEVICE_CPU, LS_F32}, {LS_DEVICE_CPU, LS_BF16}};

#define EACH_VARIANT(v) (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++)

typedef struct session {
    trial t;
    ls_decode *decode;
    float *hidden; /* [POSITIONS,C] */
    float *logits; /* [POSITIONS,V] */
    int64_t C, V;
    int L;
} session;

static void session_create(session *s, ls_device device, ls_dtype dtype)
{
    ls_model_config config = small_config(4, true);
    config.hidden_size = 72; /* long enough sums that their order shows */
    config.intermediate_size = 104;
    config.head_dim = 8;
    config.initializer_range = 0.12;
    config.vocab_size = 67;
    config.attention_bias = true;
    config.rope_scaling = (ls_rope_scaling){LS_ROPE_LLAMA3, 4.0, 1.0, 4.0, 32};
    trial_create(&s->t, device, dtype, &config, 1, POSITIONS);
    assert_ok(ls_decode_create(&s->decode, &s->t.model, POSITIONS, POSITIONS));
    s->C = config.hidden_size;
    s->V = config.vocab_size;
    s->L = 4;
    s->hidden = calloc((size_t)(POSITIONS * s->C), sizeof *s->hidden);
    s->logits = calloc((size_t)(POSITIONS * s->V), sizeof *s->logits);
}

static void session_destroy(session *s)
{
    ls_decode_destroy(s->decode);
    trial_destroy(&s->t);
    free(s->hidden);
    free(s->logits);
}

/* Rows `first`.. of the text through layers [0,last): hidden and logits of those positions. */
static void advance(session *s, int64_t first, int64_t count, int last)
{
    float *hidden = s->hidden + first * s->C;
    assert_ok(ls_decode_embed(s->decode, hidden, s->t.tokens + first, count));
    assert_ok(ls_decode_layers(s->decode, hidden, 0, last, NULL, first, count));
    assert_ok(ls_decode_logits(s->decode, s->logits + first * s->V, hidden, count));
}

static double cross_entropy(const float *logits, int32_t target, int64_t V)
{
    double sum = 0.0;
    for (int64_t v = 0; v < V; v++) sum += exp((double)logits[v]);
    return log(sum) - (double)logits[target];
}

/* Largest error of the loss at every third position against the training forward stopped after `layers` blocks. */
static double worst_loss_error(session *s, int layers)
{
    double worst = 0.0;
    for (int l = 0; l < s->L; l++) s->t.plan.exit_weight[l] = l == layers - 1 ? 1.0f : 0.0f;
    for (int64_t t = 0; t < POSITIONS; t += 3) {
        const int32_t target = (int32_t)(t * 5 % s->V);
        for (int64_t i = 0; i < POSITIONS; i++) s->t.targets[i] = i == t ? target : -1;
        assert_ok(trial_run(&s->t, false, true));
        const double error = fabs(cross_entropy(s->logits + t * s->V, target, s->V) - s->t.loss[layers - 1]);
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

/* Prefill (17 rows at once: the full product), a draft-sized group, single rows. bf16 rounds the training logits to 8
 * bits, and those here not at all. */
static void logits_equal_the_training_forward(void **state)
{
    (void)state;
    for
        EACH_VARIANT(v)
        {
            session s;
            session_create(&s, variants[v].device, variants[v].dtype);
            for (int layers = 1; layers <= s.L; layers += 3) {
                advance(&s, 0, 17, layers);
                advance(&s, 17, 5, layers);
                for (int64_t t = 22; t < POSITIONS; t++) advance(&s, t, 1, layers);
                const double error = worst_loss_error(&s, layers), bound = variants[v].dtype == LS_F32 ? 1e-5 : 0.1;
                if (!(error <= bound)) fail_msg("variant %zu, %d layers: loss off by %g", v, layers, error);
            }
            session_destroy(&s);
        }
}

/* The same nine positions one by one, all nine, in groups: to the bit, in the hidden states and the logits. */
static void rows_are_independent(void **state)
{
    (void)state;
    for
        EACH_VARIANT(v)
        {
            session s;
            session_create(&s, variants[v].device, variants[v].dtype);
            const size_t hidden_bytes = sizeof(float) * (size_t)(9 * s.C),
                         logit_bytes = sizeof(float) * (size_t)(9 * s.V);
            float *hidden = malloc(hidden_bytes), *logits = malloc(logit_bytes);
            advance(&s, 0, 20, s.L);
            for (int64_t t = 20; t < 29; t++) advance(&s, t, 1, s.L);
            memcpy(hidden, s.hidden + 20 * s.C, hidden_bytes);
            memcpy(logits, s.logits + 20 * s.V, logit_bytes);
            for (int64_t group = 2; group <= 9; group++) {
                for (int64_t t = 20; t < 29; t += group) advance(&s, t, t + group < 29 ? group : 29 - t, s.L);
                assert_true(same_bits(hidden, s.hidden + 20 * s.C, hidden_bytes));
                assert_true(same_bits(logits, s.logits + 20 * s.V, logit_bytes));
            }
            /* And sixteen, of which these are the first nine. */
            advance(&s, 20, 16, s.L);
            assert_true(same_bits(logits, s.logits + 20 * s.V, logit_bytes));
            free(hidden);
            free(logits);
            session_destroy(&s);
        }
}

/* Draft and verification: layers [0,E) row by row, then [E,L) for all rows at once, are layers [0,L). */
static void ranges_compose(void **state)
{
    (void)state;
    for
        EACH_VARIANT(v)
        {
            session s;
            session_create(&s, variants[v].device, variants[v].dtype);
            const size_t bytes = sizeof(float) * (size_t)(9 * s.C);
            float *whole = malloc(bytes), *hidden = s.hidden + 20 * s.C;
            advance(&s, 0, 20, s.L);
            advance(&s, 20, 9, s.L);
            memcpy(whole, hidden, bytes);
            for (int E = 1; E < s.L; E++) {
                for (int64_t t = 20; t < 29; t++) advance(&s, t, 1, E);
                assert_ok(ls_decode_layers(s.decode, hidden, E, s.L, NULL, 20, 9));
                assert_true(same_bits(whole, hidden, bytes));
            }
            free(whole);
            session_destroy(&s);
        }
}

/* Rejected drafts are simply written over: nothing of them stays. */
static void cropping_forgets(void **state)
{
    (void)state;
    for
        EACH_VARIANT(v)
        {
            session s, fresh;
            session_create(&s, variants[v].device, variants[v].dtype);
            session_create(&fresh, variants[v].device, variants[v].dtype);
            advance(&fresh, 0, 20, fresh.L);
            advance(&fresh, 20, 6, fresh.L);
            for (int64_t t = 20; t < 30; t++) s.t.tokens[t] = (s.t.tokens[t] + 1) % (int32_t)s.V;
            advance(&s, 0, 20, s.L);
            advance(&s, 20, 10, s.L);
            memcpy(s.t.tokens, fresh.t.tokens, POSITIONS * sizeof(int32_t));
            advance(&s, 20, 6, s.L);
            assert_true(same_bits(s.logits + 20 * s.V, fresh.logits + 20 * s.V, sizeof(float) * (size_t)(6 * s.V)));
            session_destroy(&s);
            session_destroy(&fresh);
        }
}

/* The state after a text does not depend on how its prefill was cut, up to rounding. */
static void prefill_in_pieces(void **state)
{
    (void)state;
    for
        EACH_VARIANT(v)
        {
            session s;
            session_create(&s, variants[v].device, variants[v].dtype);
            float *expected = malloc(sizeof(float) * (size_t)s.V);
            advance(&s, 0, POSITIONS, s.L);
            memcpy(expected, s.logits + (POSITIONS - 1) * s.V, sizeof(float) * (size_t)s.V);
            advance(&s, 0, 18, s.L);
            advance(&s, 18, POSITIONS - 18, s.L);
            const double error = relative_distance(s.logits + (POSITIONS - 1) * s.V, expected, s.V);
            if (!(error <= (variants[v].dtype == LS_F32 ? 1e-5 : 3e-2))) fail_msg("variant %zu: off by %g", v, error);
            free(expected);
            session_destroy(&s);
        }
}

static void refusals(void **state)
{
    (void)state;
    session s;
    ls_decode *other;
    session_create(&s, LS_DEVICE_REFERENCE, LS_F32);
    assert_fails(ls_decode_create(&other, &s.t.model, 65, 8), LS_BAD_INPUT, "65 positions");
    assert_fails(ls_decode_create(&other, &s.t.model, 0, 8), LS_BAD_INPUT, "0 positions");
    const int32_t foreign = 67;
    assert_fails(ls_decode_embed(s.decode, s.hidden, &foreign, 1), LS_BAD_INPUT, "token id 67");
    assert_fails(ls_decode_layers(s.decode, s.hidden, 0, 4, NULL, 35, 6), LS_BAD_INPUT, "a context of 40");
    assert_fails(ls_decode_layers(s.decode, s.hidden, 0, 5, NULL, 0, 1), LS_INTERNAL, "layers 0 to 5");
    assert_fails(ls_decode_layers(s.decode, s.hidden, 0, 4, NULL, 0, 41), LS_INTERNAL, "41 rows");
    session_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_equal_the_training_forward),
        cmocka_unit_test(rows_are_independent),
        cmocka_unit_test(ranges_compose),
        cmocka_unit_test(cropping_forgets),
        cmocka_unit_test(prefill_in_pieces),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

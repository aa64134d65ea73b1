/* Sampled speculation has the full model's distribution: chi-square over 120,000 texts a setting against the exact
 * joint distribution of their three tokens, and over the transitions of one long text. The same statistic must explode
 * when either half of the acceptance rule is broken.
 *
 * The model is a table behind ls_decode_*: its logits depend on the newest token and, through the cache of the last
 * layer run, on the one before, so a stale cache shows as well; a row that skips or repeats a layer aborts. */
#include "chi_square.h"

#include "core/random.h"
#include "eval/decoder.h"
#include "kernels/sampling.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

enum { V = 6, L = 4, C = 3, TEXTS = 120000, LONG = 120000, NEW = 3, CELLS = (V + 1) * (V + 1) * (V + 1) };
enum { TOKEN = 0, DEPTH = 1, PREVIOUS = 2 }; /* of a hidden state */

static const int32_t prompt[] = {1, 4, 2};
static int32_t *cache[L]; /* [LONG + 16] token a layer saw at a position */

typedef enum breakage { SOUND = 0, ALWAYS_ACCEPT, REDRAW_FROM_P } breakage;
static breakage broken;

bool __real_ls_accept_draft(const double *p, const double *q, int32_t token, double u);
void __real_ls_residual_distribution(double *p, const double *q, int32_t token, int64_t size);
bool __wrap_ls_accept_draft(const double *p, const double *q, int32_t token, double u);
void __wrap_ls_residual_distribution(double *p, const double *q, int32_t token, int64_t size);
ls_status __wrap_ls_decode_create(ls_decode **out, const ls_model *model, int64_t capacity, int64_t max_rows);
void __wrap_ls_decode_destroy(ls_decode *decode);
ls_status __wrap_ls_decode_embed(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R);
ls_status __wrap_ls_decode_embed_there(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R);
ls_status __wrap_ls_decode_layers(ls_decode *decode, float *hidden, int first_layer, int last_layer,
                                  const int32_t *base, int64_t start, int64_t R);
ls_status __wrap_ls_decode_logits(ls_decode *decode, float *logits, const float *hidden, int64_t R);

bool __wrap_ls_accept_draft(const double *p, const double *q, int32_t token, double u)
{
    return broken == ALWAYS_ACCEPT || __real_ls_accept_draft(p, q, token, u);
}

void __wrap_ls_residual_distribution(double *p, const double *q, int32_t token, int64_t size)
{
    if (broken != REDRAW_FROM_P) __real_ls_residual_distribution(p, q, token, size);
}

/* ---- the table model ---- */

ls_status __wrap_ls_decode_create(ls_decode **out, const ls_model *model, int64_t capacity, int64_t max_rows)
{
    (void)model;
    (void)max_rows;
    assert_true(capacity <= LONG + 16);
    *out = (ls_decode *)cache;
    return LS_OK;
}

void __wrap_ls_decode_destroy(ls_decode *decode) { (void)decode; }

ls_status __wrap_ls_decode_embed_there(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R)
{
    (void)decode;
    for (int64_t r = 0; r < R; r++) {
        hidden[r * C + TOKEN] = (float)tokens[r];
        hidden[r * C + DEPTH] = 0.0f;
        hidden[r * C + PREVIOUS] = -1.0f;
    }
    return LS_OK;
}

ls_status __wrap_ls_decode_embed(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R)
{
    return __wrap_ls_decode_embed_there(decode, hidden, tokens, R);
}

ls_status __wrap_ls_decode_layers(ls_decode *decode, float *hidden, int first_layer, int last_layer,
                                  const int32_t *base, int64_t start, int64_t R)
{
    (void)decode;
    if (base != NULL) start += *base;
    for (int l = first_layer; l < last_layer; l++)
        for (int64_t r = 0; r < R; r++) {
            float *state = hidden + r * C;
            LS_ASSERT(state[DEPTH] == (float)l);
            cache[l][start + r] = (int32_t)state[TOKEN];
            state[PREVIOUS] = start + r > 0 ? (float)cache[l][start + r - 1] : -1.0f;
            state[DEPTH] = (float)l + 1.0f;
        }
    return LS_OK;
}

/* Shallow depths see a distorted table. */
static void table_logits(float *logits, int depth, int32_t previous, int32_t token)
{
    const uint32_t context = (uint32_t)(token * V + previous);
    for (uint32_t v = 0; v < V; v++) {
        double value = 1.3 * ls_random_normal(3, LS_STREAM_TEST, context, v, 0);
        value += 0.35 * (L - depth) * ls_random_normal(3, LS_STREAM_TEST, context, v, (uint32_t)depth);
        logits[v] = (float)value;
    }
}

static float tables[L + 1][V][V][V];

static void fill_tables(void)
{
    for (int depth = 1; depth <= L; depth++)
        for (int32_t previous = 0; previous < V; previous++)
            for (int32_t token = 0; token < V; token++)
                table_logits(tables[depth][previous][token], depth, previous, token);
}

ls_status __wrap_ls_decode_logits(ls_decode *decode, float *logits, const float *hidden, int64_t R)
{
    (void)decode;
    for (int64_t r = 0; r < R; r++) {
        const float *state = hidden + r * C;
        for (int v = 0; v < V; v++)
            logits[r * V + v] = tables[(int)state[DEPTH]][(int)state[PREVIOUS]][(int)state[TOKEN]][v];
    }
    return LS_OK;
}

/* ---- runs ---- */

typedef struct test_setting {
    ls_decode_mode mode;
    int exit_layer, draft_tokens;
    double temperature;
    int64_t top_k;
    double top_p, draft_confidence;
    int32_t end_of_text;
} test_setting;

static ls_decode_options options_of(const test_setting *setting, uint64_t seed, int64_t max_new_tokens)
{
    return (ls_decode_options){.mode = setting->mode,
                               .exit_layer = setting->exit_layer,
                               .draft_tokens = setting->draft_tokens,
                               .draft_confidence = setting->draft_confidence,
                               .max_new_tokens = max_new_tokens,
                               .end_of_text = setting->end_of_text,
                               .sampling = {setting->temperature, setting->top_k, setting->top_p, seed}};
}

static void exact_step(double *probability, const test_setting *setting, int32_t previous, int32_t token)
{
    ls_candidate scratch[V];
    const ls_sampling sampling = {setting->temperature, setting->top_k, setting->top_p, 0};
    const int depth = setting->mode == LS_DECODE_EARLY_EXIT ? setting->exit_layer : L;
    ls_distribution(probability, tables[depth][previous][token], V, &sampling, scratch);
}

/* joint[CELLS]: a text's cell is its tokens as digits in base V+1; V stands after end of text. */
static void exact_joint(double *joint, const test_setting *setting, int32_t previous, int32_t token, int depth,
                        int cell, double probability)
{
    if (depth == NEW) {
        joint[cell] += probability;
        return;
    }
    if (depth > 0 && (token == V || token == setting->end_of_text)) {
        exact_joint(joint, setting, token, V, depth + 1, cell * (V + 1) + V, probability);
        return;
    }
    double step[V];
    exact_step(step, setting, previous, token);
    for (int32_t v = 0; v < V; v++)
        exact_joint(joint, setting, token, v, depth + 1, cell * (V + 1) + v, probability * step[v]);
}

static ls_decoder *open_decoder(ls_model *model, ls_exec *exec, int64_t capacity)
{
    ls_decoder *decoder = NULL;
    assert_int_equal(ls_exec_create(exec, LS_DEVICE_CPU, 1), LS_OK);
    *model = (ls_model){.exec = exec};
    model->config = (ls_model_config){.hidden_size = C, .num_hidden_layers = L, .vocab_size = V};
    assert_int_equal(ls_decoder_create(&decoder, model, capacity, 12), LS_OK);
    return decoder;
}

/* How far the joint distribution of TEXTS texts is from the exact one. */
static double joint_deviation(const test_setting *setting, double *acceptance)
{
    ls_exec exec;
    ls_model model;
    ls_decoder *decoder = open_decoder(&model, &exec, 16);
    static int64_t count[CELLS];
    static double joint[CELLS];
    for (int i = 0; i < CELLS; i++) count[i] = 0, joint[i] = 0.0;
    int64_t drafted = 0, accepted = 0;
    for (uint64_t seed = 0; seed < TEXTS; seed++) {
        const ls_decode_options options = options_of(setting, seed, NEW);
        int32_t tokens[NEW];
        ls_decode_result result;
        assert_int_equal(ls_decoder_generate(decoder, &result, tokens, prompt, 3, &options, NULL, NULL), LS_OK);
        int cell = 0;
        for (int i = 0; i < NEW; i++) cell = cell * (V + 1) + (i < result.count ? tokens[i] : V);
        count[cell]++;
        drafted += result.drafted;
        accepted += result.accepted;
    }
    ls_decoder_destroy(decoder);
    ls_exec_destroy(&exec);
    exact_joint(joint, setting, prompt[1], prompt[2], 0, 0, 1.0);
    chi_square chi = {0};
    chi_square_add(&chi, count, joint, CELLS, TEXTS);
    *acceptance = drafted > 0 ? (double)accepted / (double)drafted : -1.0;
    return chi_square_deviation(&chi);
}

/* The same for the transitions of one long text. */
static double transition_deviation(const test_setting *setting)
{
    ls_exec exec;
    ls_model model;
    ls_decoder *decoder = open_decoder(&model, &exec, LONG + 3);
    int32_t *tokens = malloc(sizeof *tokens * LONG);
    const ls_decode_options options = options_of(setting, 77, LONG);
    ls_decode_result result;
    assert_int_equal(ls_decoder_generate(decoder, &result, tokens, prompt, 3, &options, NULL, NULL), LS_OK);
    assert_int_equal(result.count, LONG);
    static int64_t count[V][V][V];
    for (int i = 0; i < V * V * V; i++) (&count[0][0][0])[i] = 0;
    for (int i = 2; i < LONG; i++) count[tokens[i - 2]][tokens[i - 1]][tokens[i]]++;
    chi_square chi = {0};
    for (int32_t previous = 0; previous < V; previous++)
        for (int32_t token = 0; token < V; token++) {
            double step[V], total = 0.0;
            exact_step(step, setting, previous, token);
            for (int v = 0; v < V; v++) total += (double)count[previous][token][v];
            chi_square_add(&chi, count[previous][token], step, V, total);
        }
    free(tokens);
    ls_decoder_destroy(decoder);
    ls_exec_destroy(&exec);
    return chi_square_deviation(&chi);
}

static const test_setting settings[] = {
    {LS_DECODE_AUTOREGRESSIVE, 1, 1, 1.0, 0, 1.0, 0.0, -1},   {LS_DECODE_EARLY_EXIT, 2, 1, 1.0, 0, 1.0, 0.0, -1},
    {LS_DECODE_SELF_SPECULATIVE, 1, 1, 1.0, 0, 1.0, 0.0, -1}, {LS_DECODE_SELF_SPECULATIVE, 1, 8, 1.0, 0, 1.0, 0.0, 3},
    {LS_DECODE_SELF_SPECULATIVE, 2, 2, 0.6, 0, 1.0, 0.0, -1}, {LS_DECODE_SELF_SPECULATIVE, 2, 3, 1.4, 4, 1.0, 0.0, 5},
    {LS_DECODE_SELF_SPECULATIVE, 3, 5, 1.0, 0, 0.8, 0.0, -1}, {LS_DECODE_SELF_SPECULATIVE, 3, 12, 0.9, 5, 0.9, 0.0, -1},
    {LS_DECODE_SELF_SPECULATIVE, 2, 4, 1.1, 0, 1.0, 0.45, 1}, {LS_DECODE_PROMPT_LOOKUP, 1, 3, 1.0, 0, 1.0, 0.0, -1},
    {LS_DECODE_PROMPT_LOOKUP, 1, 2, 0.8, 3, 0.95, 0.0, 4},
};

/* Five standard deviations; the seeds are fixed, so this passes always or never. */
static void sampling_is_lossless(void **state)
{
    (void)state;
    broken = SOUND;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        double acceptance;
        const double joint = joint_deviation(settings + i, &acceptance);
        test_setting endless = settings[i];
        endless.end_of_text = -1;
        const double transitions = transition_deviation(&endless);
        print_message("%-16s E %d d %2d T %.1f k %d p %.2f confidence %.2f: joint %+.2f, transitions %+.2f sd, "
                      "acceptance %.3f\n",
                      ls_decode_mode_names[settings[i].mode], settings[i].exit_layer, settings[i].draft_tokens,
                      settings[i].temperature, (int)settings[i].top_k, settings[i].top_p, settings[i].draft_confidence,
                      joint, transitions, acceptance);
        assert_true(joint < 5.0);
        assert_true(transitions < 5.0);
        if (settings[i].mode == LS_DECODE_SELF_SPECULATIVE) assert_true(acceptance > 0.2 && acceptance < 0.99);
    }
}

static void a_broken_rule_is_seen(void **state)
{
    (void)state;
    for (broken = ALWAYS_ACCEPT; broken <= REDRAW_FROM_P; broken++)
        for (size_t i = 2; i < sizeof settings / sizeof settings[0]; i++) {
            double acceptance;
            const double joint = joint_deviation(settings + i, &acceptance);
            print_message("%s, setting %d: %+.1f sd\n", broken == ALWAYS_ACCEPT ? "always accept" : "redraw from p",
                          (int)i, joint);
            assert_true(joint > 20.0);
        }
    broken = SOUND;
}

int main(void)
{
    for (int l = 0; l < L; l++) cache[l] = calloc(LONG + 16, sizeof *cache[l]);
    fill_tables();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampling_is_lossless),
        cmocka_unit_test(a_broken_rule_is_seen),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int l = 0; l < L; l++) free(cache[l]);
    return failed;
}

#include "eval/sweep.h"

#include "core/clock.h"
#include "core/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One greedy run; `setting` NULL: autoregressive. */
static ls_status run_once(ls_decode_result *result, int32_t *tokens, ls_decoder *decoder, const ls_sweep *sweep,
                          const int32_t *prompt, const ls_sweep_setting *setting)
{
    const ls_decode_options options = {.mode = setting == NULL ? LS_DECODE_AUTOREGRESSIVE : setting->mode,
                                       .exit_layer = setting == NULL ? 0 : setting->exit_layer,
                                       .draft_tokens = setting == NULL ? 0 : setting->draft_tokens,
                                       .max_new_tokens = sweep->max_new_tokens,
                                       .end_of_text = sweep->end_of_text,
                                       .sampling = {.top_p = 1.0}};
    LS_TRY(ls_decoder_generate(decoder, result, tokens, prompt, sweep->prompt_tokens, &options, NULL, NULL));
    if (strcmp(result->finish_reason, "interrupted") == 0) return LS_FAIL(LS_INTERRUPTED, "the sweep was interrupted");
    return LS_OK;
}

static bool same_text(const ls_decode_result *a, const ls_decode_result *b)
{
    return a->count == b->count && memcmp(a->tokens, b->tokens, sizeof *a->tokens * (size_t)a->count) == 0;
}

/* What one prompt gave: `plain` and `fast` with the fastest time of the repeats. */
static void add_pair(ls_sweep *sweep, ls_sweep_setting *setting, const ls_decode_result *plain,
                     const ls_decode_result *fast)
{
    const double speedup = fast->decode_seconds > 0.0 ? plain->decode_seconds / fast->decode_seconds : 0.0;
    if (setting->tokens == 0 || speedup < setting->speedup_low) setting->speedup_low = speedup;
    if (setting->tokens == 0 || speedup > setting->speedup_high) setting->speedup_high = speedup;
    setting->tokens += fast->count;
    setting->drafted += fast->drafted;
    setting->accepted += fast->accepted;
    setting->rounds += fast->rounds;
    setting->seconds += fast->decode_seconds;
    setting->autoregressive_seconds += plain->decode_seconds;
    sweep->autoregressive_tokens += plain->count;
    sweep->autoregressive_seconds += plain->decode_seconds;
}

/* Which of the two comes first changes from pair to pair. tokens: [2, max_new_tokens] */
static ls_status run_prompt(ls_sweep *sweep, ls_sweep_setting *setting, ls_decoder *decoder, const int32_t *prompt,
                            bool plain_first, int32_t *tokens)
{
    ls_decode_result best[2] = {0}; /* plain, fast */
    for (int64_t repeat = 0; repeat < sweep->repeats; repeat++, plain_first = !plain_first) {
        ls_decode_result result[2];
        for (int turn = 0; turn < 2; turn++) {
            const int which = (turn == 0) == plain_first ? 0 : 1;
            LS_TRY(run_once(result + which, tokens + which * sweep->max_new_tokens, decoder, sweep, prompt,
                            which == 0 ? NULL : setting));
            if (repeat == 0 || result[which].decode_seconds < best[which].decode_seconds) best[which] = result[which];
        }
        if (!same_text(result, result + 1)) setting->identical = false;
    }
    add_pair(sweep, setting, best, best + 1);
    return LS_OK;
}

static ls_status run_pairs(ls_sweep *sweep, ls_decoder *decoder, const int32_t *prompts, int32_t *tokens)
{
    /* Once before the clock counts: code, weights and buffers are touched. */
    ls_decode_result first;
    LS_TRY(run_once(&first, tokens, decoder, sweep, prompts, NULL));
    const double began = ls_seconds_now();
    int64_t p = 0;
    for (; p < sweep->prompts; p++) {
        if (p > 0 && sweep->max_seconds > 0.0 && ls_seconds_now() - began >= sweep->max_seconds) break;
        for (int s = 0; s < sweep->count; s++) {
            LS_TRY(run_prompt(sweep, sweep->settings + s, decoder, prompts + p * sweep->prompt_tokens, (p + s) % 2 == 0,
                              tokens));
            ls_log_progress("sweep: prompt %lld of %lld, setting %d of %d", (long long)p + 1, (long long)sweep->prompts,
                            s + 1, sweep->count);
        }
    }
    sweep->prompts = p;
    return LS_OK;
}

ls_status ls_sweep_run(ls_sweep *sweep, ls_decoder *decoder, const int32_t *prompts)
{
    for (int s = 0; s < sweep->count; s++) {
        const ls_sweep_setting *old = sweep->settings + s;
        sweep->settings[s] = (ls_sweep_setting){
            .mode = old->mode, .exit_layer = old->exit_layer, .draft_tokens = old->draft_tokens, .identical = true};
    }
    sweep->autoregressive_tokens = 0;
    sweep->autoregressive_seconds = 0.0;
    int32_t *tokens = calloc(2 * (size_t)sweep->max_new_tokens, sizeof *tokens);
    const ls_status status = tokens == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for a sweep")
                                            : run_pairs(sweep, decoder, prompts, tokens);
    ls_log_progress_end();
    free(tokens);
    return status;
}

double ls_sweep_speedup(const ls_sweep_setting *setting)
{
    return setting->seconds > 0.0 ? setting->autoregressive_seconds / setting->seconds : 0.0;
}

const ls_sweep_setting *ls_sweep_best(const ls_sweep *sweep)
{
    const ls_sweep_setting *best = NULL;
    for (int s = 0; s < sweep->count; s++) {
        const ls_sweep_setting *setting = sweep->settings + s;
        if (setting->mode != LS_DECODE_SELF_SPECULATIVE) continue;
        if (best == NULL || ls_sweep_speedup(setting) > ls_sweep_speedup(best)) best = setting;
    }
    return best;
}

bool ls_sweep_identical(const ls_sweep *sweep)
{
    for (int s = 0; s < sweep->count; s++)
        if (!sweep->settings[s].identical) return false;
    return true;
}

/* NaN where the divisor is 0, which JSON shows as null. */
static double ratio(double above, double below) { return below > 0.0 ? above / below : (double)NAN; }

static cJSON *setting_to_json(const ls_sweep_setting *setting)
{
    cJSON *row = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(row, "decode", ls_decode_mode_names[setting->mode]);
    if (setting->mode == LS_DECODE_SELF_SPECULATIVE)
        (void)cJSON_AddNumberToObject(row, "exit_layer", setting->exit_layer);
    else
        (void)cJSON_AddNullToObject(row, "exit_layer");
    const double tokens = (double)setting->tokens;
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"draft_tokens", setting->draft_tokens},
        {"drafted", (double)setting->drafted},
        {"accepted", (double)setting->accepted},
        {"acceptance", ratio((double)setting->accepted, (double)setting->drafted)},
        {"rounds", (double)setting->rounds},
        {"tokens", tokens},
        {"tokens_per_round", ratio(tokens, (double)setting->rounds)},
        {"tokens_per_second", ratio(tokens, setting->seconds)},
        {"autoregressive_tokens_per_second", ratio(tokens, setting->autoregressive_seconds)},
        {"speedup", ls_sweep_speedup(setting)},
        {"speedup_low", setting->speedup_low},
        {"speedup_high", setting->speedup_high},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        (void)cJSON_AddNumberToObject(row, numbers[i].name, numbers[i].value);
    (void)cJSON_AddBoolToObject(row, "identical", setting->identical);
    return row;
}

cJSON *ls_sweep_to_json(const ls_sweep *sweep)
{
    cJSON *document = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(document, "model", sweep->model);
    (void)cJSON_AddStringToObject(document, "device", sweep->device);
    (void)cJSON_AddStringToObject(document, "precision", sweep->precision);
    (void)cJSON_AddNumberToObject(document, "threads", sweep->threads);
    (void)cJSON_AddNumberToObject(document, "prompts", (double)sweep->prompts);
    (void)cJSON_AddNumberToObject(document, "prompt_tokens", (double)sweep->prompt_tokens);
    (void)cJSON_AddNumberToObject(document, "max_new_tokens", (double)sweep->max_new_tokens);
    (void)cJSON_AddNumberToObject(document, "repeats", (double)sweep->repeats);
    cJSON *plain = cJSON_AddObjectToObject(document, "autoregressive");
    (void)cJSON_AddNumberToObject(plain, "tokens", (double)sweep->autoregressive_tokens);
    (void)cJSON_AddNumberToObject(plain, "tokens_per_second",
                                  ratio((double)sweep->autoregressive_tokens, sweep->autoregressive_seconds));
    cJSON *settings = cJSON_AddArrayToObject(document, "settings");
    for (int s = 0; s < sweep->count; s++) (void)cJSON_AddItemToArray(settings, setting_to_json(sweep->settings + s));
    const ls_sweep_setting *best = ls_sweep_best(sweep);
    (void)cJSON_AddItemToObject(document, "best", best == NULL ? cJSON_CreateNull() : setting_to_json(best));
    (void)cJSON_AddBoolToObject(document, "identical", ls_sweep_identical(sweep));
    return document;
}

static void print_row(FILE *file, const ls_sweep_setting *setting)
{
    char exit_layer[16] = "lookup", acceptance[16] = "n/a";
    if (setting->mode == LS_DECODE_SELF_SPECULATIVE)
        (void)snprintf(exit_layer, sizeof exit_layer, "%d", setting->exit_layer);
    if (setting->drafted > 0)
        (void)snprintf(acceptance, sizeof acceptance, "%.1f %%",
                       100.0 * (double)setting->accepted / (double)setting->drafted);
    (void)fprintf(file, "%10s  %12d  %10s  %12.2f  %10.1f  %6.2fx (%.2f to %.2f)  %s\n", exit_layer,
                  setting->draft_tokens, acceptance, ratio((double)setting->tokens, (double)setting->rounds),
                  ratio((double)setting->tokens, setting->seconds), ls_sweep_speedup(setting), setting->speedup_low,
                  setting->speedup_high, setting->identical ? "yes" : "NO");
}

void ls_sweep_print(FILE *file, const ls_sweep *sweep)
{
    (void)fprintf(file,
                  "%lld held-out prompts of %lld tokens, up to %lld new tokens, greedy, the fastest of %lld runs each, "
                  "%s, %d threads\n",
                  (long long)sweep->prompts, (long long)sweep->prompt_tokens, (long long)sweep->max_new_tokens,
                  (long long)sweep->repeats, sweep->precision, sweep->threads);
    (void)fprintf(file, "autoregressive: %.1f tokens/s\n\n",
                  ratio((double)sweep->autoregressive_tokens, sweep->autoregressive_seconds));
    (void)fprintf(file, "exit layer  draft tokens  acceptance  tokens/round    tokens/s  speedup (single prompts)  "
                        "identical output\n");
    for (int s = 0; s < sweep->count; s++) print_row(file, sweep->settings + s);
    const ls_sweep_setting *best = ls_sweep_best(sweep);
    if (best == NULL) return;
    (void)fprintf(
        file,
        "\nbest: --exit-layer %d --draft-tokens %d, %.1f tokens/s against %.1f autoregressive: %.2fx, identical "
        "output: %s\n",
        best->exit_layer, best->draft_tokens, ratio((double)best->tokens, best->seconds),
        ratio((double)best->tokens, best->autoregressive_seconds), ls_sweep_speedup(best),
        best->identical ? "yes" : "NO");
}

#include "eval/sweep.h"

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
    if (plain->count != fast->count ||
        memcmp(plain->tokens, fast->tokens, sizeof *plain->tokens * (size_t)plain->count) != 0)
        setting->identical = false;
    sweep->autoregressive_tokens += plain->count;
    sweep->autoregressive_seconds += plain->decode_seconds;
}

/* plain, fast: [max_new_tokens] */
static ls_status run_pairs(ls_sweep *sweep, ls_decoder *decoder, const int32_t *prompts, int32_t *plain, int32_t *fast)
{
    ls_decode_result first, second;
    /* Once before the clock counts: code, weights and buffers are touched. */
    LS_TRY(run_once(&first, plain, decoder, sweep, prompts, NULL));
    for (int64_t p = 0; p < sweep->prompts; p++) {
        const int32_t *prompt = prompts + p * sweep->prompt_tokens;
        for (int s = 0; s < sweep->count; s++) {
            ls_sweep_setting *setting = sweep->settings + s;
            const bool plain_first = (p + s) % 2 == 0;
            LS_TRY(run_once(&first, plain_first ? plain : fast, decoder, sweep, prompt, plain_first ? NULL : setting));
            LS_TRY(run_once(&second, plain_first ? fast : plain, decoder, sweep, prompt, plain_first ? setting : NULL));
            add_pair(sweep, setting, plain_first ? &first : &second, plain_first ? &second : &first);
            ls_log_progress("sweep: prompt %lld of %lld, setting %d of %d", (long long)p + 1, (long long)sweep->prompts,
                            s + 1, sweep->count);
        }
    }
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
    const ls_status status = tokens == NULL
                                 ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for a sweep")
                                 : run_pairs(sweep, decoder, prompts, tokens, tokens + sweep->max_new_tokens);
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
    (void)fprintf(file, "%lld held-out prompts of %lld tokens, up to %lld new tokens, greedy, %s, %d threads\n",
                  (long long)sweep->prompts, (long long)sweep->prompt_tokens, (long long)sweep->max_new_tokens,
                  sweep->precision, sweep->threads);
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

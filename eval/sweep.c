#include "eval/sweep.h"

#include "core/clock.h"
#include "core/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One greedy run; `setting` NULL: autoregressive. */
static ls_status run_once(ls_decode_result *result, int32_t *tokens, ls_decoder *decoder, const ls_sweep *sweep,
                          const ls_prompts *prompts, int64_t prompt, const ls_sweep_setting *setting)
{
    const ls_decode_options options = {.mode = setting == NULL ? LS_DECODE_AUTOREGRESSIVE : setting->mode,
                                       .exit_layer = setting == NULL ? 0 : setting->exit_layer,
                                       .draft_tokens = setting == NULL ? 0 : setting->draft_tokens,
                                       .max_new_tokens = sweep->max_new_tokens,
                                       .end_of_text = sweep->end_of_text,
                                       .sampling = {.top_p = 1.0}};
    const int64_t start = prompts->start[prompt], length = prompts->start[prompt + 1] - start;
    LS_TRY(ls_decoder_generate(decoder, result, tokens, prompts->tokens + start, length, &options, NULL, NULL));
    if (strcmp(result->finish_reason, "interrupted") == 0) return LS_FAIL(LS_INTERRUPTED, "the sweep was interrupted");
    return LS_OK;
}

static bool same_text(const ls_decode_result *a, const ls_decode_result *b)
{
    return a->count == b->count && memcmp(a->tokens, b->tokens, sizeof *a->tokens * (size_t)a->count) == 0;
}

/* What a setting gave on one prompt, beside autoregressive decoding; it travels between processes. */
typedef struct pair_result {
    ls_status status;
    bool identical;
    int64_t plain_tokens, tokens, drafted, accepted, rounds;
    double plain_seconds, seconds;
} pair_result;

static void add_pair(ls_sweep *sweep, ls_sweep_setting *setting, const pair_result *pair)
{
    const double speedup = pair->seconds > 0.0 ? pair->plain_seconds / pair->seconds : 0.0;
    if (setting->tokens == 0 || speedup < setting->speedup_low) setting->speedup_low = speedup;
    if (setting->tokens == 0 || speedup > setting->speedup_high) setting->speedup_high = speedup;
    setting->identical = setting->identical && pair->identical;
    setting->tokens += pair->tokens;
    setting->drafted += pair->drafted;
    setting->accepted += pair->accepted;
    setting->rounds += pair->rounds;
    setting->seconds += pair->seconds;
    setting->autoregressive_seconds += pair->plain_seconds;
    sweep->autoregressive_tokens += pair->plain_tokens;
    sweep->autoregressive_seconds += pair->plain_seconds;
}

/* What a process works with. */
typedef struct workbench {
    ls_decoder *decoder;
    const ls_prompts *prompts;
    int32_t *tokens;        /* [2, max_new_tokens] */
    pair_result *own, *all; /* [count] by setting; [size][count] */
} workbench;

/* Which of the two comes first changes from pair to pair. */
static ls_status run_pair(pair_result *out, const ls_sweep *sweep, const ls_sweep_setting *setting,
                          const workbench *bench, int64_t prompt, bool plain_first)
{
    ls_decode_result best[2] = {0}; /* plain, fast */
    out->identical = true;
    for (int64_t repeat = 0; repeat < sweep->repeats; repeat++, plain_first = !plain_first) {
        ls_decode_result result[2];
        for (int turn = 0; turn < 2; turn++) {
            const int which = (turn == 0) == plain_first ? 0 : 1;
            LS_TRY(run_once(result + which, bench->tokens + which * sweep->max_new_tokens, bench->decoder, sweep,
                            bench->prompts, prompt, which == 0 ? NULL : setting));
            if (repeat == 0 || result[which].decode_seconds < best[which].decode_seconds) best[which] = result[which];
        }
        if (!same_text(result, result + 1)) out->identical = false;
    }
    out->plain_tokens = best[0].count;
    out->plain_seconds = best[0].decode_seconds;
    out->tokens = best[1].count;
    out->drafted = best[1].drafted;
    out->accepted = best[1].accepted;
    out->rounds = best[1].rounds;
    out->seconds = best[1].decode_seconds;
    return LS_OK;
}

/* As many prompts from `first` on as there are processes. Each process measures every setting once, on a prompt of its
 * own: the prompt's number and the setting's add up to the rank. So no setting has a faster process to itself. */
static ls_status measure_round(const ls_sweep *sweep, const workbench *bench, int64_t first)
{
    const int size = ls_comm_size(sweep->comm), rank = ls_comm_rank(sweep->comm);
    memset(bench->own, 0, sizeof *bench->own * (size_t)sweep->count);
    for (int s = 0; s < sweep->count; s++) {
        const int64_t p = first + (rank + (int64_t)sweep->count * size - s) % size;
        if (p >= sweep->prompts) continue;
        ls_comm_stand(sweep->comm, p, LS_COMM_EVALUATING);
        LS_TRY(run_pair(&bench->own[s], sweep, sweep->settings + s, bench, p, (first / size + s) % 2 == 0));
        ls_log_progress("sweep: prompt %lld of %lld, setting %d of %d", (long long)p + 1, (long long)sweep->prompts,
                        s + 1, sweep->count);
    }
    return LS_OK;
}

/* Adds the pairs in the order of prompts and settings, whoever measured them; a failure of any process is that of all.
 */
static ls_status add_round(ls_sweep *sweep, const workbench *bench, int64_t first, ls_status own)
{
    const int size = ls_comm_size(sweep->comm);
    bool failed = false;
    bench->own[0].status = own;
    LS_TRY(ls_comm_gather(sweep->comm, bench->all, bench->own, sizeof *bench->own * (size_t)sweep->count));
    for (int r = 0; r < size; r++) failed = failed || bench->all[r * sweep->count].status != LS_OK;
    if (failed) return ls_comm_agree(sweep->comm, own);
    for (int64_t i = 0; i < size && first + i < sweep->prompts; i++)
        for (int s = 0; s < sweep->count; s++)
            add_pair(sweep, sweep->settings + s, &bench->all[(i + s) % size * sweep->count + s]);
    return LS_OK;
}

/* Rank 0's clock decides for all. */
static ls_status time_is_up(bool *up, const ls_sweep *sweep, double began)
{
    *up = sweep->max_seconds > 0.0 && ls_seconds_now() - began >= sweep->max_seconds;
    return sweep->max_seconds > 0.0 ? ls_comm_broadcast(sweep->comm, up, sizeof *up, 0) : LS_OK;
}

static ls_status run_pairs(ls_sweep *sweep, const workbench *bench)
{
    /* Once before the clock counts: code, weights and buffers are touched. */
    ls_decode_result first;
    const ls_status warm = run_once(&first, bench->tokens, bench->decoder, sweep, bench->prompts, 0, NULL);
    LS_TRY(ls_comm_agree(sweep->comm, warm));
    const double began = ls_seconds_now();
    int64_t p = 0;
    for (; p < sweep->prompts; p += ls_comm_size(sweep->comm)) {
        bool up = false;
        if (p > 0) LS_TRY(time_is_up(&up, sweep, began));
        if (up) break;
        LS_TRY(add_round(sweep, bench, p, measure_round(sweep, bench, p)));
    }
    if (p < sweep->prompts) sweep->prompts = p;
    return LS_OK;
}

ls_status ls_sweep_run(ls_sweep *sweep, ls_decoder *decoder, const ls_prompts *prompts)
{
    for (int s = 0; s < sweep->count; s++) {
        const ls_sweep_setting *old = sweep->settings + s;
        sweep->settings[s] = (ls_sweep_setting){
            .mode = old->mode, .exit_layer = old->exit_layer, .draft_tokens = old->draft_tokens, .identical = true};
    }
    sweep->prompts = prompts->count;
    sweep->prompt_tokens = prompts->longest;
    sweep->shortest_prompt = prompts->shortest;
    sweep->autoregressive_tokens = 0;
    sweep->autoregressive_seconds = 0.0;
    const size_t count = (size_t)sweep->count, size = (size_t)ls_comm_size(sweep->comm);
    workbench bench = {.decoder = decoder,
                       .prompts = prompts,
                       .tokens = calloc(2 * (size_t)sweep->max_new_tokens, sizeof *bench.tokens),
                       .own = calloc(count * (size + 1), sizeof *bench.own)};
    ls_status status = LS_OK;
    if (bench.tokens == NULL || bench.own == NULL) status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for a sweep");
    bench.all = bench.own + (bench.own == NULL ? 0 : count);
    status = ls_comm_agree(sweep->comm, status);
    if (status == LS_OK) status = run_pairs(sweep, &bench);
    ls_log_progress_end();
    free(bench.own);
    free(bench.tokens);
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
    (void)cJSON_AddNumberToObject(document, "processes", ls_comm_size(sweep->comm));
    (void)cJSON_AddNumberToObject(document, "prompts", (double)sweep->prompts);
    (void)cJSON_AddNumberToObject(document, "prompt_tokens", (double)sweep->prompt_tokens);
    (void)cJSON_AddNumberToObject(document, "shortest_prompt", (double)sweep->shortest_prompt);
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
    (void)fprintf(file, "%lld held-out prompts of ", (long long)sweep->prompts);
    if (sweep->shortest_prompt < sweep->prompt_tokens)
        (void)fprintf(file, "%lld to ", (long long)sweep->shortest_prompt);
    (void)fprintf(file, "%lld tokens, up to %lld new tokens, greedy, the fastest of %lld runs each, %s, %d threads\n",
                  (long long)sweep->prompt_tokens, (long long)sweep->max_new_tokens, (long long)sweep->repeats,
                  sweep->precision, sweep->threads);
    if (ls_comm_size(sweep->comm) > 1)
        (void)fprintf(file, "%d processes at once, each of so many threads; speeds are those of one among them\n",
                      ls_comm_size(sweep->comm));
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

/* What is told of answers that a model wrote; see answer_task.h. */
#include "eval/task/answer_task.h"
#include "eval/task/share.h"

#include <math.h>

/* NaN where the divisor is 0, which JSON shows as null. */
static double ratio(double above, double below) { return below > 0.0 ? above / below : (double)NAN; }

static double speedup(const ls_answer_result *result)
{
    return ratio(result->run[LS_DECODE_AUTOREGRESSIVE].decode_seconds,
                 result->run[LS_DECODE_SELF_SPECULATIVE].decode_seconds);
}

static bool identical(const ls_answer_result *result) { return result->identical == result->asked; }

static cJSON *add_run(cJSON *document, const char *name, const ls_answer_result *result, ls_decode_mode mode)
{
    const ls_answer_run *run = &result->run[mode];
    cJSON *row = cJSON_AddObjectToObject(document, name);
    if (mode != LS_DECODE_AUTOREGRESSIVE) (void)cJSON_AddNumberToObject(row, "exit_layer", result->options.exit_layer);
    (void)cJSON_AddNumberToObject(row, "score", ls_task_share(run->right, result->asked));
    (void)cJSON_AddNumberToObject(row, "score_stderr", ls_task_share_error(run->right, result->asked));
    (void)cJSON_AddNumberToObject(row, "tokens", (double)run->tokens);
    (void)cJSON_AddNumberToObject(row, "prefill_seconds", run->prefill_seconds);
    (void)cJSON_AddNumberToObject(row, "decode_seconds", run->decode_seconds);
    (void)cJSON_AddNumberToObject(row, "tokens_per_second", ratio((double)run->tokens, run->decode_seconds));
    return row;
}

static void add_speculation(cJSON *row, const ls_answer_result *result)
{
    const ls_answer_run *run = &result->run[LS_DECODE_SELF_SPECULATIVE];
    (void)cJSON_AddNumberToObject(row, "draft_tokens", result->options.draft_tokens);
    (void)cJSON_AddNumberToObject(row, "drafted", (double)run->drafted);
    (void)cJSON_AddNumberToObject(row, "accepted", (double)run->accepted);
    (void)cJSON_AddNumberToObject(row, "acceptance", ratio((double)run->accepted, (double)run->drafted));
    (void)cJSON_AddNumberToObject(row, "rounds", (double)run->rounds);
    (void)cJSON_AddNumberToObject(row, "tokens_per_round", ratio((double)run->tokens, (double)run->rounds));
    (void)cJSON_AddNumberToObject(row, "speedup", speedup(result));
    (void)cJSON_AddNumberToObject(row, "speedup_low", result->speedup_low);
    (void)cJSON_AddNumberToObject(row, "speedup_high", result->speedup_high);
    (void)cJSON_AddBoolToObject(row, "identical", identical(result));
}

void ls_answer_result_to_json(cJSON *document, const ls_answer_result *result, const char *metric)
{
    (void)cJSON_AddStringToObject(document, "metric", metric);
    (void)cJSON_AddNumberToObject(document, "prompts_cut", (double)result->cut);
    (void)add_run(document, "autoregressive", result, LS_DECODE_AUTOREGRESSIVE);
    if (result->options.exit_layer == 0) return;
    (void)add_run(document, "early_exit", result, LS_DECODE_EARLY_EXIT);
    add_speculation(add_run(document, "self_speculative", result, LS_DECODE_SELF_SPECULATIVE), result);
}

static void print_run(FILE *file, const ls_answer_result *result, ls_decode_mode mode)
{
    const ls_answer_run *run = &result->run[mode];
    (void)fprintf(file, "%-16s  %15s  %10.1f\n", ls_decode_mode_names[mode],
                  ls_task_share_write(run->right, result->asked).bytes,
                  ratio((double)run->tokens, run->decode_seconds));
}

void ls_answer_result_print(FILE *file, const ls_answer_result *result, const char *metric)
{
    const ls_answer_run *fast = &result->run[LS_DECODE_SELF_SPECULATIVE];
    (void)fprintf(file, "%-16s  %15s  %10s\n", "", metric, "tokens/s");
    print_run(file, result, LS_DECODE_AUTOREGRESSIVE);
    if (result->options.exit_layer == 0) return;
    print_run(file, result, LS_DECODE_SELF_SPECULATIVE);
    print_run(file, result, LS_DECODE_EARLY_EXIT);
    (void)fprintf(file,
                  "\nself-speculative: exit layer %d, %d draft tokens; acceptance %.1f %%, %.2f tokens/round, speedup "
                  "%.2fx (%.2f to %.2f), identical output: %s\n"
                  "early-exit: the first %d layers alone, another model\n",
                  result->options.exit_layer, result->options.draft_tokens,
                  100.0 * ratio((double)fast->accepted, (double)fast->drafted),
                  ratio((double)fast->tokens, (double)fast->rounds), speedup(result), result->speedup_low,
                  result->speedup_high, identical(result) ? "yes" : "NO", result->options.exit_layer);
}

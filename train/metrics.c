/* Writing and cutting of metrics.jsonl. Called by train/loop.c. Lines are printed directly: a step allocates nothing.
 */
#include "train/metrics.h"

#include "core/file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The step of a line, -1 when the line is not one of ours. */
static int64_t line_step(const char *line)
{
    long long step = -1;
    return sscanf(line, "{\"step\": %lld", &step) == 1 ? (int64_t)step : -1;
}

/* Length of the leading part of `text` that steps up to `step` wrote, in whole lines. */
static size_t kept_length(const char *text, int64_t step)
{
    size_t kept = 0;
    for (const char *end = strchr(text, '\n'); end != NULL; end = strchr(text + kept, '\n')) {
        const int64_t here = line_step(text + kept);
        if (here < 0 || here > step) break;
        kept = (size_t)(end - text) + 1;
    }
    return kept;
}

static ls_status cut(const char *path, int64_t step)
{
    if (!ls_file_exists(path)) return LS_OK;
    char *text = NULL;
    size_t length = 0;
    LS_TRY(ls_file_read(&text, &length, path));
    const size_t kept = kept_length(text, step);
    free(text);
    if (kept == length) return LS_OK;
    if (truncate(path, (off_t)kept) != 0) return LS_FAIL(LS_IO, "cannot shorten %s: %s", path, strerror(errno));
    return LS_OK;
}

ls_status ls_metrics_open(ls_metrics *out, const char *run_dir, int64_t step)
{
    memset(out, 0, sizeof *out);
    out->path = ls_file_join(run_dir, "metrics.jsonl");
    if (out->path == NULL) return LS_FAIL(LS_NO_MEMORY, "no memory for the name of %s/metrics.jsonl", run_dir);
    const ls_status status = cut(out->path, step);
    out->file = status == LS_OK ? fopen(out->path, "ae") : NULL;
    if (out->file != NULL) return LS_OK;
    const ls_status failure =
        status != LS_OK ? status : LS_FAIL(LS_IO, "cannot write %s: %s", out->path, ls_file_reason(errno));
    free(out->path);
    memset(out, 0, sizeof *out);
    return failure;
}

ls_status ls_metrics_close(ls_metrics *metrics)
{
    ls_status status = LS_OK;
    if (metrics->file != NULL && fclose(metrics->file) != 0)
        status = LS_FAIL(LS_IO, "cannot write %s: %s", metrics->path, ls_file_reason(errno));
    free(metrics->path);
    memset(metrics, 0, sizeof *metrics);
    return status;
}

/* JSON knows no NaN and no infinity. 17 digits bring a double back bit for bit. */
static void put_number(FILE *file, double value)
{
    if (isfinite(value))
        (void)fprintf(file, "%.17g", value);
    else
        (void)fputs("null", file);
}

static void put_field(FILE *file, const char *name, double value)
{
    (void)fprintf(file, ", \"%s\": ", name);
    put_number(file, value);
}

static ls_status finish_line(ls_metrics *metrics)
{
    (void)fputs("}\n", metrics->file);
    if (fflush(metrics->file) != 0 || ferror(metrics->file))
        return LS_FAIL(LS_IO, "cannot write %s: %s", metrics->path, ls_file_reason(errno));
    return LS_OK;
}

static void put_profile(FILE *file, const ls_profile_table *table, double step_seconds)
{
    const double all = ls_profile_seconds(table);
    const char *separator = "";
    (void)fputs(", \"profile\": {\"milliseconds\": ", file);
    put_number(file, 1e3 * step_seconds);
    put_field(file, "ops_milliseconds", 1e3 * all);
    (void)fputs(", \"ops\": {", file);
    for (int op = 0; op < LS_PROFILE_OPS; op++) {
        if (table->calls[op] == 0) continue;
        (void)fprintf(file, "%s\"%s\": {\"calls\": %lld", separator, ls_profile_names[op], (long long)table->calls[op]);
        put_field(file, "milliseconds", 1e3 * table->seconds[op]);
        put_field(file, "share", all > 0.0 ? table->seconds[op] / all : 0.0);
        (void)fputs("}", file);
        separator = ", ";
    }
    (void)fputs("}}", file);
}

ls_status ls_metrics_step(ls_metrics *metrics, const ls_step_metrics *values)
{
    FILE *file = metrics->file;
    (void)fprintf(file, "{\"step\": %lld", (long long)values->step);
    put_field(file, "loss", values->loss);
    put_field(file, "objective", values->objective);
    const char *separator = "";
    (void)fputs(", \"exit_loss\": {", file);
    for (int l = 0; l < values->layers; l++) {
        if (!(values->weight[l] > 0.0f)) continue;
        (void)fprintf(file, "%s\"%d\": ", separator, l);
        put_number(file, values->exit_loss[l]);
        separator = ", ";
    }
    (void)fputs("}", file);
    put_field(file, "learning_rate", values->learning_rate);
    put_field(file, "gradient_norm", values->gradient_norm);
    (void)fprintf(file, ", \"tokens\": %lld", (long long)values->tokens);
    put_field(file, "tokens_per_second", values->tokens_per_second);
    if (values->share_of_peak >= 0.0) put_field(file, "share_of_peak", values->share_of_peak);
    put_field(file, "seconds", values->seconds);
    if (values->profile != NULL) put_profile(file, values->profile, values->step_seconds);
    return finish_line(metrics);
}

ls_status ls_metrics_evaluation(ls_metrics *metrics, int64_t step, int layers, const double *loss, double tokens)
{
    FILE *file = metrics->file;
    (void)fprintf(file, "{\"step\": %lld, \"evaluation\": {\"tokens\": %.0f, \"exits\": [", (long long)step, tokens);
    for (int l = 0; l < layers; l++) {
        (void)fprintf(file, "%s{\"layer\": %d, \"layers_run\": %d", l == 0 ? "" : ", ", l, l + 1);
        put_field(file, "loss", loss[l]);
        put_field(file, "perplexity", exp(loss[l]));
        (void)fputs("}", file);
    }
    (void)fputs("]}", file);
    return finish_line(metrics);
}

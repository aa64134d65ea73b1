#include "eval/run_metrics.h"

#include "core/file.h"
#include "core/json.h"
#include "core/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LAYERS 4096

static void add_point(ls_series *series, double step, double value)
{
    if (series->count == series->capacity) {
        series->capacity = 2 * series->capacity + 64;
        series->step = ls_text_memory(series->step, sizeof(double) * (size_t)series->capacity);
        series->value = ls_text_memory(series->value, sizeof(double) * (size_t)series->capacity);
    }
    series->step[series->count] = step;
    series->value[series->count++] = value;
}

void ls_series_thin(ls_series *series, int64_t most)
{
    const int64_t count = series->count;
    if (count <= most) return;
    for (int64_t i = 0; i < most; i++) {
        const int64_t first = i * count / most, end = (i + 1) * count / most;
        double step = 0.0, value = 0.0;
        for (int64_t k = first; k < end; k++) {
            step += series->step[k];
            value += series->value[k];
        }
        series->step[i] = step / (double)(end - first);
        series->value[i] = value / (double)(end - first);
    }
    series->count = most;
}

static bool number_of(double *out, const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble)) return false;
    *out = item->valuedouble;
    return true;
}

static void add_number(ls_series *series, double step, const cJSON *object, const char *name)
{
    double value;
    if (number_of(&value, object, name)) add_point(series, step, value);
}

/* Makes room for exit `layer`, counted from 0. */
static void grow(ls_run_metrics *metrics, int layer)
{
    if (layer < metrics->layers) return;
    const size_t old = (size_t)metrics->layers, now = (size_t)layer + 1;
    metrics->training = ls_text_memory(metrics->training, now * sizeof *metrics->training);
    metrics->held_out = ls_text_memory(metrics->held_out, now * sizeof *metrics->held_out);
    memset(metrics->training + old, 0, (now - old) * sizeof *metrics->training);
    memset(metrics->held_out + old, 0, (now - old) * sizeof *metrics->held_out);
    metrics->layers = layer + 1;
}

static void add_step(ls_run_metrics *metrics, double step, const cJSON *line)
{
    metrics->steps = step;
    (void)number_of(&metrics->tokens, line, "tokens");
    add_number(&metrics->objective, step, line, "objective");
    add_number(&metrics->learning_rate, step, line, "learning_rate");
    add_number(&metrics->gradient_norm, step, line, "gradient_norm");
    add_number(&metrics->tokens_per_second, step, line, "tokens_per_second");
    const cJSON *exit;
    cJSON_ArrayForEach(exit, cJSON_GetObjectItemCaseSensitive(line, "exit_loss"))
    {
        int64_t layer;
        if (!ls_text_to_int(&layer, exit->string) || layer < 0 || layer >= MOST_LAYERS) continue;
        grow(metrics, (int)layer);
        if (cJSON_IsNumber(exit)) add_point(metrics->training + layer, step, exit->valuedouble);
    }
}

static void add_evaluation(ls_run_metrics *metrics, double step, const cJSON *evaluation)
{
    metrics->evaluated = true;
    metrics->evaluated_step = step;
    (void)number_of(&metrics->evaluated_tokens, evaluation, "tokens");
    const cJSON *exit;
    cJSON_ArrayForEach(exit, cJSON_GetObjectItemCaseSensitive(evaluation, "exits"))
    {
        double layer, loss;
        if (!number_of(&layer, exit, "layer") || !number_of(&loss, exit, "loss")) continue;
        if (!(layer >= 0.0 && layer < MOST_LAYERS)) continue;
        grow(metrics, (int)layer);
        add_point(metrics->held_out + (int)layer, step, loss);
    }
}

static void add_line(ls_run_metrics *metrics, const cJSON *line)
{
    double step;
    if (!number_of(&step, line, "step")) return;
    const cJSON *evaluation = cJSON_GetObjectItemCaseSensitive(line, "evaluation");
    if (evaluation != NULL)
        add_evaluation(metrics, step, evaluation);
    else
        add_step(metrics, step, line);
}

ls_status ls_run_metrics_read(ls_run_metrics *out, const char *path)
{
    *out = (ls_run_metrics){0};
    char *text = NULL;
    size_t length = 0;
    LS_TRY(ls_file_read(&text, &length, path));
    ls_status status = LS_OK;
    int64_t number = 1;
    for (char *line = text; *line != '\0' && status == LS_OK; number++) {
        char *end = strchr(line, '\n');
        if (end == NULL) break; /* torn */
        *end = '\0';
        cJSON *document = cJSON_Parse(line);
        if (document == NULL)
            status = LS_FAIL(LS_BAD_INPUT, "%s:%lld: this line is not JSON", path, (long long)number);
        else
            add_line(out, document);
        cJSON_Delete(document);
        line = end + 1;
    }
    free(text);
    if (status != LS_OK) ls_run_metrics_free(out);
    return status;
}

static void free_series(ls_series *series)
{
    free(series->step);
    free(series->value);
}

void ls_run_metrics_free(ls_run_metrics *metrics)
{
    for (int l = 0; l < metrics->layers; l++) {
        free_series(metrics->training + l);
        free_series(metrics->held_out + l);
    }
    free_series(&metrics->objective);
    free_series(&metrics->learning_rate);
    free_series(&metrics->gradient_norm);
    free_series(&metrics->tokens_per_second);
    free(metrics->training);
    free(metrics->held_out);
    *metrics = (ls_run_metrics){0};
}

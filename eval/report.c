#include "eval/report.h"

#include "core/file.h"
#include "core/json.h"
#include "core/text.h"
#include "eval/plot.h"
#include "eval/run_metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_POINTS 120

static const char style[] =
    "<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;"
    "padding:0 1rem}table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem "
    ".6rem;text-align:right;border-bottom:1px solid "
    "#8884}th{font-weight:600}th:first-child,td:first-child{text-align:left}td{white-space:nowrap}tr.best{background:#"
    "8c82}pre{background:"
    "#8881;padding:.8rem;overflow-x:auto;white-space:pre-wrap}figure{margin:1rem 0}figure svg{width:100%;height:auto;"
    "background:#fff}p.note{color:#888}</style>\n";

/* Everything that comes from a file goes through here. */
static void add_escaped(ls_text *page, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        switch (*c) {
        case '&':
            ls_text_addf(page, "&amp;");
            break;
        case '<':
            ls_text_addf(page, "&lt;");
            break;
        case '>':
            ls_text_addf(page, "&gt;");
            break;
        case '"':
            ls_text_addf(page, "&quot;");
            break;
        default:
            ls_text_add(page, c, 1);
        }
    }
}

/* ---- configuration ---- */

/* The value of "key: value" within the section "section:" ("" : outside of any); malloc'ed, NULL when absent. */
static char *config_value(const char *config, const char *section, const char *key)
{
    bool inside = section[0] == '\0';
    const size_t indent = inside ? 0 : 2, length = strlen(key);
    for (const char *line = config; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        const size_t spaces = strspn(line, " ");
        if (spaces == 0 && section[0] != '\0')
            inside = strncmp(line, section, strlen(section)) == 0 && line[strlen(section)] == ':';
        if (!inside || spaces != indent) continue;
        const char *at = line + spaces;
        if (strncmp(at, key, length) != 0 || strncmp(at + length, ": ", 2) != 0) continue;
        return ls_text_copy(at + length + 2, strcspn(at + length + 2, "\n"));
    }
    return NULL;
}

static void add_config_summary(ls_text *page, const char *config)
{
    static const struct {
        const char *section, *key, *title;
    } rows[] = {
        {"model", "num_hidden_layers", "layers"},
        {"model", "hidden_size", "hidden size"},
        {"model", "intermediate_size", "feed-forward size"},
        {"model", "num_attention_heads", "query heads"},
        {"model", "num_key_value_heads", "key/value heads"},
        {"model", "vocab_size", "vocabulary"},
        {"data", "sequence_length", "tokens a sample"},
        {"training", "steps", "steps"},
        {"training", "global_batch_size", "samples a step"},
        {"optimizer", "learning_rate", "learning rate"},
        {"layer_dropout", "rate", "layer dropout, highest rate"},
        {"layer_dropout", "depth", "layer dropout across depth"},
        {"early_exit", "weights", "exit weights"},
        {"early_exit", "layers", "exits"},
        {"early_exit", "scale", "exit scale"},
        {"early_exit", "curriculum", "exit curriculum"},
        {"", "precision", "precision"},
        {"", "seed", "seed"},
    };
    ls_text_addf(page, "<table>\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *value = config_value(config, rows[i].section, rows[i].key);
        if (value == NULL) continue;
        ls_text_addf(page, "<tr><td>%s</td><td>", rows[i].title);
        add_escaped(page, value);
        ls_text_addf(page, "</td></tr>\n");
        free(value);
    }
    ls_text_addf(page, "</table>\n");
}

/* ---- curves ---- */

static void add_plot(ls_text *page, ls_plot *plot, const char *caption)
{
    if (plot->count == 0) return;
    char *svg = ls_plot_svg(plot);
    ls_text_addf(page, "<figure>\n");
    if (svg != NULL)
        ls_text_add(page, svg, strlen(svg));
    else
        ls_text_addf(page, "<p class=note>No plot: gnuplot is not installed or failed.</p>\n");
    ls_text_addf(page, "<figcaption>%s</figcaption></figure>\n", caption);
    free(svg);
}

/* One curve an exit that has points; `exits` is [layers]. */
static void plot_exits(ls_text *page, const char *name, const ls_series *exits, int layers, bool points,
                       const char *caption)
{
    ls_curve *curves = ls_text_memory(NULL, sizeof *curves * (size_t)(layers + 1));
    ls_plot plot = {.name = name, .x_label = "step", .y_label = "loss, nats a token", .curves = curves};
    for (int l = 0; l < layers; l++) {
        if (exits[l].count == 0) continue;
        ls_curve *curve = curves + plot.count++;
        *curve = (ls_curve){.series = exits[l], .points = points, .colour = l};
        (void)snprintf(curve->title, sizeof curve->title,
                       l + 1 == layers ? "%d layers (all)"
                       : l == 0        ? "%d layer"
                                       : "%d layers",
                       l + 1);
    }
    add_plot(page, &plot, caption);
    free(curves);
}

static void plot_one(ls_text *page, const char *name, const ls_series *series, const char *label, const char *caption)
{
    ls_curve curve = {.series = *series};
    (void)snprintf(curve.title, sizeof curve.title, "%s", label);
    ls_plot plot = {
        .name = name, .x_label = "step", .y_label = label, .curves = &curve, .count = series->count > 0 ? 1 : 0};
    add_plot(page, &plot, caption);
}

static void add_curves(ls_text *page, ls_run_metrics *metrics)
{
    ls_series_thin(&metrics->objective, MOST_POINTS);
    ls_series_thin(&metrics->learning_rate, MOST_POINTS);
    ls_series_thin(&metrics->gradient_norm, MOST_POINTS);
    for (int l = 0; l < metrics->layers; l++) ls_series_thin(metrics->training + l, MOST_POINTS);
    ls_text_addf(page, "<h2>Curves</h2>\n");
    plot_exits(page, "heldout", metrics->held_out, metrics->layers, true,
               "Held-out loss after so many layers, through the model's own norm and head.");
    plot_exits(page, "training", metrics->training, metrics->layers, false,
               "Training loss of the exits, averaged over neighbouring steps. An exit that rotates has fewer points.");
    plot_one(page, "objective", &metrics->objective, "weighted loss",
             "What training minimises: the exits' losses with the step's weights.");
    plot_one(page, "rate", &metrics->learning_rate, "learning rate", "Learning rate.");
    plot_one(page, "norm", &metrics->gradient_norm, "gradient norm", "Gradient norm before clipping.");
}

/* ---- tables ---- */

static void add_exit_table(ls_text *page, const ls_run_metrics *metrics)
{
    ls_text_addf(page, "<h2>Held-out loss by exit</h2>\n");
    if (!metrics->evaluated) {
        ls_text_addf(page, "<p class=note>The run recorded no evaluation.</p>\n");
        return;
    }
    ls_text_addf(page,
                 "<p>After step %.0f, over %.0f tokens.</p>\n<table>\n<tr><th>layers run</th><th>loss</th>"
                 "<th>perplexity</th></tr>\n",
                 metrics->evaluated_step, metrics->evaluated_tokens);
    for (int l = 0; l < metrics->layers; l++) {
        const ls_series *series = metrics->held_out + l;
        if (series->count == 0) continue;
        const double loss = series->value[series->count - 1];
        ls_text_addf(page, "<tr><td>%d</td><td>%.4f</td><td>%.2f</td></tr>\n", l + 1, loss, exp(loss));
    }
    ls_text_addf(page, "</table>\n");
}

/* A cell with factor * object[name] and so many digits, "n/a" where it is null. */
static void add_number(ls_text *page, const cJSON *object, const char *name, double factor, int digits,
                       const char *unit)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (cJSON_IsNumber(item))
        ls_text_addf(page, "<td>%.*f%s</td>", digits, factor * item->valuedouble, unit);
    else
        ls_text_addf(page, "<td>n/a</td>");
}

static const char *text_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static void add_sweep_row(ls_text *page, const cJSON *row, const cJSON *best)
{
    const bool is_best = cJSON_IsObject(best) && cJSON_Compare(row, best, true);
    ls_text_addf(page, "<tr%s><td>", is_best ? " class=best" : "");
    add_escaped(page, text_of(row, "decode"));
    ls_text_addf(page, "</td>");
    add_number(page, row, "exit_layer", 1.0, 0, "");
    add_number(page, row, "draft_tokens", 1.0, 0, "");
    add_number(page, row, "acceptance", 100.0, 1, " %");
    add_number(page, row, "tokens_per_round", 1.0, 2, "");
    add_number(page, row, "tokens_per_second", 1.0, 1, "");
    add_number(page, row, "speedup", 1.0, 2, "");
    add_number(page, row, "speedup_low", 1.0, 2, "");
    add_number(page, row, "speedup_high", 1.0, 2, "");
    const cJSON *identical = cJSON_GetObjectItemCaseSensitive(row, "identical");
    ls_text_addf(page, "<td>%s</td></tr>\n", cJSON_IsTrue(identical) ? "yes" : "NO");
}

static void add_sweep(ls_text *page, const cJSON *sweep)
{
    const cJSON *plain = cJSON_GetObjectItemCaseSensitive(sweep, "autoregressive");
    const cJSON *best = cJSON_GetObjectItemCaseSensitive(sweep, "best"), *row;
    ls_text_addf(page, "<h2>Decoding speed</h2>\n<p>Greedy, on held-out prompts; every setting was measured in turn "
                       "with autoregressive decoding of the same prompts, prefill apart. The best self-speculative "
                       "setting is marked.</p>\n<table>\n<tr><th>prompts</th><th>prompt tokens</th><th>new tokens, at "
                       "most</th><th>autoregressive tokens/s</th></tr>\n<tr>");
    add_number(page, sweep, "prompts", 1.0, 0, "");
    add_number(page, sweep, "prompt_tokens", 1.0, 0, "");
    add_number(page, sweep, "max_new_tokens", 1.0, 0, "");
    add_number(page, plain, "tokens_per_second", 1.0, 1, "");
    ls_text_addf(page, "</tr>\n</table>\n<table>\n<tr><th>decoding</th><th>exit layer</th><th>draft tokens</th><th>"
                       "acceptance</th><th>tokens a round</th><th>tokens/s</th><th>speedup</th><th>lowest</th><th>"
                       "highest</th><th>identical output</th></tr>\n");
    cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(sweep, "settings")) add_sweep_row(page, row, best);
    ls_text_addf(page, "</table>\n");
}

static void add_sample(ls_text *page, const cJSON *sample)
{
    ls_text_addf(page, "<h2>Sample</h2>\n<pre>");
    const char *prompt = text_of(sample, "prompt");
    if (prompt[0] != '\0') {
        ls_text_addf(page, "<b>");
        add_escaped(page, prompt);
        ls_text_addf(page, "</b>");
    }
    add_escaped(page, text_of(sample, "text"));
    ls_text_addf(page, "</pre>\n<table>\n<tr><th>drafted</th><th>accepted</th><th>rounds</th><th>tokens/s</th></tr>\n"
                       "<tr>");
    add_number(page, sample, "drafted", 1.0, 0, "");
    add_number(page, sample, "accepted", 1.0, 0, "");
    add_number(page, sample, "rounds", 1.0, 0, "");
    add_number(page, sample, "tokens_per_second", 1.0, 1, "");
    ls_text_addf(page, "</tr>\n</table>\n");
}

/* ---- the page ---- */

/* Adds what `add` makes of a JSON file of the run folder, nothing where there is none. */
static ls_status add_document(ls_text *page, const char *run_dir, const char *name,
                              void (*add)(ls_text *page, const cJSON *document))
{
    char *path = ls_file_join(run_dir, name);
    cJSON *document = NULL;
    ls_status status = LS_OK;
    if (ls_file_exists(path)) status = ls_json_read_file(&document, path);
    if (document != NULL) add(page, document);
    cJSON_Delete(document);
    free(path);
    return status;
}

/* config.yaml's text, NULL where there is none. */
static ls_status read_config(char **config, const char *run_dir)
{
    char *path = ls_file_join(run_dir, "config.yaml");
    size_t length;
    *config = NULL;
    const ls_status status = ls_file_exists(path) ? ls_file_read(config, &length, path) : LS_OK;
    free(path);
    return status;
}

static void add_head(ls_text *page, const char *run_dir, const char *config, const ls_run_metrics *metrics)
{
    ls_text_addf(page, "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
                       "content=\"width=device-width\"><title>");
    add_escaped(page, run_dir);
    ls_text_addf(page, "</title>\n%s</head><body>\n<h1>", style);
    add_escaped(page, run_dir);
    ls_text_addf(page, "</h1>\n");
    if (metrics->steps > 0.0)
        ls_text_addf(page, "<p>%.0f steps, %.0f tokens.</p>\n", metrics->steps, metrics->tokens);
    else
        ls_text_addf(page, "<p class=note>The run recorded no training step.</p>\n");
    if (config != NULL) add_config_summary(page, config);
}

static ls_status write_page(ls_text *page, const char *run_dir, const char *config, ls_run_metrics *metrics)
{
    add_head(page, run_dir, config, metrics);
    add_exit_table(page, metrics);
    LS_TRY(add_document(page, run_dir, "sweep.json", add_sweep));
    LS_TRY(add_document(page, run_dir, "sample.json", add_sample));
    add_curves(page, metrics);
    if (config != NULL) {
        ls_text_addf(page, "<h2>Configuration</h2>\n<pre>");
        add_escaped(page, config);
        ls_text_addf(page, "</pre>\n");
    }
    ls_text_addf(page, "</body></html>\n");
    return LS_OK;
}

static ls_status read_metrics(ls_run_metrics *metrics, const char *run_dir)
{
    char *path = ls_file_join(run_dir, "metrics.jsonl");
    const ls_status status = ls_file_exists(path)
                                 ? ls_run_metrics_read(metrics, path)
                                 : LS_FAIL(LS_BAD_INPUT, "%s is not a run folder: it has no metrics.jsonl", run_dir);
    free(path);
    return status;
}

ls_status ls_report_write(char **path, const char *run_dir)
{
    ls_run_metrics metrics;
    *path = NULL;
    LS_TRY(read_metrics(&metrics, run_dir));
    char *config;
    ls_status status = read_config(&config, run_dir);
    ls_text page = {0};
    if (status == LS_OK) status = write_page(&page, run_dir, config, &metrics);
    if (status == LS_OK) {
        char *text = ls_text_valid_utf8(page.bytes, page.length);
        *path = ls_file_join(run_dir, "report.html");
        status = ls_file_write_atomic(*path, text, strlen(text));
        free(text);
    }
    free(page.bytes);
    free(config);
    ls_run_metrics_free(&metrics);
    return status;
}

#include "eval/exit_loss.h"

#include "core/interrupt.h"

#include <stdlib.h>
#include <string.h>

/* The batch under construction, [B,T] each. */
typedef struct sample_reader {
    const ls_token_file *file;
    const ls_exit_loss_options *options;
    int32_t *window; /* [T+1] */
    int32_t *tokens, *targets, *first_key, *positions;
    int32_t *block; /* holds them all */
} sample_reader;

static ls_status open_reader(sample_reader *reader, const ls_token_file *file, const ls_exit_loss_options *options)
{
    const size_t cells = (size_t)(options->B * options->T);
    *reader = (sample_reader){.file = file, .options = options};
    reader->block = malloc(sizeof(int32_t) * (4 * cells + (size_t)options->T + 1));
    if (reader->block == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for evaluation samples");
    reader->tokens = reader->block;
    reader->targets = reader->tokens + cells;
    reader->first_key = reader->targets + cells;
    reader->positions = reader->first_key + cells;
    reader->window = reader->positions + cells;
    return LS_OK;
}

/* Number of the document that holds token `at` of the split. */
static int64_t document_at(const ls_token_file *file, ls_split split, int64_t at)
{
    int64_t low = 0, high = file->document_count[split];
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (file->documents[split][middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Confines row j, which starts at token `start` of the split, to documents; returns its targets. */
static int64_t mask_documents(const sample_reader *reader, int64_t j, int64_t start, int64_t T)
{
    const ls_split split = reader->options->split;
    const int64_t *documents = reader->file->documents[split], count = reader->file->document_count[split];
    int64_t document = document_at(reader->file, split, start), first = 0, targets = T;
    for (int64_t t = 0; t < T; t++) {
        while (document + 1 < count && documents[document + 1] <= start + t) {
            document++;
            first = t;
        }
        reader->first_key[j * T + t] = (int32_t)first;
        reader->positions[j * T + t] = (int32_t)(t - first);
        if (document + 1 < count && documents[document + 1] == start + t + 1) {
            reader->targets[j * T + t] = -1;
            targets--;
        }
    }
    return targets;
}

/* Row j of a batch of length T = tokens start..start+T of the split. *targets: how many it predicts. */
static ls_status read_sample(const sample_reader *reader, int64_t j, int64_t start, int64_t T, int64_t *targets)
{
    LS_TRY(ls_token_file_read(reader->file, reader->options->split, start, T + 1, reader->window));
    memcpy(reader->tokens + j * T, reader->window, sizeof(int32_t) * (size_t)T);
    memcpy(reader->targets + j * T, reader->window + 1, sizeof(int32_t) * (size_t)T);
    *targets = reader->options->document_mask ? mask_documents(reader, j, start, T) : T;
    return LS_OK;
}

/* Everyone survives everywhere and every exit counts. */
static ls_status make_plan(ls_step_plan *plan, int layers, int64_t samples)
{
    LS_TRY(ls_step_plan_create(plan, layers, (int)samples));
    for (int l = 0; l < layers; l++) plan->exit_weight[l] = 1.0f / (float)layers;
    return LS_OK;
}

/* Where sums go. */
typedef struct loss_totals {
    int layers;
    double *sum;  /* [L] */
    double *loss; /* [L] of one batch */
    int64_t tokens;
} loss_totals;

/* Adds the losses of `count` samples of length T that start at tokens starts[j]. */
static ls_status run_batch(loss_totals *totals, const sample_reader *reader, ls_training *training,
                           const int64_t *starts, int64_t count, int64_t T)
{
    if (ls_interrupt_requested()) return LS_FAIL(LS_INTERRUPTED, "the evaluation was interrupted");
    int64_t batch_targets = 0;
    for (int64_t j = 0; j < count; j++) {
        int64_t targets;
        LS_TRY(read_sample(reader, j, starts[j], T, &targets));
        batch_targets += targets;
    }
    if (batch_targets == 0) return LS_OK;
    const bool mask = reader->options->document_mask;
    const ls_batch batch = {.B = count,
                            .T = T,
                            .tokens = reader->tokens,
                            .targets = reader->targets,
                            .first_key = mask ? reader->first_key : NULL,
                            .positions = mask ? reader->positions : NULL};
    ls_step_plan plan;
    LS_TRY(make_plan(&plan, totals->layers, count));
    const ls_status status = ls_training_run(training, totals->loss, NULL, &batch, &plan, (double)batch_targets);
    ls_step_plan_destroy(&plan);
    for (int l = 0; l < totals->layers; l++) totals->sum[l] += totals->loss[l];
    totals->tokens += batch_targets;
    return status;
}

/* starts: [B], to work with. */
static ls_status run_split(loss_totals *totals, const sample_reader *reader, ls_training *training, int64_t *starts)
{
    const ls_exit_loss_options *options = reader->options;
    const int64_t T = options->T, targets = reader->file->token_count[options->split] - 1;
    const int64_t whole = targets / T, tail = targets % T;
    const bool all = options->max_samples <= 0 || options->max_samples > whole;
    const int64_t samples = all ? whole : options->max_samples;
    for (int64_t first = 0; first < samples; first += options->B) {
        const int64_t count = samples - first < options->B ? samples - first : options->B;
        for (int64_t j = 0; j < count; j++) starts[j] = (first + j) * whole / samples * T;
        LS_TRY(run_batch(totals, reader, training, starts, count, T));
    }
    if (!all || tail == 0) return LS_OK;
    starts[0] = whole * T;
    return run_batch(totals, reader, training, starts, 1, tail);
}

ls_status ls_exit_loss(double *loss, int64_t *tokens, ls_training *training, const ls_model *model,
                       const ls_token_file *file, const ls_exit_loss_options *options)
{
    const int layers = (int)model->config.num_hidden_layers;
    *tokens = 0;
    if (file->token_count[options->split] < 2)
        return LS_FAIL(LS_BAD_INPUT, "%s: the %s split has %lld tokens; a loss needs at least 2", file->path,
                       options->split == LS_SPLIT_TRAIN ? "training" : "validation",
                       (long long)file->token_count[options->split]);
    sample_reader reader;
    LS_TRY(open_reader(&reader, file, options));
    loss_totals totals = {.layers = layers, .sum = calloc(2 * (size_t)layers, sizeof(double))};
    int64_t *starts = calloc((size_t)options->B, sizeof *starts);
    ls_status status =
        totals.sum != NULL && starts != NULL ? LS_OK : LS_FAIL(LS_NO_MEMORY, "cannot get memory for losses");
    if (status == LS_OK) {
        totals.loss = totals.sum + layers;
        status = run_split(&totals, &reader, training, starts);
    }
    if (status == LS_OK && totals.tokens == 0)
        status = LS_FAIL(LS_BAD_INPUT, "%s: no token of the split follows another of its document", file->path);
    for (int l = 0; status == LS_OK && l < layers; l++) loss[l] = totals.sum[l] / (double)totals.tokens;
    *tokens = totals.tokens;
    free(starts);
    free(totals.sum);
    free(reader.block);
    return status;
}

#include "eval/exit_loss.h"

#include "core/interrupt.h"
#include "data/loader.h"

#include <stdlib.h>
#include <string.h>

/* The split's samples, and the batch under construction. */
typedef struct sample_reader {
    const ls_exit_loss_options *options;
    ls_loader *loader;
    ls_samples rows; /* [B,T] each, pieces of `block` */
    int32_t *block;
    int64_t samples, whole; /* to read, spread over the `whole` there are */
} sample_reader;

static ls_status open_reader(sample_reader *reader, const ls_token_file *file, const ls_exit_loss_options *options)
{
    const size_t cells = (size_t)(options->B * options->T);
    const int64_t whole = (file->token_count[options->split] - 1) / options->T;
    const ls_loader_options loader = {.split = options->split,
                                      .sequence_length = options->T,
                                      .document_mask = options->document_mask,
                                      .tail = options->max_samples <= 0 || options->max_samples > whole};
    *reader = (sample_reader){.options = options};
    LS_TRY(ls_loader_create(&reader->loader, file, &loader));
    reader->whole = ls_loader_samples_per_epoch(reader->loader);
    reader->samples =
        options->max_samples > 0 && options->max_samples < reader->whole ? options->max_samples : reader->whole;
    reader->block = malloc(sizeof *reader->block * 4 * cells);
    if (reader->block == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for evaluation samples");
    reader->rows = (ls_samples){.tokens = reader->block,
                                .targets = reader->block + cells,
                                .first_key = reader->block + 2 * cells,
                                .positions = reader->block + 3 * cells};
    return LS_OK;
}

static void close_reader(sample_reader *reader)
{
    ls_loader_destroy(reader->loader);
    free(reader->block);
}

/* The first rows = samples number first..first+count-1 of those to read. *targets: how many they predict. */
static ls_status read_samples(const sample_reader *reader, int64_t first, int64_t count, int64_t *targets)
{
    const int64_t T = reader->options->T;
    *targets = 0;
    for (int64_t j = 0; j < count; j++) {
        const ls_samples row = {.tokens = reader->rows.tokens + j * T,
                                .targets = reader->rows.targets + j * T,
                                .first_key = reader->rows.first_key + j * T,
                                .positions = reader->rows.positions + j * T};
        LS_TRY(ls_loader_read(reader->loader, (first + j) * reader->whole / reader->samples, 1, &row));
        for (int64_t t = 0; t < T; t++) *targets += row.targets[t] >= 0;
    }
    return LS_OK;
}

/* Everyone survives everywhere and every exit counts. */
static ls_status make_plan(ls_step_plan *plan, int layers, int64_t samples)
{
    LS_TRY(ls_step_plan_create(plan, layers, (int)samples));
    for (int l = 0; l < layers; l++) plan->exit_weight[l] = 1.0f / (float)layers;
    return LS_OK;
}

/* Where sums go. `pass` is one pass of this process, `round` that of every process: [L] losses, then the targets, then
 * the status. */
typedef struct loss_totals {
    int layers;
    double *sum;   /* [L] */
    double *pass;  /* [L+2] */
    double *round; /* [size][L+2] */
    int64_t tokens;
} loss_totals;

/* The losses of pass `number`, to totals->pass. */
static ls_status run_pass(loss_totals *totals, const sample_reader *reader, ls_training *training, int64_t number)
{
    const int64_t B = reader->options->B, first = number * B;
    const int64_t count = reader->samples - first < B ? reader->samples - first : B;
    int64_t targets;
    if (ls_interrupt_requested()) return LS_FAIL(LS_INTERRUPTED, "the evaluation was interrupted");
    LS_TRY(read_samples(reader, first, count, &targets));
    if (targets == 0) return LS_OK;
    const bool mask = reader->options->document_mask;
    const ls_batch batch = {.B = count,
                            .T = reader->options->T,
                            .tokens = reader->rows.tokens,
                            .targets = reader->rows.targets,
                            .first_key = mask ? reader->rows.first_key : NULL,
                            .positions = mask ? reader->rows.positions : NULL};
    ls_step_plan plan;
    LS_TRY(make_plan(&plan, totals->layers, count));
    const ls_status status = ls_training_run(training, totals->pass, NULL, &batch, &plan, (double)targets);
    ls_step_plan_destroy(&plan);
    totals->pass[totals->layers] = (double)targets;
    return status;
}

/* Adds the passes of a round in their order, whoever ran them; a failure of any process is that of all. */
static ls_status add_round(loss_totals *totals, ls_comm *comm, ls_status own)
{
    const size_t width = (size_t)totals->layers + 2;
    bool failed = false;
    totals->pass[width - 1] = (double)own;
    LS_TRY(ls_comm_gather(comm, totals->round, totals->pass, sizeof(double) * width));
    for (int r = 0; r < ls_comm_size(comm); r++) {
        const double *pass = totals->round + (size_t)r * width;
        failed = failed || pass[width - 1] != 0.0;
        if (!(pass[width - 2] > 0.0)) continue;
        for (int l = 0; l < totals->layers; l++) totals->sum[l] += pass[l];
        totals->tokens += (int64_t)pass[width - 2];
    }
    return failed ? ls_comm_agree(comm, own) : LS_OK;
}

/* Pass i is process i % size's. */
static ls_status run_split(loss_totals *totals, const sample_reader *reader, ls_training *training)
{
    ls_comm *comm = reader->options->comm;
    const int64_t passes = (reader->samples + reader->options->B - 1) / reader->options->B;
    for (int64_t first = 0; first < passes; first += ls_comm_size(comm)) {
        const int64_t number = first + ls_comm_rank(comm);
        ls_status status = LS_OK;
        ls_comm_stand(comm, number, LS_COMM_EVALUATING);
        memset(totals->pass, 0, sizeof(double) * ((size_t)totals->layers + 2));
        if (number < passes) status = run_pass(totals, reader, training, number);
        LS_TRY(add_round(totals, comm, status));
    }
    return LS_OK;
}

ls_status ls_exit_loss(double *loss, int64_t *tokens, ls_training *training, const ls_model *model,
                       const ls_token_file *file, const ls_exit_loss_options *options)
{
    const int layers = (int)model->config.num_hidden_layers;
    *tokens = 0;
    sample_reader reader;
    const size_t width = (size_t)layers + 2;
    loss_totals totals = {.layers = layers,
                          .sum = calloc(width * (size_t)(ls_comm_size(options->comm) + 2), sizeof(double))};
    ls_status status = open_reader(&reader, file, options);
    if (status == LS_OK && totals.sum == NULL) status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for losses");
    status = ls_comm_agree(options->comm, status);
    if (status == LS_OK) {
        totals.pass = totals.sum + width;
        totals.round = totals.pass + width;
        status = run_split(&totals, &reader, training);
    }
    if (status == LS_OK && totals.tokens == 0)
        status = LS_FAIL(LS_BAD_INPUT, "%s: no token of the split follows another of its document", file->path);
    for (int l = 0; status == LS_OK && l < layers; l++) loss[l] = totals.sum[l] / (double)totals.tokens;
    *tokens = totals.tokens;
    close_reader(&reader);
    free(totals.sum);
    return status;
}

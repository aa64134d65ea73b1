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

/* Where sums go. `pass` is one pass of this process, `round` that of every process: [L] losses, then the targets, then
 * the status. */
typedef struct loss_totals {
    int layers;
    double *sum;   /* [L] */
    double *pass;  /* [L+2] */
    double *round; /* [size][L+2] */
    int64_t tokens;
} loss_totals;

/* The losses of `count` samples of length T that start at tokens starts[j], to totals->pass. */
static ls_status run_pass(loss_totals *totals, const sample_reader *reader, ls_training *training,
                          const int64_t *starts, int64_t count, int64_t T)
{
    if (ls_interrupt_requested()) return LS_FAIL(LS_INTERRUPTED, "the evaluation was interrupted");
    int64_t pass_targets = 0;
    for (int64_t j = 0; j < count; j++) {
        int64_t targets;
        LS_TRY(read_sample(reader, j, starts[j], T, &targets));
        pass_targets += targets;
    }
    if (pass_targets == 0) return LS_OK;
    const bool mask = reader->options->document_mask;
    const ls_batch batch = {.B = count,
                            .T = T,
                            .tokens = reader->tokens,
                            .targets = reader->targets,
                            .first_key = mask ? reader->first_key : NULL,
                            .positions = mask ? reader->positions : NULL};
    ls_step_plan plan;
    LS_TRY(make_plan(&plan, totals->layers, count));
    const ls_status status = ls_training_run(training, totals->pass, NULL, &batch, &plan, (double)pass_targets);
    ls_step_plan_destroy(&plan);
    totals->pass[totals->layers] = (double)pass_targets;
    return status;
}

/* How the split is cut: `samples` whole ones of the `whole` there are, in `passes` passes; the last of these may be the
 * split's short tail. */
typedef struct split_cut {
    int64_t T, whole, samples, tail, passes;
} split_cut;

static split_cut cut_split(const sample_reader *reader)
{
    const ls_exit_loss_options *options = reader->options;
    const int64_t T = options->T, targets = reader->file->token_count[options->split] - 1;
    split_cut out = {.T = T, .whole = targets / T};
    const bool all = options->max_samples <= 0 || options->max_samples > out.whole;
    out.samples = all ? out.whole : options->max_samples;
    out.tail = all ? targets % T : 0;
    out.passes = (out.samples + options->B - 1) / options->B + (out.tail > 0);
    return out;
}

/* starts: [B], to work with. */
static ls_status run_number(loss_totals *totals, const sample_reader *reader, ls_training *training,
                            const split_cut *cut, int64_t number, int64_t *starts)
{
    const int64_t B = reader->options->B, first = number * B;
    if (first >= cut->samples) {
        starts[0] = cut->whole * cut->T;
        return run_pass(totals, reader, training, starts, 1, cut->tail);
    }
    const int64_t count = cut->samples - first < B ? cut->samples - first : B;
    for (int64_t j = 0; j < count; j++) starts[j] = (first + j) * cut->whole / cut->samples * cut->T;
    return run_pass(totals, reader, training, starts, count, cut->T);
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
static ls_status run_split(loss_totals *totals, const sample_reader *reader, ls_training *training, int64_t *starts)
{
    ls_comm *comm = reader->options->comm;
    const split_cut cut = cut_split(reader);
    for (int64_t first = 0; first < cut.passes; first += ls_comm_size(comm)) {
        const int64_t number = first + ls_comm_rank(comm);
        ls_status status = LS_OK;
        ls_comm_stand(comm, number, LS_COMM_EVALUATING);
        memset(totals->pass, 0, sizeof(double) * ((size_t)totals->layers + 2));
        if (number < cut.passes) status = run_number(totals, reader, training, &cut, number, starts);
        LS_TRY(add_round(totals, comm, status));
    }
    return LS_OK;
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
    const size_t width = (size_t)layers + 2;
    loss_totals totals = {.layers = layers,
                          .sum = calloc(width * (size_t)(ls_comm_size(options->comm) + 2), sizeof(double))};
    int64_t *starts = calloc((size_t)options->B, sizeof *starts);
    ls_status status = open_reader(&reader, file, options);
    if (totals.sum == NULL || starts == NULL) status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for losses");
    status = ls_comm_agree(options->comm, status);
    if (status == LS_OK) {
        totals.pass = totals.sum + width;
        totals.round = totals.pass + width;
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

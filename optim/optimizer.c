/* AdamW over the parameter block, as loops over the table.
 *
 * Blocks are walked in runs of neighbouring parameters that share their decay; the zero padding between parameters
 * belongs to a run and stays zero, as its weights and gradients are. Called by train/trainer.c. */
#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* None where those of a pass have places of their own (optim/shards.h). */
static size_t gradient_bytes(const ls_optimizer *optimizer)
{
    return optimizer->shards.staging != NULL ? 0 : sizeof(float) * (size_t)optimizer->model->table.elements;
}

static size_t kept_bytes(const ls_optimizer *optimizer) { return sizeof(float) * (size_t)optimizer->shards.kept; }

static size_t squares_bytes(const ls_optimizer *optimizer) { return sizeof(double) * (size_t)optimizer->shards.count; }

static bool master_is_weights(const ls_optimizer *optimizer) { return optimizer->model->dtype == LS_F32; }

static ls_status allocate(ls_optimizer *out)
{
    const struct {
        float **place;
        size_t bytes;
        const char *what;
    } blocks[] = {
        {&out->gradients, gradient_bytes(out), "the gradients"},
        {&out->master, master_is_weights(out) ? 0 : kept_bytes(out), "the master weights"},
    };
    LS_TRY(ls_lanes_create(&out->lanes, out->model->exec, out->shards.kept, out->options.offload != LS_OFFLOAD_NONE,
                           out->options.lane_elements));
    out->moment1 = out->lanes.home[0];
    out->moment2 = out->lanes.home[1];
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        void *memory;
        if (blocks[i].bytes == 0) continue;
        LS_TRY(ls_exec_allocate(out->model->exec, &memory, blocks[i].bytes, blocks[i].what));
        *blocks[i].place = memory;
    }
    if (master_is_weights(out)) out->master = out->model->weights;
    void *squares;
    LS_TRY(ls_exec_allocate(out->model->exec, &squares, squares_bytes(out), "the gradient norm"));
    out->squares = squares;
    out->host_squares = calloc((size_t)out->shards.count, sizeof *out->host_squares);
    out->norms = calloc((size_t)ls_comm_size(out->shards.comm), sizeof *out->norms);
    if (out->host_squares == NULL || out->norms == NULL)
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the gradient norm");
    return LS_OK;
}

ls_status ls_optimizer_create_shared(ls_optimizer *out, ls_model *model, const ls_optimizer_options *options,
                                     ls_comm *comm, ls_sharding sharding, int64_t bucket_elements)
{
    memset(out, 0, sizeof *out);
    out->options = *options;
    out->model = model;
    ls_status status = ls_shards_create(&out->shards, model->exec, &model->table, comm, sharding, bucket_elements);
    if (status == LS_OK) status = allocate(out);
    if (status == LS_OK && ls_exec_rehearse_begin(model->exec)) {
        model->exec->ops->sum_of_squares(model->exec, out->squares, out->gradients, model->table.elements);
        status = ls_exec_rehearse_end(model->exec);
    }
    if (status != LS_OK) ls_optimizer_destroy(out);
    return status;
}

ls_status ls_optimizer_create(ls_optimizer *out, ls_model *model, const ls_optimizer_options *options)
{
    return ls_optimizer_create_shared(out, model, options, NULL, LS_SHARDING_NONE, model->table.elements);
}

void ls_optimizer_destroy(ls_optimizer *optimizer)
{
    if (optimizer->model == NULL) return;
    ls_exec *exec = optimizer->model->exec;
    if (!master_is_weights(optimizer)) ls_exec_free(exec, optimizer->master, kept_bytes(optimizer));
    ls_exec_free(exec, optimizer->squares, squares_bytes(optimizer));
    ls_exec_free(exec, optimizer->gradients, gradient_bytes(optimizer));
    ls_lanes_destroy(&optimizer->lanes);
    free(optimizer->host_squares);
    free(optimizer->norms);
    ls_shards_destroy(&optimizer->shards);
    memset(optimizer, 0, sizeof *optimizer);
}

float *ls_optimizer_base(const ls_optimizer *optimizer, ls_kept_block block)
{
    return block == LS_KEPT_MASTER    ? optimizer->master
           : block == LS_KEPT_MOMENT1 ? optimizer->moment1
                                      : optimizer->moment2;
}

float *ls_optimizer_kept(const ls_optimizer *optimizer, ls_kept_block block, int index)
{
    const ls_shard *shard = &optimizer->shards.list[index];
    const bool whole = block == LS_KEPT_MASTER && master_is_weights(optimizer);
    return ls_optimizer_base(optimizer, block) + (whole ? shard->kept_first : shard->place);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* Bytes from the start of the model's weights. */
static void *weights_at(const ls_optimizer *optimizer, int64_t element)
{
    unsigned char *weights = optimizer->model->weights;
    return weights + (size_t)element * ls_dtype_size(optimizer->model->dtype);
}

static ls_status keep(ls_optimizer *optimizer, const float *values, int64_t first, int64_t count)
{
    for (int i = 0; i < optimizer->shards.count; i++) {
        const ls_shard *shard = &optimizer->shards.list[i];
        const int64_t begin = first > shard->kept_first ? first : shard->kept_first;
        const int64_t end = first + count < shard->kept_end ? first + count : shard->kept_end;
        if (begin < end)
            LS_TRY(ls_exec_upload(optimizer->model->exec,
                                  ls_optimizer_kept(optimizer, LS_KEPT_MASTER, i) + (begin - shard->kept_first),
                                  values + (begin - first), sizeof *values * (size_t)(end - begin)));
    }
    return LS_OK;
}

/* One parameter at a time: the fp32 block never exists whole. */
static ls_status initialize_kept(ls_optimizer *optimizer, uint64_t seed)
{
    const ls_model *model = optimizer->model;
    int64_t largest = 0;
    for (int i = 0; i < model->table.count; i++) {
        const int64_t count = model->table.entries[i].rows * model->table.entries[i].cols;
        largest = count > largest ? count : largest;
    }
    float *values = malloc(sizeof *values * (size_t)largest);
    if (values == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the initial weights");
    ls_status status = LS_OK;
    for (int i = 0; i < model->table.count && status == LS_OK; i++) {
        const ls_parameter *entry = &model->table.entries[i];
        ls_parameter_initialize(values, &model->table, i, &model->config, seed);
        status = keep(optimizer, values, entry->offset, entry->rows * entry->cols);
    }
    free(values);
    return status;
}

ls_status ls_optimizer_initialize(ls_optimizer *optimizer, uint64_t seed)
{
    const ls_model *model = optimizer->model;
    ls_comm *comm = optimizer->shards.comm;
    const ls_status status = ls_comm_size(comm) > 1 ? initialize_kept(optimizer, seed)
                                                    : ls_parameters_initialize(model->exec, optimizer->master,
                                                                               &model->table, &model->config, seed);
    LS_TRY(ls_comm_agree(comm, status));
    return ls_optimizer_publish(optimizer);
}

ls_status ls_optimizer_publish(ls_optimizer *optimizer)
{
    ls_model *model = optimizer->model;
    const ls_shards *shards = &optimizer->shards;
    for (int i = 0; i < shards->count && !master_is_weights(optimizer); i++)
        model->exec->ops->convert(model->exec, weights_at(optimizer, shards->list[i].kept_first), model->dtype,
                                  ls_optimizer_kept(optimizer, LS_KEPT_MASTER, i), LS_F32,
                                  shards->list[i].kept_end - shards->list[i].kept_first);
    LS_TRY(ls_exec_status(model->exec));
    for (int i = 0; i < shards->count; i++)
        LS_TRY(ls_shards_publish(&optimizer->shards, i, model->weights, ls_dtype_size(model->dtype)));
    return ls_shards_wait(&optimizer->shards);
}

/* ---- the gradient ------------------------------------------------------------------------------------------------ */

ls_status ls_optimizer_discard(ls_optimizer *optimizer)
{
    LS_TRY(ls_shards_reduce(&optimizer->shards, optimizer->gradients)); /* some are on their way */
    if (optimizer->shards.summed != NULL)
        ls_exec_clear(optimizer->model->exec, optimizer->shards.summed, optimizer->shards.kept);
    else
        ls_exec_clear(optimizer->model->exec, optimizer->gradients, optimizer->model->table.elements);
    return ls_exec_status(optimizer->model->exec);
}

/* In pieces, so that little memory is needed when things have gone wrong already. A failed copy counts as bad. */
static bool range_is_bad(const ls_optimizer *optimizer, const float *gradients, int64_t length)
{
    enum { PIECE = 4096 };
    float values[PIECE];
    for (int64_t first = 0; first < length; first += PIECE) {
        const int64_t count = length - first < PIECE ? length - first : PIECE;
        if (ls_exec_download(optimizer->model->exec, values, gradients + first, sizeof *values * (size_t)count) !=
            LS_OK)
            return true;
        for (int64_t i = 0; i < count; i++)
            if (!isfinite(values[i])) return true;
    }
    return false;
}

/* Among the gradients of `entry` that this rank sums. */
static bool holds_bad(const ls_optimizer *optimizer, const ls_parameter *entry)
{
    const ls_shards *shards = &optimizer->shards;
    for (int i = 0; i < shards->count; i++) {
        const int64_t first = entry->offset, last = first + entry->rows * entry->cols;
        const int64_t begin = first > shards->list[i].kept_first ? first : shards->list[i].kept_first;
        const int64_t end = last < shards->list[i].kept_end ? last : shards->list[i].kept_end;
        const float *kept = ls_shards_gradients(shards, optimizer->gradients, i);
        if (range_is_bad(optimizer, kept + (begin - shards->list[i].kept_first), end - begin)) return true;
    }
    return false;
}

/* Of two entries the one of the higher layer, the first one among equals; -1: none. */
static int higher(const ls_parameter_table *table, int one, int other)
{
    if (one < 0 || other < 0) return one < 0 ? other : one;
    if (table->entries[one].layer != table->entries[other].layer)
        return table->entries[one].layer > table->entries[other].layer ? one : other;
    return one < other ? one : other;
}

ls_status ls_optimizer_culprit(const ls_optimizer *optimizer, const ls_parameter **culprit)
{
    const ls_parameter_table *table = &optimizer->model->table;
    const int size = ls_comm_size(optimizer->shards.comm);
    int own = -1, found = -1;
    for (int i = 0; i < table->count; i++)
        if (higher(table, own, i) == i && holds_bad(optimizer, &table->entries[i])) own = i;
    int *all = malloc(sizeof *all * (size_t)size);
    if (all == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for %d ranks", size);
    const ls_status status = ls_comm_gather(optimizer->shards.comm, all, &own, sizeof own);
    for (int r = 0; r < size && status == LS_OK; r++) found = higher(table, found, all[r]);
    free(all);
    *culprit = found < 0 ? NULL : &table->entries[found];
    return status;
}

ls_status ls_optimizer_measure(ls_optimizer *optimizer, double *squares)
{
    const ls_shards *shards = &optimizer->shards;
    ls_exec *exec = optimizer->model->exec;
    if (shards->sharding != LS_SHARDING_GRADIENTS) LS_TRY(ls_shards_reduce(&optimizer->shards, optimizer->gradients));
    for (int i = 0; i < shards->count; i++)
        exec->ops->sum_of_squares(exec, squares + i, ls_shards_gradients(shards, optimizer->gradients, i),
                                  shards->list[i].kept_end - shards->list[i].kept_first);
    return ls_exec_failed(exec);
}

double ls_optimizer_own_squares(const ls_optimizer *optimizer, const double *squares)
{
    double own = 0.0;
    for (int i = 0; i < optimizer->shards.count; i++) own += squares[i];
    return own;
}

double ls_optimizer_norm(const ls_optimizer *optimizer, const double *of_ranks)
{
    ls_comm *comm = optimizer->shards.comm;
    double sum = 0.0;
    if (optimizer->shards.sharding == LS_SHARDING_NONE) return sqrt(of_ranks[ls_comm_rank(comm)]);
    for (int r = 0; r < ls_comm_size(comm); r++) sum += of_ranks[r];
    return sqrt(sum);
}

static ls_status global_norm(ls_optimizer *optimizer, double *norm)
{
    ls_exec *exec = optimizer->model->exec;
    LS_TRY(ls_optimizer_measure(optimizer, optimizer->squares));
    LS_TRY(ls_exec_download(exec, optimizer->host_squares, optimizer->squares, squares_bytes(optimizer)));
    LS_TRY(ls_exec_failed(exec));
    const double own = ls_optimizer_own_squares(optimizer, optimizer->host_squares);
    LS_TRY(ls_comm_gather(optimizer->shards.comm, optimizer->norms, &own, sizeof own));
    *norm = ls_optimizer_norm(optimizer, optimizer->norms);
    return LS_OK;
}

/* ---- the update -------------------------------------------------------------------------------------------------- */

static double entry_decay(const ls_optimizer_options *options, const ls_parameter *entry)
{
    if (entry->is_norm || entry->is_bias || (entry->is_embedding && !options->decay_embeddings)) return 0.0;
    return options->weight_decay;
}

/* Updates elements start..end-1, which the bucket keeps. */
static void update_run(ls_optimizer *optimizer, const ls_adamw_step *step, int index, int64_t start, int64_t end)
{
    const ls_model *model = optimizer->model;
    const ls_shard *shard = &optimizer->shards.list[index];
    float *master = ls_optimizer_kept(optimizer, LS_KEPT_MASTER, index);
    float *gradients = ls_shards_gradients(&optimizer->shards, optimizer->gradients, index);
    while (start < end) {
        float *moments[LS_MOMENTS];
        const int64_t at = start - shard->kept_first;
        const int64_t there = ls_lanes_take(&optimizer->lanes, shard->place + at, moments);
        const int64_t count = there < end - start ? there : end - start;
        model->exec->ops->adamw(model->exec, master + at, moments[0], moments[1], gradients + at,
                                weights_at(optimizer, start), model->dtype, step, count);
        start += count;
    }
}

/* What the bucket keeps, in runs of equal decay; all of its gradient is zero then. */
static void update_bucket(ls_optimizer *optimizer, ls_adamw_step *step, int index)
{
    const ls_parameter_table *table = &optimizer->model->table;
    const ls_shard *shard = &optimizer->shards.list[index];
    int64_t start = 0;
    for (int i = 0; i < table->count; i++) {
        const double decay = entry_decay(&optimizer->options, &table->entries[i]);
        const bool last = i + 1 == table->count;
        if (!last && entry_decay(&optimizer->options, &table->entries[i + 1]) == decay) continue;
        const int64_t end = last ? table->elements : table->entries[i + 1].offset;
        const int64_t from = start > shard->kept_first ? start : shard->kept_first;
        const int64_t to = end < shard->kept_end ? end : shard->kept_end;
        step->weight_decay = (float)decay;
        if (from < to) update_run(optimizer, step, index, from, to);
        start = end;
    }
    if (optimizer->shards.summed != NULL) return; /* the block is empty */
    ls_exec_clear(optimizer->model->exec, optimizer->gradients + shard->first, shard->kept_first - shard->first);
    ls_exec_clear(optimizer->model->exec, optimizer->gradients + shard->kept_end, shard->end - shard->kept_end);
}

static ls_adamw_step adamw_step(const ls_optimizer *optimizer, double learning_rate, double norm)
{
    const ls_optimizer_options *options = &optimizer->options;
    const bool clip = options->clip_norm > 0.0 && norm > options->clip_norm;
    const double update = (double)optimizer->updates;
    return (ls_adamw_step){
        .learning_rate = (float)learning_rate,
        .beta1 = (float)options->beta1,
        .beta2 = (float)options->beta2,
        .epsilon = (float)options->epsilon,
        .gradient_scale = clip ? (float)(options->clip_norm / norm) : 1.0f,
        .bias_correction1 = (float)(1.0 - pow(options->beta1, update)),
        .bias_correction2 = (float)(1.0 - pow(options->beta2, update)),
    };
}

ls_status ls_optimizer_update(ls_optimizer *optimizer, double learning_rate, double gradient_norm)
{
    const ls_model *model = optimizer->model;
    optimizer->updates++;
    ls_adamw_step step = adamw_step(optimizer, learning_rate, gradient_norm);
    /* The weights of a bucket travel while the next one is updated. */
    for (int i = 0; i < optimizer->shards.count; i++) {
        update_bucket(optimizer, &step, i);
        if (optimizer->shards.sharding == LS_SHARDING_NONE) continue;
        LS_TRY(ls_exec_failed(model->exec));
        LS_TRY(ls_shards_publish(&optimizer->shards, i, model->weights, ls_dtype_size(model->dtype)));
    }
    ls_lanes_end(&optimizer->lanes);
    LS_TRY(ls_exec_failed(model->exec));
    return ls_shards_wait(&optimizer->shards);
}

ls_status ls_optimizer_step(ls_optimizer *optimizer, double learning_rate, double *gradient_norm)
{
    LS_TRY(global_norm(optimizer, gradient_norm));
    if (!isfinite(*gradient_norm)) {
        const ls_parameter *culprit;
        LS_TRY(ls_optimizer_culprit(optimizer, &culprit));
        return LS_FAIL(LS_NOT_FINITE, "the gradient of %s is not finite",
                       culprit == NULL ? "all parameters together" : culprit->name);
    }
    return ls_optimizer_update(optimizer, learning_rate, *gradient_norm);
}

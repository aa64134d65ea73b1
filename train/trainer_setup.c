/* Sizing and taking down a run: everything a step needs is allocated here. */
#include "train/trainer.h"

#include "core/log.h"

#include <stdlib.h>
#include <string.h>

static ls_dtype compute_type(ls_train_config *config, const ls_exec *exec)
{
    if (config->precision == LS_PRECISION_AUTO)
        config->precision = ls_exec_has_fast_bf16(exec) ? LS_PRECISION_BF16 : LS_PRECISION_FP32;
    return config->precision == LS_PRECISION_BF16 ? LS_BF16 : LS_F32;
}

int64_t ls_trainer_micro_batches(const ls_trainer *trainer)
{
    const ls_train_config *config = trainer->config;
    return config->training.global_batch_size / config->training.micro_batch_size / ls_comm_size(trainer->comm);
}

size_t ls_trainer_readings_bytes(const ls_trainer *trainer)
{
    const int64_t losses = ls_trainer_micro_batches(trainer) * trainer->config->model.num_hidden_layers;
    return sizeof(double) * (size_t)(losses + trainer->optimizer.shards.count);
}

/* All of the exec's memory that a run takes. */
static ls_status create_model(ls_trainer *trainer)
{
    ls_train_config *config = trainer->config;
    const ls_optimizer_options options = ls_train_config_optimizer(config);
    trainer->exec.attention = (ls_attention_choice)config->attention;
    trainer->exec.tf32 = config->tf32;
    const ls_dtype dtype = compute_type(config, &trainer->exec);
    LS_TRY(ls_model_create_for(&trainer->model, &trainer->exec, &config->model, dtype, ls_comm_size(trainer->comm)));
    LS_TRY(ls_optimizer_create_shared(&trainer->optimizer, &trainer->model, &options, trainer->comm,
                                      (ls_sharding)config->parallel.sharding,
                                      (int64_t)(config->parallel.bucket_mib * 1048576.0 / sizeof(float))));
    void *readings;
    LS_TRY(ls_exec_allocate(&trainer->exec, &readings, ls_trainer_readings_bytes(trainer), "what the host reads"));
    trainer->readings = readings;
    ls_profile_start(trainer->profile); /* where the device rehearses, its calls are counted */
    const ls_status status = ls_training_create(&trainer->training, &trainer->model, config->training.micro_batch_size,
                                                config->data.sequence_length, config->training.recompute);
    ls_profile_stop(trainer->profile);
    return status;
}

/* Between two of the steps' waits there are the largest passes with a place to clear a stretch, a sum a bucket for the
 * norm, and an update: at most one call a parameter, one more a bucket and lane, and two a bucket that clear the
 * gradients of others. */
static ls_status reserve_profile(ls_trainer *trainer)
{
    if (trainer->profile == NULL) return LS_OK;
    const int64_t pass = ls_profile_counted(trainer->profile) + trainer->optimizer.shards.stretch_count;
    const int64_t update =
        4 * trainer->optimizer.shards.count + trainer->model.table.count + ls_lanes_number(&trainer->optimizer.lanes);
    return ls_profile_reserve(trainer->profile, ls_trainer_micro_batches(trainer) * pass + update);
}

static ls_loader_options loader_options(const ls_train_config *config, ls_split split)
{
    return (ls_loader_options){.split = split,
                               .sequence_length = config->data.sequence_length,
                               .shuffle = config->data.shuffle && split == LS_SPLIT_TRAIN,
                               .document_mask = config->data.document_mask,
                               .seed = (uint64_t)config->seed};
}

/* Rank 0 tells what became of a split of records. */
static void tell_records(const ls_trainer *trainer, const ls_loader *loader, const char *split)
{
    const ls_loader_records *about = ls_loader_about_records(loader);
    if (about == NULL || ls_comm_rank(trainer->comm) > 0) return;
    const int64_t T = trainer->config->data.sequence_length;
    ls_log_info("%s: %lld records in %lld samples of %lld tokens, %.1f %% of the positions used", split,
                (long long)(about->records - about->left_out), (long long)about->samples, (long long)T,
                100.0 * (double)about->positions / (double)(about->samples * T));
    if (about->cut + about->left_out > 0)
        ls_log_warning(
            "%s: %lld records are longer than data.sequence_length + 1 tokens and are cut at their end; %lld "
            "leave nothing to learn and are left out",
            split, (long long)about->cut, (long long)about->left_out);
}

static ls_status create_loaders(ls_trainer *trainer)
{
    const ls_train_config *config = trainer->config;
    const ls_loader_options train = loader_options(config, LS_SPLIT_TRAIN);
    const ls_loader_options held_out = loader_options(config, LS_SPLIT_VALIDATION);
    LS_TRY(ls_loader_create(&trainer->loader, &trainer->tokens, &train));
    tell_records(trainer, trainer->loader, "to train on");
    if (config->evaluation.every == 0) return LS_OK;
    if (trainer->tokens.records && trainer->tokens.document_count[LS_SPLIT_VALIDATION] == 0) {
        if (ls_comm_rank(trainer->comm) == 0)
            ls_log_warning("%s holds out no records: no evaluation", trainer->tokens.path);
        return LS_OK;
    }
    if (!trainer->tokens.records && trainer->tokens.token_count[LS_SPLIT_VALIDATION] <= config->data.sequence_length) {
        if (ls_comm_rank(trainer->comm) > 0) return LS_OK;
        ls_log_warning("%s holds out %lld tokens, too few for a sample of %lld: no evaluation", trainer->tokens.path,
                       (long long)trainer->tokens.token_count[LS_SPLIT_VALIDATION],
                       (long long)config->data.sequence_length);
        return LS_OK;
    }
    LS_TRY(ls_loader_create(&trainer->held_out, &trainer->tokens, &held_out));
    tell_records(trainer, trainer->held_out, "held out");
    return LS_OK;
}

static ls_status create_all_exits(ls_step_plan *plan, int layers, int64_t samples)
{
    LS_TRY(ls_step_plan_create(plan, layers, (int)samples));
    ls_step_plan_set_plain(plan);
    for (int l = 0; l < layers; l++) plan->exit_weight[l] = 1.0f / (float)layers;
    return LS_OK;
}

static ls_status create_plans(ls_trainer *trainer)
{
    const int L = trainer->recipe.layers;
    const int64_t B = trainer->config->training.micro_batch_size;
    LS_TRY(ls_step_plan_create(&trainer->plan, L, (int)B));
    LS_TRY(create_all_exits(&trainer->everyone, L, B));
    if (trainer->held_out == NULL) return LS_OK;
    const int64_t available = ls_loader_samples_per_epoch(trainer->held_out);
    trainer->evaluation_samples = available < B ? available : B;
    return create_all_exits(&trainer->evaluation, L, trainer->evaluation_samples);
}

static ls_status create_buffers(ls_trainer *trainer)
{
    const ls_train_config *config = trainer->config;
    const int size = ls_comm_size(trainer->comm);
    const size_t count = (size_t)(config->training.global_batch_size / size * config->data.sequence_length);
    trainer->sample_memory = calloc(count, 4 * sizeof(int32_t));
    trainer->exit_loss = calloc((size_t)trainer->recipe.layers, sizeof(double));
    trainer->micro_loss = calloc((size_t)trainer->recipe.layers + 2, sizeof(double));
    trainer->messages = calloc((size_t)size * ((size_t)trainer->recipe.layers + 2), sizeof(double));
    trainer->of_ranks = calloc((size_t)size, sizeof(double));
    trainer->host_readings = calloc(1, ls_trainer_readings_bytes(trainer));
    if (trainer->sample_memory == NULL || trainer->exit_loss == NULL || trainer->micro_loss == NULL ||
        trainer->messages == NULL || trainer->of_ranks == NULL || trainer->host_readings == NULL)
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a step of %lld samples",
                       (long long)config->training.global_batch_size);
    trainer->samples = (ls_samples){.tokens = trainer->sample_memory,
                                    .targets = trainer->sample_memory + count,
                                    .first_key = trainer->sample_memory + 2 * count,
                                    .positions = trainer->sample_memory + 3 * count};
    return LS_OK;
}

/* Equal shares of whole micro-batches: any other cut would make processes wait. */
static ls_status check_shares(const ls_trainer *trainer)
{
    const int64_t B = trainer->config->training.micro_batch_size, G = trainer->config->training.global_batch_size;
    const int size = ls_comm_size(trainer->comm);
    if (G / B % size == 0) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT,
                   "%d processes cannot share a step equally: training.global_batch_size %lld is %lld micro-batches of "
                   "training.micro_batch_size %lld",
                   size, (long long)G, (long long)(G / B), (long long)B);
}

/* What does not need the other processes. */
static ls_status open(ls_trainer *trainer)
{
    ls_train_config *config = trainer->config;
    if (config->data.tokens == NULL)
        return LS_FAIL(LS_BAD_INPUT, "data.tokens is missing: name the token file made by layerskip prepare");
    LS_TRY(check_shares(trainer));
    LS_TRY(ls_token_file_open(&trainer->tokens, config->data.tokens));
    LS_TRY(ls_train_config_set_vocabulary(config, &trainer->tokens));
    trainer->recipe = ls_train_config_recipe(config);
    trainer->schedule = ls_train_config_schedule(config);
    LS_TRY(create_loaders(trainer));
    const ls_device device = (ls_device)config->device;
    const int threads = config->threads > 0 ? (int)config->threads : ls_comm_threads(trainer->comm);
    const int index = ls_comm_device_index(trainer->comm, device, (int)config->device_index);
    LS_TRY(ls_exec_create_on(&trainer->exec, device, index, threads));
    return config->profile ? ls_profile_create(&trainer->profile, &trainer->exec) : LS_OK;
}

static ls_status create(ls_trainer *trainer)
{
    const ls_train_config *config = trainer->config;
    LS_TRY(create_model(trainer));
    LS_TRY(reserve_profile(trainer));
    if (config->checkpoint.background) LS_TRY(ls_background_save_create(&trainer->background, &trainer->optimizer));
    LS_TRY(create_plans(trainer));
    LS_TRY(create_buffers(trainer));
    trainer->config_text = ls_config_write_text(config, ls_train_fields, ls_train_field_count);
    return trainer->config_text == NULL ? LS_FAIL(LS_NO_MEMORY, "cannot get memory for the config's text") : LS_OK;
}

ls_status ls_trainer_plan(ls_exec *counted, int64_t *saved, ls_train_config *config, int processes)
{
    ls_trainer trainer = {.config = config};
    LS_TRY(ls_comm_create_plan(&trainer.comm, processes));
    ls_status status = check_shares(&trainer);
    if (status == LS_OK) status = ls_exec_create_plan(&trainer.exec, (ls_device)config->device);
    if (status == LS_OK) status = create_model(&trainer);
    *counted = trainer.exec;
    *saved = trainer.model.table.elements / processes;
    ls_comm_close(trainer.comm);
    trainer.comm = NULL;
    ls_trainer_destroy(&trainer);
    counted->ops = NULL;
    counted->memory = NULL;
    counted->state = NULL;
    return status;
}

ls_status ls_trainer_create(ls_trainer *out, ls_train_config *config)
{
    return ls_trainer_create_shared(out, config, NULL);
}

ls_status ls_trainer_create_shared(ls_trainer *out, ls_train_config *config, ls_comm *comm)
{
    memset(out, 0, sizeof *out);
    out->config = config;
    out->comm = comm;
    ls_status status = ls_comm_agree(comm, open(out));
    if (status == LS_OK) status = ls_comm_attach(comm, &out->exec);
    if (status == LS_OK) status = ls_comm_agree(comm, create(out));
    if (status != LS_OK) ls_trainer_destroy(out);
    return status;
}

void ls_trainer_destroy(ls_trainer *trainer)
{
    ls_comm_detach(trainer->comm);
    ls_background_save_destroy(trainer->background);
    ls_step_plan_destroy(&trainer->evaluation);
    ls_step_plan_destroy(&trainer->everyone);
    ls_step_plan_destroy(&trainer->plan);
    ls_training_destroy(trainer->training);
    if (trainer->readings != NULL) ls_exec_free(&trainer->exec, trainer->readings, ls_trainer_readings_bytes(trainer));
    ls_optimizer_destroy(&trainer->optimizer);
    if (trainer->model.exec != NULL) ls_model_destroy(&trainer->model);
    ls_profile_destroy(trainer->profile);
    if (trainer->exec.ops != NULL) ls_exec_destroy(&trainer->exec);
    if (trainer->held_out != NULL) ls_loader_destroy(trainer->held_out);
    if (trainer->loader != NULL) ls_loader_destroy(trainer->loader);
    if (trainer->tokens.path != NULL) ls_token_file_close(&trainer->tokens);
    free(trainer->sample_memory);
    free(trainer->exit_loss);
    free(trainer->micro_loss);
    free(trainer->messages);
    free(trainer->of_ranks);
    free(trainer->host_readings);
    free(trainer->config_text);
    memset(trainer, 0, sizeof *trainer);
}

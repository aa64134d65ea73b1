/* The step, see trainer.h. Called by train/loop.c. */
#include "train/trainer.h"

#include "core/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sample number `first` onwards of what the step has read. */
static ls_batch batch_at(const ls_trainer *trainer, int64_t first, int64_t B)
{
    const int64_t T = trainer->config->data.sequence_length, start = first * T;
    return (ls_batch){.B = B,
                      .T = T,
                      .tokens = trainer->samples.tokens + start,
                      .targets = trainer->samples.targets + start,
                      .first_key = trainer->samples.first_key + start,
                      .positions = trainer->samples.positions + start};
}

static int64_t count_targets(const ls_trainer *trainer, int64_t samples)
{
    const int64_t count = samples * trainer->config->data.sequence_length;
    int64_t targets = 0;
    for (int64_t i = 0; i < count; i++) targets += trainer->samples.targets[i] >= 0;
    return targets;
}

/* ---- when a number is not finite --------------------------------------------------------------------------------- */

/* The first layer whose output already gives no finite loss, -1 when all do: every exit of the same samples, with
 * nobody dropped, losses only. */
static int first_bad_exit(ls_trainer *trainer, const ls_batch *batch)
{
    const int L = trainer->recipe.layers;
    memset(trainer->micro_loss, 0, sizeof(double) * (size_t)L);
    (void)ls_training_run(trainer->training, trainer->micro_loss, NULL, batch, &trainer->everyone, 1.0);
    ls_error_clear();
    for (int l = 0; l < L; l++)
        if (!isfinite(trainer->micro_loss[l])) return l;
    return -1;
}

/* The loss of the exit at `layer` is not finite. */
static ls_status explain_loss(ls_trainer *trainer, const ls_batch *batch, int layer)
{
    const int first = first_bad_exit(trainer, batch);
    return LS_FAIL(LS_NOT_FINITE, "step %lld: the loss is not finite from layer %d on", (long long)trainer->step + 1,
                   first >= 0 ? first : layer);
}

/* All exits were on: the first one that is not finite shows the layer. */
static ls_status explain_evaluation(const ls_trainer *trainer)
{
    int layer = 0;
    while (layer + 1 < trainer->recipe.layers && isfinite(trainer->micro_loss[layer])) layer++;
    ls_error_clear();
    return LS_FAIL(LS_NOT_FINITE, "step %lld: the held-out loss is not finite from layer %d on",
                   (long long)trainer->step, layer);
}

/* Trouble in backward spreads from the layer where it begins to all below it, so the highest bad layer is named. */
static ls_status explain_gradient(const ls_trainer *trainer)
{
    const ls_parameter *culprit;
    ls_error_clear();
    LS_TRY(ls_optimizer_culprit(&trainer->optimizer, &culprit));
    const long long step = trainer->step + 1;
    if (culprit == NULL) return LS_FAIL(LS_NOT_FINITE, "step %lld: the gradient norm is not finite", step);
    if (culprit->layer < 0)
        return LS_FAIL(LS_NOT_FINITE, "step %lld: the gradient of %s is not finite", step, culprit->name);
    return LS_FAIL(LS_NOT_FINITE, "step %lld: the gradient is not finite from layer %d down (%s)", step, culprit->layer,
                   culprit->name);
}

/* ---- the step ---------------------------------------------------------------------------------------------------- */

/* This rank's share of the step's samples; *targets: of all ranks. */
static ls_status read_samples(ls_trainer *trainer, double *targets)
{
    const int size = ls_comm_size(trainer->comm);
    const int64_t samples = trainer->config->training.global_batch_size / size;
    const int64_t first = trainer->cursor + samples * ls_comm_rank(trainer->comm);
    ls_comm_stand(trainer->comm, trainer->step + 1, LS_COMM_READING);
    const ls_status status = ls_loader_read(trainer->loader, first, samples, &trainer->samples);
    const double own = status == LS_OK ? (double)count_targets(trainer, samples) : -1.0;
    LS_TRY(ls_comm_gather(trainer->comm, trainer->messages, &own, sizeof own));
    bool failed = false;
    *targets = 0.0;
    for (int r = 0; r < size; r++) {
        failed = failed || trainer->messages[r] < 0.0;
        *targets += trainer->messages[r];
    }
    if (failed) return ls_comm_agree(trainer->comm, status);
    if (*targets > 0.0) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "step %lld: none of its tokens has a target; the documents of %s are too short",
                   (long long)trainer->step + 1, trainer->tokens.path);
}

typedef struct backward_news {
    ls_trainer *trainer;
    ls_status status;
} backward_news;

static void part_complete(void *context, int part)
{
    backward_news *news = context;
    ls_optimizer *optimizer = &news->trainer->optimizer;
    if (news->status == LS_OK) news->status = ls_shards_ready(&optimizer->shards, optimizer->gradients, part);
}

static float *place_of_part(void *context, int part)
{
    backward_news *news = context;
    return ls_shards_place(&news->trainer->optimizer.shards, part);
}

static void watch(backward_news *news, bool last)
{
    const bool places = news->trainer->optimizer.shards.staging != NULL;
    const ls_backward_watch watching = {
        .complete = last ? part_complete : NULL, .place = places ? place_of_part : NULL, .context = news};
    ls_training_watch(news->trainer->training, watching);
}

/* Micro-batch number `number` of this rank; its gradients travel during backward when `last`. */
static ls_status run_micro_batch(backward_news *news, int64_t number, bool last, double targets)
{
    ls_trainer *trainer = news->trainer;
    const ls_train_config *config = trainer->config;
    const int64_t B = config->training.micro_batch_size, share = ls_trainer_micro_batches(trainer);
    const ls_batch batch = batch_at(trainer, number * B, B);
    ls_comm_stand(trainer->comm, trainer->step + 1, LS_COMM_COMPUTING);
    ls_recipe_plan(&trainer->recipe, trainer->step, share * ls_comm_rank(trainer->comm) + number,
                   (uint64_t)config->seed, &trainer->plan);
    watch(news, last);
    const ls_status status = ls_training_issue(trainer->training, trainer->readings + number * trainer->recipe.layers,
                                               trainer->optimizer.gradients, &batch, &trainer->plan, targets);
    /* The others' exits are these, and so is the order in which their buckets start. */
    if (status != LS_OK) ls_training_tell(trainer->training, &trainer->plan);
    ls_training_watch(trainer->training, (ls_backward_watch){.context = NULL});
    return status;
}

/* Gradients travel during the last backward pass; those before only add to them. With ZeRO-2 they travel after every
 * one. A rank that has failed goes on taking part in that. */
static ls_status run_micro_batches(ls_trainer *trainer, double targets)
{
    ls_optimizer *optimizer = &trainer->optimizer;
    const int64_t count = ls_trainer_micro_batches(trainer);
    const bool every = optimizer->shards.sharding == LS_SHARDING_GRADIENTS;
    backward_news news = {trainer, LS_OK};
    ls_status status = LS_OK;
    for (int64_t i = 0; i < count; i++) {
        const bool last = every || i + 1 == count;
        if (status == LS_OK || last) {
            const ls_status own = run_micro_batch(&news, i, last, targets);
            if (status == LS_OK) status = own;
        }
        if (every) LS_TRY(ls_shards_reduce(&optimizer->shards, optimizer->gradients));
    }
    return status == LS_OK ? news.status : status;
}

/* The one wait of a step: losses and squares come to the host. The exits that are on are the same in all micro-batches
 * of a step. */
static ls_status read_losses(ls_trainer *trainer, double targets)
{
    const int64_t B = trainer->config->training.micro_batch_size, L = trainer->recipe.layers;
    LS_TRY(ls_exec_download(&trainer->exec, trainer->host_readings, trainer->readings,
                            ls_trainer_readings_bytes(trainer)));
    LS_TRY(ls_exec_failed(&trainer->exec));
    LS_TRY(ls_profile_settle(trainer->profile));
    memset(trainer->exit_loss, 0, sizeof(double) * (size_t)L);
    for (int64_t i = 0; i < ls_trainer_micro_batches(trainer); i++) {
        const double *sum = trainer->host_readings + i * L;
        for (int l = 0; l < L; l++) {
            if (!(trainer->plan.exit_weight[l] > 0.0f)) continue;
            if (!isfinite(*sum)) {
                const ls_batch batch = batch_at(trainer, i * B, B);
                return explain_loss(trainer, &batch, l);
            }
            trainer->exit_loss[l] += *sum++ / targets;
        }
    }
    return LS_OK;
}

/* What the ranks tell each other: sums the losses over them, in their order; a failure of any is that of all. */
static ls_status share_readings(ls_trainer *trainer, ls_status own, double *norm)
{
    const int L = trainer->recipe.layers, size = ls_comm_size(trainer->comm);
    const size_t count = (size_t)L + 2;
    double *message = trainer->micro_loss; /* [L+2] */
    memcpy(message, trainer->exit_loss, sizeof(double) * (size_t)L);
    message[L] =
        ls_optimizer_own_squares(&trainer->optimizer, trainer->host_readings + ls_trainer_micro_batches(trainer) * L);
    message[L + 1] = (double)own;
    LS_TRY(ls_comm_gather(trainer->comm, trainer->messages, message, sizeof(double) * count));
    bool failed = false;
    for (int r = 0; r < size; r++) failed = failed || trainer->messages[(size_t)r * count + (size_t)L + 1] != 0.0;
    if (failed) {
        LS_TRY(ls_optimizer_discard(&trainer->optimizer));
        return ls_comm_agree(trainer->comm, own);
    }
    for (int l = 0; l < L; l++) {
        double sum = 0.0;
        for (int r = 0; r < size; r++) sum += trainer->messages[(size_t)r * count + (size_t)l];
        trainer->exit_loss[l] = sum;
    }
    for (int r = 0; r < size; r++) trainer->of_ranks[r] = trainer->messages[(size_t)r * count + (size_t)L];
    *norm = ls_optimizer_norm(&trainer->optimizer, trainer->of_ranks);
    return LS_OK;
}

/* Every rank takes part in summing the gradients, whatever has happened to it. */
static ls_status measure(ls_trainer *trainer, ls_step_report *report)
{
    ls_status status = run_micro_batches(trainer, report->targets);
    ls_comm_stand(trainer->comm, trainer->step + 1, LS_COMM_REDUCING);
    const int64_t losses = ls_trainer_micro_batches(trainer) * trainer->recipe.layers;
    const ls_status measured = ls_optimizer_measure(&trainer->optimizer, trainer->readings + losses);
    if (status == LS_OK) status = measured;
    if (status == LS_OK) status = read_losses(trainer, report->targets);
    return share_readings(trainer, status, &report->gradient_norm);
}

static ls_status update(ls_trainer *trainer, const ls_step_report *report)
{
    if (isfinite(report->gradient_norm))
        return ls_optimizer_update(&trainer->optimizer, report->learning_rate, report->gradient_norm);
    const ls_status explained = explain_gradient(trainer);
    LS_TRY(ls_optimizer_discard(&trainer->optimizer));
    return explained;
}

/* The step counts as taken, without an update. */
static void skip(ls_trainer *trainer, ls_step_report *report)
{
    if (ls_comm_rank(trainer->comm) == 0) ls_log_warning("%s; the step is skipped", ls_error_text());
    ls_error_clear();
    for (int l = 0; l < trainer->recipe.layers; l++) trainer->exit_loss[l] = NAN;
    report->skipped = true;
    report->loss = report->objective = report->gradient_norm = NAN;
}

static ls_status step(ls_trainer *trainer, ls_step_report *report)
{
    const int L = trainer->recipe.layers;
    *report = (ls_step_report){.learning_rate = ls_schedule_rate(&trainer->schedule, trainer->step)};
    LS_TRY(read_samples(trainer, &report->targets));
    ls_status status = measure(trainer, report);
    if (status == LS_OK) {
        report->loss = trainer->exit_loss[L - 1];
        for (int l = 0; l < L; l++)
            if (trainer->plan.exit_weight[l] > 0.0f)
                report->objective += (double)trainer->plan.exit_weight[l] * trainer->exit_loss[l];
        status = update(trainer, report);
    }
    if (status == LS_NOT_FINITE && trainer->config->training.not_finite == LS_NOT_FINITE_SKIP)
        skip(trainer, report);
    else
        LS_TRY(status);
    trainer->step++;
    trainer->cursor += trainer->config->training.global_batch_size;
    ls_comm_stand(trainer->comm, trainer->step, LS_COMM_BETWEEN_STEPS);
    return LS_OK;
}

ls_status ls_trainer_step(ls_trainer *trainer, ls_step_report *report)
{
    ls_profile_start(trainer->profile);
    const ls_status status = step(trainer, report);
    ls_profile_stop(trainer->profile);
    return status;
}

/* ---- held-out text ----------------------------------------------------------------------------------------------- */

/* Held-out samples number first..first+B-1 of `total` that are spread evenly over the split: its beginning alone may be
 * a single document, and an odd one. */
static ls_status read_spread(ls_trainer *trainer, int64_t first, int64_t total)
{
    const int64_t T = trainer->config->data.sequence_length, all = ls_loader_samples_per_epoch(trainer->held_out);
    for (int64_t j = 0; j < trainer->evaluation_samples; j++) {
        const ls_samples row = {.tokens = trainer->samples.tokens + j * T,
                                .targets = trainer->samples.targets + j * T,
                                .first_key = trainer->samples.first_key + j * T,
                                .positions = trainer->samples.positions + j * T};
        LS_TRY(ls_loader_read(trainer->held_out, (first + j) * all / total, 1, &row));
    }
    return LS_OK;
}

/* Sum of every exit's losses over held-out batch `number` of `batches`, [L], then its targets. */
static ls_status evaluate_batch(ls_trainer *trainer, int64_t number, int64_t batches, double *sums)
{
    const int64_t B = trainer->evaluation_samples;
    const int L = trainer->recipe.layers;
    ls_comm_stand(trainer->comm, trainer->step, LS_COMM_EVALUATING);
    LS_TRY(read_spread(trainer, number * B, batches * B));
    const int64_t targets = count_targets(trainer, B);
    if (targets == 0) return LS_OK;
    const ls_batch batch = batch_at(trainer, 0, B);
    const ls_status status =
        ls_training_run(trainer->training, trainer->micro_loss, NULL, &batch, &trainer->evaluation, 1.0);
    if (status == LS_NOT_FINITE) return explain_evaluation(trainer);
    LS_TRY(status);
    memcpy(sums, trainer->micro_loss, sizeof(double) * (size_t)L);
    sums[L] = (double)targets;
    return LS_OK;
}

/* Rank r takes batches r, r + size...; sums are made in the order of the batches, whoever computed them. */
static ls_status evaluate_shared(ls_trainer *trainer, double *loss, double *tokens, int64_t batches, double *own,
                                 double *all)
{
    const int L = trainer->recipe.layers, size = ls_comm_size(trainer->comm), rank = ls_comm_rank(trainer->comm);
    const int64_t width = L + 1, share = (batches + size - 1) / size;
    ls_status status = LS_OK;
    for (int64_t i = rank; i < batches && status == LS_OK; i += size)
        status = evaluate_batch(trainer, i, batches, own + i / size * width);
    LS_TRY(ls_comm_agree(trainer->comm, status));
    LS_TRY(ls_comm_gather(trainer->comm, all, own, sizeof(double) * (size_t)(share * width)));
    for (int64_t i = 0; i < batches; i++) {
        const double *sums = all + (i % size * share + i / size) * width;
        for (int l = 0; l < L; l++) loss[l] += sums[l];
        *tokens += sums[L];
    }
    for (int l = 0; l < L; l++) loss[l] /= *tokens > 0.0 ? *tokens : 1.0;
    return LS_OK;
}

ls_status ls_trainer_evaluate(ls_trainer *trainer, double *loss, double *tokens)
{
    const int L = trainer->recipe.layers, size = ls_comm_size(trainer->comm);
    *tokens = 0.0;
    for (int l = 0; l < L; l++) loss[l] = 0.0;
    if (trainer->held_out == NULL) return LS_OK;
    const int64_t whole = ls_loader_samples_per_epoch(trainer->held_out) / trainer->evaluation_samples;
    const int64_t batches = trainer->config->evaluation.batches < whole ? trainer->config->evaluation.batches : whole;
    const size_t share = (size_t)((batches + size - 1) / size * (L + 1));
    double *own = calloc(share * (size_t)(size + 1), sizeof *own);
    if (own == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the held-out losses");
    const ls_status status = evaluate_shared(trainer, loss, tokens, batches, own, own + share);
    free(own);
    return status;
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

static ls_checkpoint about(const ls_trainer *trainer)
{
    return (ls_checkpoint){.step = trainer->step,
                           .cursor = trainer->cursor,
                           .seed = trainer->config->seed,
                           .token_file_hash = ls_checkpoint_token_file_hash(&trainer->tokens),
                           .config = trainer->config_text,
                           .tokenizer = trainer->tokens.tokenizer};
}

ls_status ls_trainer_save(const ls_trainer *trainer)
{
    const ls_checkpoint written = about(trainer);
    return ls_checkpoint_save(trainer->config->run_dir, &written, &trainer->optimizer,
                              trainer->config->checkpoint.keep);
}

ls_status ls_trainer_save_in_background(const ls_trainer *trainer)
{
    const ls_checkpoint written = about(trainer);
    return ls_background_save_begin(trainer->background, trainer->config->run_dir, &written,
                                    trainer->config->checkpoint.keep);
}

ls_status ls_trainer_initialize(ls_trainer *trainer)
{
    const ls_train_config *config = trainer->config;
    if (config->init_from != NULL)
        return ls_checkpoint_restore_weights(&trainer->optimizer, trainer->tokens.tokenizer, config->init_from);
    return ls_optimizer_initialize(&trainer->optimizer, (uint64_t)config->seed);
}

static ls_status check_continues(const ls_trainer *trainer, const ls_checkpoint *saved, const char *path)
{
    if (saved->token_file_hash != ls_checkpoint_token_file_hash(&trainer->tokens))
        return LS_FAIL(LS_BAD_INPUT, "%s is not the token file that %s was trained on", trainer->tokens.path, path);
    LS_TRY(ls_train_config_match(trainer->config, saved->config, path));
    if (saved->step < 0 || saved->step > trainer->schedule.steps || saved->cursor < 0)
        return LS_FAIL(LS_BAD_INPUT, "%s is damaged: its step %lld is outside of the run", path,
                       (long long)saved->step);
    return LS_OK;
}

ls_status ls_trainer_resume(ls_trainer *trainer, const char *checkpoint)
{
    ls_checkpoint saved;
    ls_status status = ls_checkpoint_read(&saved, checkpoint);
    if (status == LS_OK) status = check_continues(trainer, &saved, checkpoint);
    status = ls_comm_agree(trainer->comm, status);
    if (status == LS_OK) status = ls_checkpoint_restore(&trainer->optimizer, checkpoint);
    if (status == LS_OK) {
        trainer->step = saved.step;
        trainer->cursor = saved.cursor;
    }
    ls_checkpoint_free(&saved);
    return status;
}

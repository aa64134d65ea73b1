/* The step, see trainer.h. Called by train/loop.c. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#define TRAINING_RANK 0 /* one process */

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

static ls_status explain_loss(ls_trainer *trainer, const ls_batch *batch)
{
    const long long step = trainer->step + 1;
    int layer = -1;
    for (int l = trainer->recipe.layers - 1; l >= 0; l--)
        if (trainer->plan.exit_weight[l] > 0.0f && !isfinite(trainer->micro_loss[l])) layer = l;
    ls_error_clear();
    const int first = first_bad_exit(trainer, batch);
    return LS_FAIL(LS_NOT_FINITE, "step %lld: the loss is not finite from layer %d on", step,
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
    const ls_parameter_table *table = &trainer->model.table;
    const ls_parameter *culprit = NULL;
    for (int i = 0; i < table->count; i++) {
        const ls_parameter *entry = &table->entries[i];
        bool finite;
        if (culprit != NULL && entry->layer <= culprit->layer) continue;
        LS_TRY(ls_optimizer_gradient_finite(&trainer->optimizer, entry, &finite));
        if (!finite) culprit = entry;
    }
    ls_error_clear();
    const long long step = trainer->step + 1;
    if (culprit == NULL) return LS_FAIL(LS_NOT_FINITE, "step %lld: the gradient norm is not finite", step);
    if (culprit->layer < 0)
        return LS_FAIL(LS_NOT_FINITE, "step %lld: the gradient of %s is not finite", step, culprit->name);
    return LS_FAIL(LS_NOT_FINITE, "step %lld: the gradient is not finite from layer %d down (%s)", step, culprit->layer,
                   culprit->name);
}

/* ---- the step ---------------------------------------------------------------------------------------------------- */

static ls_status run_micro_batches(ls_trainer *trainer, double targets)
{
    const ls_train_config *config = trainer->config;
    const int64_t B = config->training.micro_batch_size, count = config->training.global_batch_size / B;
    const int L = trainer->recipe.layers;
    memset(trainer->exit_loss, 0, sizeof(double) * (size_t)L);
    for (int64_t i = 0; i < count; i++) {
        const ls_batch batch = batch_at(trainer, i * B, B);
        ls_recipe_plan(&trainer->recipe, trainer->step, i, (uint64_t)config->seed, TRAINING_RANK, &trainer->plan);
        const ls_status status = ls_training_run(trainer->training, trainer->micro_loss, trainer->optimizer.gradients,
                                                 &batch, &trainer->plan, targets);
        if (status == LS_NOT_FINITE) return explain_loss(trainer, &batch);
        LS_TRY(status);
        for (int l = 0; l < L; l++)
            if (trainer->plan.exit_weight[l] > 0.0f) trainer->exit_loss[l] += trainer->micro_loss[l] / targets;
    }
    return LS_OK;
}

ls_status ls_trainer_step(ls_trainer *trainer, ls_step_report *report)
{
    const int64_t samples = trainer->config->training.global_batch_size;
    LS_TRY(ls_loader_read(trainer->loader, trainer->cursor, samples, &trainer->samples));
    const double targets = (double)count_targets(trainer, samples);
    if (!(targets > 0.0))
        return LS_FAIL(LS_BAD_INPUT, "step %lld: none of its tokens has a target; the documents of %s are too short",
                       (long long)trainer->step + 1, trainer->tokens.path);
    LS_TRY(run_micro_batches(trainer, targets));

    *report = (ls_step_report){.learning_rate = ls_schedule_rate(&trainer->schedule, trainer->step),
                               .targets = targets,
                               .loss = trainer->exit_loss[trainer->recipe.layers - 1]};
    for (int l = 0; l < trainer->recipe.layers; l++)
        if (trainer->plan.exit_weight[l] > 0.0f)
            report->objective += (double)trainer->plan.exit_weight[l] * trainer->exit_loss[l];
    const ls_status status = ls_optimizer_step(&trainer->optimizer, report->learning_rate, &report->gradient_norm);
    if (status == LS_NOT_FINITE) return explain_gradient(trainer);
    LS_TRY(status);
    trainer->step++;
    trainer->cursor += samples;
    return LS_OK;
}

ls_status ls_trainer_evaluate(ls_trainer *trainer, double *loss, double *tokens)
{
    const int L = trainer->recipe.layers;
    const int64_t B = trainer->evaluation_samples;
    *tokens = 0.0;
    for (int l = 0; l < L; l++) loss[l] = 0.0;
    if (trainer->held_out == NULL) return LS_OK;
    const int64_t whole = ls_loader_samples_per_epoch(trainer->held_out) / B;
    const int64_t batches = trainer->config->evaluation.batches < whole ? trainer->config->evaluation.batches : whole;
    for (int64_t i = 0; i < batches; i++) {
        LS_TRY(ls_loader_read(trainer->held_out, i * B, B, &trainer->samples));
        const int64_t targets = count_targets(trainer, B);
        if (targets == 0) continue;
        const ls_batch batch = batch_at(trainer, 0, B);
        const ls_status status =
            ls_training_run(trainer->training, trainer->micro_loss, NULL, &batch, &trainer->evaluation, 1.0);
        if (status == LS_NOT_FINITE) return explain_evaluation(trainer);
        LS_TRY(status);
        for (int l = 0; l < L; l++) loss[l] += trainer->micro_loss[l];
        *tokens += (double)targets;
    }
    for (int l = 0; l < L; l++) loss[l] /= *tokens > 0.0 ? *tokens : 1.0;
    return LS_OK;
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

ls_status ls_trainer_save(const ls_trainer *trainer)
{
    const ls_checkpoint about = {.step = trainer->step,
                                 .cursor = trainer->cursor,
                                 .seed = trainer->config->seed,
                                 .token_file_hash = ls_checkpoint_token_file_hash(&trainer->tokens),
                                 .config = trainer->config_text,
                                 .tokenizer = trainer->tokens.tokenizer};
    return ls_checkpoint_save(trainer->config->run_dir, &about, &trainer->optimizer, trainer->config->checkpoint.keep);
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
    LS_TRY(ls_checkpoint_read(&saved, checkpoint));
    ls_status status = check_continues(trainer, &saved, checkpoint);
    if (status == LS_OK) status = ls_checkpoint_restore(&trainer->optimizer, checkpoint);
    if (status == LS_OK) {
        trainer->step = saved.step;
        trainer->cursor = saved.cursor;
    }
    ls_checkpoint_free(&saved);
    return status;
}

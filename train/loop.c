/* The loop around the step: what it prints, measures, saves, and how it ends. Called by train/train_command.c. */
#include "train/loop.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/text.h"
#include "kernels/ceilings.h"
#include "train/metrics.h"
#include "train/profile_summary.h"
#include "train/ranks.h"
#include "train/tensorboard.h"
#include "train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_EXITS = 6, NEWS = 3, HINT_PERCENT = 5 };

typedef struct run {
    ls_trainer trainer;
    ls_comm *comm; /* NULL: alone */
    bool leads;    /* rank 0: it talks, and keeps the run folder */
    ls_metrics metrics;
    ls_tensorboard tensorboard;
    double *evaluation;      /* [L] */
    double flops_per_token;  /* of training, as throughput is reported */
    double peak;             /* FLOP/s of the best matrix product; 0: not known */
    double began;            /* seconds */
    double seconds_per_step; /* smoothed */
    int64_t steps_here;      /* taken by this process */
    int64_t saved_step;      /* of the newest checkpoint, -1: none */
    int64_t saving_step;     /* of the one that is being written in the background */
    double save_ended;       /* or training began */
    double save_waited;      /* seconds that training has waited for the one being written */
    bool hinted;
    int *news; /* [size][NEWS] of agree */
    int lock;  /* of the run's folder, against a second process; -1: none */
    ls_profile_summary profile;
} run;

/* ---- what a step tells ------------------------------------------------------------------------------------------- */

/* "  after 2 layers: 3.90, 3: 3.72" of the exits below the last that are on, at most SHOWN_EXITS. People read how many
 * layers ran, the number that --exit-layer takes; files keep the layer's own number, counted from 0. */
static const char *exits_text(const run *self, char *text, size_t size)
{
    const ls_trainer *trainer = &self->trainer;
    size_t used = 0;
    int shown = 0;
    text[0] = '\0';
    for (int l = 0; l + 1 < trainer->recipe.layers && shown <= SHOWN_EXITS && used < size; l++) {
        if (!(trainer->plan.exit_weight[l] > 0.0f)) continue;
        const int length = shown == SHOWN_EXITS ? snprintf(text + used, size - used, ", ...")
                           : shown == 0
                               ? snprintf(text + used, size - used, "  after %d layer%s: %.3f", l + 1,
                                          l == 0 ? "" : "s", trainer->exit_loss[l])
                               : snprintf(text + used, size - used, ", %d: %.3f", l + 1, trainer->exit_loss[l]);
        used += (size_t)length;
        shown++;
    }
    return text;
}

/* "1:02:03", "2:03" */
static const char *duration_text(double seconds, char *text, size_t size)
{
    const long long whole = (long long)(seconds < 0.0 ? 0.0 : seconds + 0.5);
    if (whole >= 3600)
        (void)snprintf(text, size, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        (void)snprintf(text, size, "%lld:%02lld", whole / 60, whole % 60);
    return text;
}

static void show_progress(const run *self, const ls_step_report *report, double tokens_per_second, double share)
{
    const ls_trainer *trainer = &self->trainer;
    char exits[256], eta[32], of_peak[48] = "";
    if (share >= 0.0)
        (void)snprintf(of_peak, sizeof of_peak, "  %.0f %% of %.0f GFLOP/s", 100.0 * share,
                       self->peak * ls_comm_size(self->comm) * 1e-9);
    const double left = (double)(trainer->schedule.steps - trainer->step) * self->seconds_per_step;
    ls_log_progress("step %lld/%lld  loss %.3f%s  %.0f tokens/s%s  ETA %s", (long long)trainer->step,
                    (long long)trainer->schedule.steps, report->loss, exits_text(self, exits, sizeof exits),
                    tokens_per_second, of_peak, duration_text(left, eta, sizeof eta));
}

static void write_events(run *self, const ls_step_metrics *values)
{
    char tag[64];
    ls_tensorboard *out = &self->tensorboard;
    ls_tensorboard_scalar(out, values->step, "loss", values->loss);
    ls_tensorboard_scalar(out, values->step, "objective", values->objective);
    ls_tensorboard_scalar(out, values->step, "learning_rate", values->learning_rate);
    ls_tensorboard_scalar(out, values->step, "gradient_norm", values->gradient_norm);
    ls_tensorboard_scalar(out, values->step, "tokens_per_second", values->tokens_per_second);
    for (int l = 0; l + 1 < values->layers; l++) {
        if (!(values->weight[l] > 0.0f)) continue;
        (void)snprintf(tag, sizeof tag, "exit_loss/layer_%02d", l);
        ls_tensorboard_scalar(out, values->step, tag, values->exit_loss[l]);
    }
}

/* A mean that slowly forgets. The first step, which plans products and touches memory first, does not count. */
static void smooth_speed(run *self, double seconds)
{
    const int64_t steps = ++self->steps_here;
    const double smoothing = steps <= 2 ? 1.0 : fmax(0.05, 1.0 / (double)(steps - 1));
    self->seconds_per_step += smoothing * (seconds - self->seconds_per_step);
}

static ls_status report_step(run *self, const ls_step_report *report, double seconds)
{
    if (!self->leads) return LS_OK;
    const ls_trainer *trainer = &self->trainer;
    const ls_train_config *config = trainer->config;
    const int64_t step_tokens = config->training.global_batch_size * config->data.sequence_length;
    const double tokens_per_second = (double)step_tokens / seconds;
    const double peak = self->peak * ls_comm_size(self->comm);
    ls_profile_table profile;
    if (trainer->profile != NULL) {
        ls_profile_take(trainer->profile, &profile);
        ls_profile_summary_add(&self->profile, &profile, seconds);
    }
    const ls_step_metrics values = {
        .step = trainer->step,
        .loss = report->loss,
        .objective = report->objective,
        .layers = trainer->recipe.layers,
        .exit_loss = trainer->exit_loss,
        .weight = trainer->plan.exit_weight,
        .learning_rate = report->learning_rate,
        .gradient_norm = report->gradient_norm,
        .tokens = trainer->step * step_tokens,
        .tokens_per_second = tokens_per_second,
        .share_of_peak = peak > 0.0 ? tokens_per_second * self->flops_per_token / peak : -1.0,
        .seconds = ls_seconds_now() - self->began,
        .step_seconds = seconds,
        .profile = trainer->profile != NULL ? &profile : NULL,
    };
    smooth_speed(self, seconds);
    const double smooth_rate = (double)step_tokens / self->seconds_per_step;
    show_progress(self, report, smooth_rate, peak > 0.0 ? smooth_rate * self->flops_per_token / peak : -1.0);
    if (trainer->step % config->log_every != 0 && trainer->step != config->training.steps) return LS_OK;
    LS_TRY(ls_metrics_step(&self->metrics, &values));
    write_events(self, &values);
    return ls_tensorboard_flush(&self->tensorboard);
}

/* ---- held-out text ----------------------------------------------------------------------------------------------- */

static ls_status evaluate(run *self)
{
    ls_trainer *trainer = &self->trainer;
    const int L = trainer->recipe.layers;
    double tokens;
    char tag[64];
    LS_TRY(ls_trainer_evaluate(trainer, self->evaluation, &tokens));
    if (!(tokens > 0.0) || !self->leads) return LS_OK;
    ls_text line = {0};
    for (int l = 0; l < L; l++)
        ls_text_addf(&line, l == 0 ? "after %d layer: %.3f" : ", %d: %.3f", l + 1, self->evaluation[l]);
    ls_log_info("step %lld: held-out loss %s", (long long)trainer->step, line.bytes == NULL ? "" : line.bytes);
    free(line.bytes);
    for (int l = 0; l < L; l++) {
        (void)snprintf(tag, sizeof tag, "held_out_loss/layer_%02d", l);
        ls_tensorboard_scalar(&self->tensorboard, trainer->step, tag, self->evaluation[l]);
    }
    LS_TRY(ls_metrics_evaluation(&self->metrics, trainer->step, L, self->evaluation, tokens));
    return ls_tensorboard_flush(&self->tensorboard);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static bool due(int64_t step, int64_t every, int64_t steps)
{
    return every > 0 && (step % every == 0 || step == steps);
}

/* What a save cost: `waited` of the time since the save before, by which training went on less. */
static void tell_saved(run *self, int64_t step, double seconds, double waited, const char *how)
{
    const double now = ls_seconds_now(),
                 mebibytes = (double)(self->trainer.model.table.parameters * 3 * (int64_t)sizeof(float)) / 1048576.0;
    const double share = 100.0 * waited / (now - self->save_ended);
    ls_log_info("step %lld: saved %.1f MiB in %.2f s, %.0f MiB/s%s; training waited %.2f s, %.1f %% of the time since "
                "the last save",
                (long long)step, mebibytes, seconds, mebibytes / seconds, how, waited, share);
    if (self->trainer.background == NULL && share > HINT_PERCENT && !self->hinted &&
        step < self->trainer.schedule.steps) {
        ls_log_info("checkpoint.background: true would write while training goes on");
        self->hinted = true;
    }
    self->saved_step = step;
    self->save_ended = now;
    ls_comm_set_resumes(self->comm);
    ls_comm_stand(self->comm, self->trainer.step, LS_COMM_BETWEEN_STEPS);
}

/* Waits for the save that is being written, if one is, and names its file. */
static ls_status end_background_save(run *self)
{
    if (!ls_background_save_running(self->trainer.background)) return LS_OK;
    const double begin = ls_seconds_now();
    double seconds;
    LS_TRY(ls_background_save_end(self->trainer.background, &seconds));
    self->save_waited += ls_seconds_now() - begin;
    tell_saved(self, self->saving_step, seconds, self->save_waited, " while training went on");
    return LS_OK;
}

static ls_status save(run *self)
{
    const double before = self->save_ended;
    LS_TRY(end_background_save(self));
    if (self->saved_step == self->trainer.step) return LS_OK;
    self->save_ended = before; /* the one that has just ended began before the steps between */
    const double begin = ls_seconds_now();
    LS_TRY(ls_trainer_save(&self->trainer));
    const double seconds = ls_seconds_now() - begin;
    tell_saved(self, self->trainer.step, seconds, seconds, "");
    return LS_OK;
}

/* In the background while steps are left, by choice. */
static ls_status save_and_go_on(run *self)
{
    const ls_trainer *trainer = &self->trainer;
    if (trainer->background == NULL || trainer->step == trainer->config->training.steps) return save(self);
    const double begin = ls_seconds_now();
    LS_TRY(end_background_save(self));
    LS_TRY(ls_trainer_save_in_background(trainer));
    self->saving_step = trainer->step;
    self->save_waited = ls_seconds_now() - begin;
    return LS_OK;
}

static ls_status take_step(run *self)
{
    ls_trainer *trainer = &self->trainer;
    const ls_train_config *config = trainer->config;
    const double start = ls_seconds_now();
    ls_step_report report;
    LS_TRY(ls_trainer_step(trainer, &report));
    LS_TRY(report_step(self, &report, ls_seconds_now() - start));
    if (due(trainer->step, config->evaluation.every, config->training.steps)) LS_TRY(evaluate(self));
    if (trainer->step == config->training.steps || due(trainer->step, config->checkpoint.every, config->training.steps))
        LS_TRY(save_and_go_on(self));
    return LS_OK;
}

/* What every rank is told before a step: how the last one ended on each, whether any was asked to stop, and whether
 * what was being saved is written. */
static ls_status agree(run *self, ls_status own, int *signal_number)
{
    const int size = ls_comm_size(self->comm);
    const int message[NEWS] = {(int)own, ls_interrupt_signal(), ls_background_save_written(self->trainer.background)};
    LS_TRY(ls_comm_gather(self->comm, self->news, message, sizeof message));
    bool failed = false, written = true;
    *signal_number = 0;
    for (int r = 0; r < size; r++) {
        failed = failed || self->news[NEWS * r] != (int)LS_OK;
        if (*signal_number == 0) *signal_number = self->news[NEWS * r + 1];
        written = written && self->news[NEWS * r + 2] != 0;
    }
    if (failed) return ls_comm_agree(self->comm, own);
    return written ? end_background_save(self) : LS_OK;
}

/* Adds to a failure (a number that is not finite, a full disk) which checkpoint the run can go on from. */
static ls_status explain_stop(const run *self, ls_status status)
{
    if (self->saved_step < 0) return LS_REWORD(status, "%s; no checkpoint was saved before", ls_error_text());
    return LS_REWORD(status, "%s; the last good checkpoint is %s/checkpoints/step-%08lld.h5", ls_error_text(),
                     self->trainer.config->run_dir, (long long)self->saved_step);
}

static const char *signal_text(int number)
{
    return number == SIGTERM ? "SIGTERM" : number == SIGUSR1 ? "SIGUSR1" : number == SIGHUP ? "SIGHUP" : "Ctrl-C";
}

static ls_status stop_for_signal(run *self, int number)
{
    const ls_status saved = save(self);
    if (saved != LS_OK) return self->leads ? explain_stop(self, saved) : saved;
    return LS_FAIL(LS_INTERRUPTED, "stopped by %s after step %lld; the checkpoint is saved, --resume continues it",
                   signal_text(number), (long long)self->trainer.step);
}

/* Most memory that any of the processes has needed. */
static ls_status tell_memory(run *self)
{
    const double own = (double)ls_memory_peak_resident() / 1048576.0;
    double most = 0.0, *all = calloc((size_t)ls_comm_size(self->comm), sizeof *all);
    if (all == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a message");
    const ls_status status = ls_comm_gather(self->comm, all, &own, sizeof own);
    for (int r = 0; r < ls_comm_size(self->comm); r++) most = all[r] > most ? all[r] : most;
    free(all);
    ls_log_info("peak memory of a process: %.0f MiB", most);
    return status;
}

/* A run that fails keeps the checkpoint that it was writing; the sentence of the failure stays. */
static void keep_what_is_written(run *self)
{
    char *sentence = ls_text_format("%s", ls_error_text());
    ls_error_clear();
    (void)end_background_save(self);
    ls_error_clear();
    if (sentence[0] != '\0') (void)LS_FAIL(LS_INTERNAL, "%s", sentence);
    free(sentence);
}

static ls_status loop(run *self)
{
    ls_trainer *trainer = &self->trainer;
    int signal_number = 0;
    self->began = self->save_ended = ls_seconds_now();
    ls_status status = agree(self, LS_OK, &signal_number);
    while (status == LS_OK && trainer->step < trainer->schedule.steps && signal_number == 0)
        status = agree(self, take_step(self), &signal_number);
    ls_log_progress_end();
    if (status != LS_OK && status != LS_LOST) keep_what_is_written(self);
    if (status != LS_OK) return self->leads ? explain_stop(self, status) : status;
    ls_profile_summary_tell(&self->profile);
    if (trainer->step < trainer->schedule.steps) return stop_for_signal(self, signal_number);
    char took[32];
    ls_log_info("trained %lld steps in %s; the model is %s/checkpoints/step-%08lld.h5", (long long)self->steps_here,
                duration_text(ls_seconds_now() - self->began, took, sizeof took), trainer->config->run_dir,
                (long long)trainer->step);
    return tell_memory(self);
}

/* ---- before and after -------------------------------------------------------------------------------------------- */

/* The checkpoint to continue, or NULL for a new run. Nothing has been written yet. */
static ls_status find_start(char **checkpoint, const ls_train_config *config, ls_start start)
{
    *checkpoint = NULL;
    if (config->run_dir == NULL)
        return LS_FAIL(LS_BAD_INPUT, "run_dir is missing: name the folder that the run shall write to");
    if (start == LS_START_NEW)
        LS_TRY(ls_checkpoint_newest(checkpoint, config->run_dir));
    else
        LS_TRY(ls_checkpoint_choose(checkpoint, config->run_dir, start == LS_START_EITHER));
    if (start == LS_START_RESUME && *checkpoint == NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s holds no checkpoint to continue; leave --resume out to start the run",
                       config->run_dir);
    if (start == LS_START_NEW && *checkpoint != NULL)
        return LS_FAIL(LS_BAD_INPUT, "%s holds a run already (%s); continue it with --resume or name another run_dir",
                       config->run_dir, *checkpoint);
    return LS_OK;
}

/* The same on every rank, as rank 0 sees the folder. */
static ls_status find_start_together(char **checkpoint, const ls_train_config *config, ls_start start, ls_comm *comm)
{
    *checkpoint = NULL;
    LS_TRY(ls_comm_agree(comm, ls_comm_rank(comm) == 0 ? find_start(checkpoint, config, start) : LS_OK));
    return ls_ranks_share_text(comm, checkpoint);
}

static ls_status open_run_folder(run *self)
{
    const ls_trainer *trainer = &self->trainer;
    const char *run_dir = trainer->config->run_dir;
    LS_TRY(ls_file_make_folders(run_dir));
    LS_TRY(ls_file_lock(&self->lock, run_dir));
    ls_checkpoint_clean(run_dir);
    LS_TRY(ls_checkpoint_set_aside(run_dir, trainer->step));
    char *path = ls_file_join(run_dir, "config.yaml");
    const ls_status status = ls_file_write_atomic(path, trainer->config_text, strlen(trainer->config_text));
    free(path);
    LS_TRY(status);
    LS_TRY(ls_metrics_open(&self->metrics, run_dir, trainer->step));
    return ls_tensorboard_open(&self->tensorboard, run_dir, trainer->step);
}

static const char *const sharding_texts[] = {"on each", "shared out (ZeRO-1)", "and gradients shared out (ZeRO-2)"};

static void announce(const run *self)
{
    const ls_trainer *trainer = &self->trainer;
    const ls_train_config *config = trainer->config;
    ls_log_info("%s, %s", ls_exec_describe(&trainer->exec), ls_dtype_name(trainer->model.dtype));
    if (ls_comm_size(self->comm) > 1)
        ls_log_info("%d processes, %d buckets of gradients, optimizer %s", ls_comm_size(self->comm),
                    trainer->optimizer.shards.count, sharding_texts[trainer->optimizer.shards.sharding]);
    ls_log_info(
        "%.2f M parameters, %lld layers; %lld steps of %lld tokens; memory %.1f MiB, activations %.1f MiB of it",
        (double)trainer->model.table.parameters * 1e-6, (long long)config->model.num_hidden_layers,
        (long long)config->training.steps,
        (long long)(config->training.global_batch_size * config->data.sequence_length),
        (double)trainer->exec.bytes / 1048576.0, (double)ls_training_bytes(trainer->training) / 1048576.0);
    if (trainer->optimizer.lanes.offload)
        ls_log_info("moments are in the host's memory, which has %.1f MiB pinned",
                    (double)trainer->exec.pinned_bytes / 1048576.0);
    if (trainer->background != NULL)
        ls_log_info("checkpoints are written in the background, from a copy of %.1f MiB in the host's memory",
                    (double)ls_background_save_bytes(trainer->background) / 1048576.0);
    if (trainer->step > 0) ls_log_info("continuing after step %lld", (long long)trainer->step);
}

/* The yardstick of the progress line; the reference device's speed means nothing. */
static ls_status measure_peak(run *self)
{
    ls_matmul_probe *probe = NULL;
    if (self->trainer.exec.device == LS_DEVICE_REFERENCE || !self->trainer.config->measure_peak) return LS_OK;
    const ls_status status = ls_matmul_probe_create(&probe, &self->trainer.exec, self->trainer.model.dtype);
    if (status == LS_NO_MEMORY && self->trainer.exec.status == LS_OK) { /* the run itself fits */
        ls_error_clear();
        return LS_OK;
    }
    LS_TRY(status);
    self->peak = ls_matmul_probe_best(probe);
    ls_matmul_probe_destroy(probe);
    ls_memory_reset_peak(); /* the probe is no part of what training needs */
    return LS_OK;
}

/* What the loop needs besides the trainer; the run folder is rank 0's. */
static ls_status prepare(run *self)
{
    const ls_train_config *config = self->trainer.config;
    self->evaluation = calloc((size_t)self->trainer.recipe.layers, sizeof *self->evaluation);
    self->news = calloc((size_t)ls_comm_size(self->comm), NEWS * sizeof *self->news);
    if (self->evaluation == NULL || self->news == NULL)
        return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the evaluation");
    self->flops_per_token = ls_model_training_flops_per_token(&config->model, config->data.sequence_length);
    LS_TRY(measure_peak(self));
    ls_comm_stand(self->comm, self->trainer.step, LS_COMM_STARTING);
    return self->leads ? open_run_folder(self) : LS_OK;
}

static ls_status run_all(run *self, ls_train_config *config, const char *checkpoint)
{
    ls_trainer *trainer = &self->trainer;
    ls_comm_set_timeout(self->comm, config->parallel.timeout);
    LS_TRY(ls_trainer_create_shared(trainer, config, self->comm));
    ls_comm_stand(self->comm, 0, LS_COMM_STARTING);
    LS_TRY(ls_ranks_check(trainer));
    LS_TRY(checkpoint == NULL ? ls_trainer_initialize(trainer) : ls_trainer_resume(trainer, checkpoint));
    self->saved_step = checkpoint == NULL ? -1 : trainer->step;
    if (checkpoint != NULL) ls_comm_set_resumes(self->comm);
    if (trainer->step >= trainer->schedule.steps) {
        ls_log_info("%s has all of its %lld steps; nothing is left to do", config->run_dir, (long long)trainer->step);
        return LS_OK;
    }
    LS_TRY(ls_comm_agree(self->comm, prepare(self)));
    LS_TRY(ls_ranks_see_folder(self->comm, config->run_dir));
    announce(self);
    return loop(self);
}

ls_status ls_train_run(ls_train_config *config, ls_start start) { return ls_train_run_shared(config, start, NULL); }

ls_status ls_train_run_shared(ls_train_config *config, ls_start start, ls_comm *comm)
{
    run self;
    char *checkpoint;
    memset(&self, 0, sizeof self);
    self.comm = comm;
    self.leads = ls_comm_rank(comm) == 0;
    self.lock = -1;
    ls_interrupt_install();
    /* Ctrl-C also ends the `tee` that reads the progress line, and that must not keep the run from saving. */
    (void)signal(SIGPIPE, SIG_IGN);
    ls_status status = find_start_together(&checkpoint, config, start, comm);
    if (status == LS_OK) {
        status = run_all(&self, config, checkpoint);
        if (self.leads) {
            const ls_status metrics = ls_metrics_close(&self.metrics);
            const ls_status events = ls_tensorboard_close(&self.tensorboard);
            if (status == LS_OK) status = metrics != LS_OK ? metrics : events;
        }
        ls_trainer_destroy(&self.trainer);
    }
    ls_file_unlock(self.lock);
    free(self.evaluation);
    free(self.news);
    free(checkpoint);
    return status;
}

/* Under mpirun: a number that is not finite on one process alone stops or skips the step on all, and so does a pass
 * that one cannot make.
 *
 * usage: rank_poison CONFIG.yaml KEY=VALUE...; every process ends with status 0, or 1 with a message. Started by
 * test_not_finite.py. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        (void)fprintf(stderr, "rank %d, line %d: %s: %s\n", rank, __LINE__, #condition, ls_error_text());              \
        exit(1);                                                                                                       \
    } while (0)

static int rank;

static float *weight(ls_trainer *trainer)
{
    return (float *)trainer->model.weights + trainer->model.table.layers[0].attention_out;
}

static float get(ls_trainer *trainer, const float *place)
{
    float value = NAN;
    CHECK(ls_exec_download(&trainer->exec, &value, place, sizeof value) == LS_OK);
    return value;
}

static void set(ls_trainer *trainer, float *place, float value)
{
    CHECK(ls_exec_upload(&trainer->exec, place, &value, sizeof value) == LS_OK);
}

/* Weights of one rank's copy, or one rank's gradients, go bad before the step. */
static void poison(ls_trainer *trainer, int victim, bool gradient)
{
    const float bad = gradient ? INFINITY : NAN;
    if (rank != victim) return;
    if (gradient)
        set(trainer, trainer->optimizer.gradients + trainer->model.table.layers[1].down, bad);
    else
        set(trainer, weight(trainer), bad);
}

static void heal(ls_trainer *trainer, int victim, float value)
{
    if (rank == victim) set(trainer, weight(trainer), value);
}

static void one_case(ls_trainer *trainer, ls_comm *comm, int victim, bool gradient)
{
    ls_step_report report;
    const float before = get(trainer, weight(trainer));
    const float *moment = ls_optimizer_kept(&trainer->optimizer, LS_KEPT_MOMENT1, 0);
    const float kept = get(trainer, moment);
    const int64_t step = trainer->step, updates = trainer->optimizer.updates;
    poison(trainer, victim, gradient);
    const ls_status status = ls_trainer_step(trainer, &report);
    if (trainer->config->training.not_finite == LS_NOT_FINITE_SKIP) {
        CHECK(status == LS_OK && report.skipped && isnan(report.loss));
        CHECK(trainer->step == step + 1);
    } else {
        CHECK(status == LS_NOT_FINITE && trainer->step == step);
        CHECK(rank != 0 || strstr(ls_error_text(), gradient ? "from layer 1 down" : "not finite from layer 0 on"));
        ls_error_clear();
    }
    CHECK(trainer->optimizer.updates == updates);
    CHECK(get(trainer, moment) == kept);
    if (!gradient) heal(trainer, victim, before);
    /* All goes on as if nothing had been. */
    CHECK(ls_trainer_step(trainer, &report) == LS_OK && isfinite(report.loss) && !report.skipped);
    CHECK(ls_comm_agree(comm, LS_OK) == LS_OK);
}

/* Tokens that one rank's model does not know: it alone makes no pass, and all fail. What they have added is gone. */
static void one_refusal(ls_trainer *trainer, ls_comm *comm, int victim)
{
    ls_step_report report;
    const int64_t step = trainer->step, vocabulary = trainer->model.config.vocab_size;
    if (rank == victim) trainer->model.config.vocab_size = 1;
    CHECK(ls_trainer_step(trainer, &report) == LS_BAD_INPUT && trainer->step == step);
    ls_error_clear();
    trainer->model.config.vocab_size = vocabulary;
    CHECK(ls_trainer_step(trainer, &report) == LS_OK && isfinite(report.loss) && report.gradient_norm < 100.0);
    CHECK(ls_comm_agree(comm, LS_OK) == LS_OK);
}

int main(int argc, char **argv)
{
    ls_comm *comm;
    ls_train_config config;
    ls_trainer trainer;
    ls_step_report report;
    CHECK(argc > 1 && ls_comm_open(&comm) == LS_OK);
    rank = ls_comm_rank(comm);
    CHECK(ls_train_config_read(&config, argv[1], (const char *const *)argv + 2, argc - 2) == LS_OK);
    CHECK(ls_trainer_create_shared(&trainer, &config, comm) == LS_OK);
    CHECK(ls_trainer_initialize(&trainer) == LS_OK);
    CHECK(ls_trainer_step(&trainer, &report) == LS_OK);
    for (int victim = 0; victim < ls_comm_size(comm); victim++) {
        one_case(&trainer, comm, victim, false);
        if (trainer.optimizer.shards.sharding != LS_SHARDING_GRADIENTS) one_case(&trainer, comm, victim, true);
    }
    for (int turn = 0; turn < 3; turn++)
        one_refusal(&trainer, comm, ls_comm_size(comm) - 1); /* of the rotating exits */
    ls_trainer_destroy(&trainer);
    ls_train_config_free(&config);
    ls_comm_close(comm);
    return 0;
}

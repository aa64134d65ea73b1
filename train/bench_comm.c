/* What several processes cost: a training step of each sharding, its bytes against the ring's bound, and how much of
 * the reduction backward hides. Started under mpirun; alone it gives the speed to compare with. Called by
 * bench_command.c. */
#include "core/clock.h"
#include "core/random.h"
#include "model/training.h"
#include "optim/optimizer.h"
#include "train/bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 5, MICRO_BATCH = 2, GLOBAL_BATCH = 24, LENGTH = 128 };

typedef struct comm_run {
    ls_comm *comm;
    ls_model model;
    ls_optimizer optimizer;
    ls_training *training;
    ls_step_plan plan;
    ls_batch batch;
    int32_t *tokens; /* [2,B,T]: inputs, then targets */
    double *exit_loss;
    bool overlap;
} comm_run;

static void destroy(comm_run *run)
{
    free(run->exit_loss);
    free(run->tokens);
    ls_step_plan_destroy(&run->plan);
    ls_training_destroy(run->training);
    ls_optimizer_destroy(&run->optimizer);
    ls_model_destroy(&run->model);
}

static ls_status create(comm_run *run, const ls_bench *bench, ls_comm *comm, ls_sharding sharding)
{
    const ls_model_config config = ls_bench_shape_small();
    const ls_optimizer_options options = {
        .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .clip_norm = 1.0};
    const int64_t cells = (int64_t)MICRO_BATCH * LENGTH;
    *run = (comm_run){.comm = comm};
    LS_TRY(ls_model_create_for(&run->model, bench->exec, &config, bench->dtype, ls_comm_size(comm)));
    LS_TRY(ls_optimizer_create_shared(&run->optimizer, &run->model, &options, comm, sharding, 1 << 19));
    LS_TRY(ls_optimizer_initialize(&run->optimizer, 1));
    LS_TRY(ls_training_create(&run->training, &run->model, MICRO_BATCH, LENGTH, false));
    run->tokens = malloc(sizeof *run->tokens * (size_t)(2 * cells));
    run->exit_loss = calloc((size_t)config.num_hidden_layers, sizeof *run->exit_loss);
    if (run->tokens == NULL || run->exit_loss == NULL) return LS_FAIL(LS_NO_MEMORY, "out of memory");
    for (int64_t i = 0; i < 2 * cells; i++)
        run->tokens[i] = (int32_t)ls_random_below(1, LS_STREAM_TEST, (uint32_t)i, 0, 0, (uint64_t)config.vocab_size);
    run->batch = (ls_batch){.B = MICRO_BATCH, .T = LENGTH, .tokens = run->tokens, .targets = run->tokens + cells};
    LS_TRY(ls_step_plan_create(&run->plan, (int)config.num_hidden_layers, MICRO_BATCH));
    ls_step_plan_set_plain(&run->plan);
    return LS_OK;
}

static void part_complete(void *context, int part)
{
    comm_run *run = context;
    /* A failure shows again when the step waits for the bucket. */
    if (run->overlap) (void)ls_shards_ready(&run->optimizer.shards, run->optimizer.gradients, part);
}

typedef struct step_cost {
    double seconds, waited; /* waited: for other processes' numbers, with nothing to do meanwhile */
    double sent;            /* bytes */
} step_cost;

/* One step of the global batch; all ranks begin it together. */
static ls_status step(comm_run *run, step_cost *cost)
{
    const int micro_batches = GLOBAL_BATCH / MICRO_BATCH / ls_comm_size(run->comm);
    double norm;
    LS_TRY(ls_comm_agree(run->comm, LS_OK));
    (void)ls_comm_take_traffic(run->comm);
    const double begin = ls_seconds_now();
    for (int i = 0; i < micro_batches; i++) {
        ls_training_watch(run->training, (ls_backward_watch){.complete = i + 1 == micro_batches ? part_complete : NULL,
                                                             .context = run});
        LS_TRY(ls_training_run(run->training, run->exit_loss, run->optimizer.gradients, &run->batch, &run->plan,
                               (double)GLOBAL_BATCH * LENGTH));
    }
    LS_TRY(ls_optimizer_step(&run->optimizer, 1e-4, &norm));
    LS_TRY(ls_exec_status(run->model.exec));
    const ls_comm_traffic traffic = ls_comm_take_traffic(run->comm);
    *cost = (step_cost){ls_seconds_now() - begin, traffic.seconds_waiting, (double)traffic.bytes_sent};
    return LS_OK;
}

/* Medians over the rounds, on this rank; with and without overlap in turn. */
static ls_status measure(comm_run *run, step_cost *overlapped, step_cost *apart)
{
    double seconds[2][ROUNDS], waited[2][ROUNDS];
    step_cost cost;
    LS_TRY(step(run, &cost));
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < 2; i++) {
            run->overlap = i == 0;
            LS_TRY(step(run, &cost));
            seconds[i][round] = cost.seconds;
            waited[i][round] = cost.waited;
        }
    *overlapped = (step_cost){ls_median(seconds[0], ROUNDS), ls_median(waited[0], ROUNDS), cost.sent};
    *apart = (step_cost){ls_median(seconds[1], ROUNDS), ls_median(waited[1], ROUNDS), cost.sent};
    return LS_OK;
}

static void report(ls_bench *bench, const char *name, double ratio, double tokens_per_second, double milliseconds)
{
    ls_bench_report(bench, &(ls_bench_row){.name = name,
                                           .share_of_ceiling = -1,
                                           .target = -1,
                                           .ratio = ratio,
                                           .tokens_per_second = tokens_per_second,
                                           .gflops = -1,
                                           .gbps = -1,
                                           .milliseconds = milliseconds});
}

static void report_sharding(ls_bench *bench, const comm_run *run, const char *sharding, const step_cost *overlapped,
                            const step_cost *apart)
{
    const int size = ls_comm_size(run->comm);
    char name[96];
    (void)snprintf(name, sizeof name, "step of %d tokens, %d process%s, %s", GLOBAL_BATCH * LENGTH, size,
                   size == 1 ? "" : "es", sharding);
    report(bench, name, -1, GLOBAL_BATCH * LENGTH / overlapped->seconds, overlapped->seconds * 1e3);
    if (size == 1) return;
    /* Gradients in fp32 there, weights in their type back; without sharding fp32 gradients both ways. */
    const double elements = (double)run->model.table.elements, back = (double)ls_dtype_size(run->model.dtype);
    const double bytes = 4 + (run->optimizer.shards.sharding == LS_SHARDING_NONE ? 4 : back);
    (void)snprintf(name, sizeof name, "  bytes sent / the ring's bound, %s", sharding);
    report(bench, name, overlapped->sent / (bytes * elements * (size - 1) / size), -1, -1);
    if (!run->model.exec->memory->host) { /* there the host does not wait */
        (void)snprintf(name, sizeof name, "  step, reduced after backward, %s", sharding);
        report(bench, name, -1, -1, apart->seconds * 1e3);
        return;
    }
    (void)snprintf(name, sizeof name, "  waiting, reduced during backward, %s", sharding);
    report(bench, name, -1, -1, overlapped->waited * 1e3);
    (void)snprintf(name, sizeof name, "  waiting, reduced after backward, %s", sharding);
    report(bench, name, -1, -1, apart->waited * 1e3);
}

ls_status ls_bench_comm(ls_bench *bench)
{
    static const char *const names[] = {"none", "optimizer"};
    if (GLOBAL_BATCH / MICRO_BATCH % ls_comm_size(bench->comm) != 0)
        return LS_FAIL(LS_BAD_INPUT, "%d processes cannot share the %d micro-batches of this benchmark equally",
                       ls_comm_size(bench->comm), GLOBAL_BATCH / MICRO_BATCH);
    const int kinds = ls_comm_size(bench->comm) == 1 ? 1 : 2;
    for (int i = 0; i < kinds; i++) {
        comm_run run = {0};
        step_cost overlapped, apart;
        ls_status status = create(&run, bench, bench->comm, (ls_sharding)i);
        if (status == LS_OK) status = measure(&run, &overlapped, &apart);
        if (status == LS_OK) report_sharding(bench, &run, names[i], &overlapped, &apart);
        const bool lost = status == LS_LOST || ls_exec_failed(bench->exec) != LS_OK;
        if (lost) ls_comm_detach(bench->comm);
        destroy(&run);
        LS_TRY(status);
    }
    return LS_OK;
}

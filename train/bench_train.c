/* Training benchmarks: steps against the best matrix product, what dropped samples save, what exits cost in memory,
 * what the link to the host makes of an update. */
#include "core/clock.h"
#include "core/memory.h"
#include "core/random.h"
#include "model/training.h"
#include "optim/optimizer.h"
#include "train/bench.h"

#include <math.h>
#include <stdlib.h>

enum { BENCH_LANE = 4 << 20 }; /* the default of optimizer.lane_mib */

typedef struct bench_run {
    ls_model model;
    ls_optimizer optimizer;
    ls_training *training;
    ls_step_plan plan;
    ls_batch batch;
    int32_t *tokens; /* [2,B,T]: inputs, then targets */
    double *exit_loss;
    double *readings; /* [L + buckets] of the exec: sums of losses, squares of the gradient */
    double *host_readings;
    size_t readings_bytes;
} bench_run;

static void destroy(bench_run *run)
{
    if (run->readings != NULL) ls_exec_free(run->model.exec, run->readings, run->readings_bytes);
    free(run->host_readings);
    free(run->exit_loss);
    free(run->tokens);
    ls_step_plan_destroy(&run->plan);
    ls_training_destroy(run->training);
    ls_optimizer_destroy(&run->optimizer);
    ls_model_destroy(&run->model);
}

static ls_status create_batch(bench_run *run, const ls_model_config *config, int64_t B, int64_t T)
{
    run->tokens = malloc(sizeof *run->tokens * (size_t)(2 * B * T));
    run->exit_loss = calloc((size_t)config->num_hidden_layers, sizeof *run->exit_loss);
    if (run->tokens == NULL || run->exit_loss == NULL) return LS_FAIL(LS_NO_MEMORY, "out of memory");
    for (int64_t i = 0; i < 2 * B * T; i++)
        run->tokens[i] = (int32_t)ls_random_below(1, LS_STREAM_TEST, (uint32_t)i, 0, 0, (uint64_t)config->vocab_size);
    run->batch = (ls_batch){.B = B, .T = T, .tokens = run->tokens, .targets = run->tokens + B * T};
    LS_TRY(ls_step_plan_create(&run->plan, (int)config->num_hidden_layers, (int)B));
    ls_step_plan_set_plain(&run->plan);
    return LS_OK;
}

static ls_status create_optimizer(bench_run *run, ls_offload offload)
{
    const ls_optimizer_options options = {.beta1 = 0.9,
                                          .beta2 = 0.95,
                                          .epsilon = 1e-8,
                                          .weight_decay = 0.1,
                                          .clip_norm = 1.0,
                                          .offload = offload,
                                          .lane_elements = BENCH_LANE};
    LS_TRY(ls_optimizer_create(&run->optimizer, &run->model, &options));
    return ls_optimizer_initialize(&run->optimizer, 1);
}

static ls_status create(bench_run *run, const ls_bench *bench, const ls_model_config *config, int64_t B, int64_t T)
{
    *run = (bench_run){0};
    LS_TRY(ls_model_create(&run->model, bench->exec, config, bench->dtype));
    LS_TRY(create_optimizer(run, LS_OFFLOAD_NONE));
    LS_TRY(ls_training_create(&run->training, &run->model, B, T, false));
    void *readings;
    run->readings_bytes = sizeof(double) * (size_t)(config->num_hidden_layers + run->optimizer.shards.count);
    LS_TRY(ls_exec_allocate(bench->exec, &readings, run->readings_bytes, "what the host reads"));
    run->readings = readings;
    run->host_readings = malloc(run->readings_bytes);
    if (run->host_readings == NULL) return LS_FAIL(LS_NO_MEMORY, "out of memory");
    return create_batch(run, config, B, T);
}

static ls_status pass(bench_run *run)
{
    return ls_training_run(run->training, run->exit_loss, run->optimizer.gradients, &run->batch, &run->plan,
                           (double)(run->batch.B * run->batch.T));
}

/* Seconds of a forward and backward pass. */
static ls_status timed_pass(bench_run *run, double *seconds)
{
    const double begin = ls_seconds_now();
    LS_TRY(pass(run));
    LS_TRY(ls_exec_status(run->model.exec));
    *seconds = ls_seconds_now() - begin;
    return LS_OK;
}

/* A step as the trainer takes it: the host waits once, for losses and squares, issues the update and goes on. */
static ls_status take_step(bench_run *run)
{
    const int64_t L = run->model.config.num_hidden_layers;
    LS_TRY(ls_training_issue(run->training, run->readings, run->optimizer.gradients, &run->batch, &run->plan,
                             (double)(run->batch.B * run->batch.T)));
    LS_TRY(ls_optimizer_measure(&run->optimizer, run->readings + L));
    LS_TRY(ls_exec_download(run->model.exec, run->host_readings, run->readings, run->readings_bytes));
    LS_TRY(ls_exec_failed(run->model.exec));
    const double squares = ls_optimizer_own_squares(&run->optimizer, run->host_readings + L);
    const double norm = ls_optimizer_norm(&run->optimizer, &squares);
    if (!isfinite(norm)) return LS_FAIL(LS_NOT_FINITE, "the gradient norm is not finite");
    return ls_optimizer_update(&run->optimizer, 1e-4, norm);
}

/* Seconds of a step. A GPU takes several one after the other, so that its updates overlap with what the host does. */
static ls_status timed_step(bench_run *run, double *seconds)
{
    const int steps = run->model.exec->memory->host ? 1 : 10;
    const double begin = ls_seconds_now();
    for (int i = 0; i < steps; i++) LS_TRY(take_step(run));
    LS_TRY(ls_exec_status(run->model.exec));
    *seconds = (ls_seconds_now() - begin) / steps;
    return LS_OK;
}

enum { MOST_ROUNDS = 32 };

static ls_status step_case(ls_bench *bench, bench_run *run, const char *name, double target, int rounds)
{
    const double tokens = (double)(run->batch.B * run->batch.T);
    const double flop = tokens * ls_model_training_flops_per_token(&run->model.config, run->batch.T);
    double share[MOST_ROUNDS], seconds[MOST_ROUNDS];
    double warm;
    LS_TRY(timed_step(run, &warm));
    for (int round = 0; round < rounds; round++) {
        double ceiling = 0.0; /* before and after the step: the machine's speed swings */
        for (int i = 0; i < 5; i++) {
            const double speed = ls_matmul_probe_run(bench->matmul);
            ceiling = speed > ceiling ? speed : ceiling;
        }
        LS_TRY(timed_step(run, &seconds[round]));
        for (int i = 0; i < 5; i++) {
            const double speed = ls_matmul_probe_run(bench->matmul);
            ceiling = speed > ceiling ? speed : ceiling;
        }
        share[round] = flop / seconds[round] / ceiling;
    }
    const double typical = ls_median(seconds, rounds);
    ls_bench_report(bench, &(ls_bench_row){.name = name,
                                           .share_of_ceiling = ls_median(share, rounds),
                                           .target = target,
                                           .ratio = -1,
                                           .tokens_per_second = tokens / typical,
                                           .gflops = flop / typical * 1e-9,
                                           .gbps = -1,
                                           .milliseconds = typical * 1e3});
    return LS_OK;
}

static void keep_samples(ls_step_plan *plan, int count)
{
    for (int l = 0; l < plan->layers; l++) plan->survivor_count[l] = count;
}

/* Time of the blocks alone: what a pass costs beyond one in which every sample is dropped everywhere. */
static ls_status dropout_case(ls_bench *bench, bench_run *run)
{
    const int B = (int)run->batch.B, kept[3] = {B, B / 2, 0};
    enum { ROUNDS = 7 };
    double ratio[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
        double seconds[3];
        for (int i = 0; i < 3; i++) {
            keep_samples(&run->plan, kept[i]);
            LS_TRY(timed_pass(run, &seconds[i]));
        }
        if (round >= 0) ratio[round] = (seconds[1] - seconds[2]) / (seconds[0] - seconds[2]);
    }
    keep_samples(&run->plan, B);
    ls_bench_report(bench, &(ls_bench_row){.name = "blocks at dropout 0.5 / at 0, small shape",
                                           .share_of_ceiling = -1,
                                           .target = 0.6,
                                           .ratio = ls_median(ratio, ROUNDS),
                                           .tokens_per_second = -1,
                                           .gflops = -1,
                                           .gbps = -1,
                                           .milliseconds = -1});
    return LS_OK;
}

/* The process's high-water mark with every exit on, against what it was with none. Nothing is freed in between, so
 * what the exits need beyond the plain step shows. */
static ls_status memory_case(ls_bench *bench, bench_run *run)
{
    const double before = (double)ls_memory_peak_resident();
    const int L = run->plan.layers;
    for (int l = 0; l < L; l++) run->plan.exit_weight[l] = 1.0f / (float)L;
    double seconds;
    LS_TRY(timed_step(run, &seconds));
    const double after = (double)ls_memory_peak_resident();
    ls_step_plan_set_plain(&run->plan);
    ls_bench_report(bench, &(ls_bench_row){.name = "peak memory, all exits on / none, 135M",
                                           .share_of_ceiling = -1,
                                           .target = 1.03,
                                           .ratio = before > 0 ? after / before : -1,
                                           .tokens_per_second = -1,
                                           .gflops = -1,
                                           .gbps = -1,
                                           .milliseconds = -1});
    return LS_OK;
}

static ls_status timed_update(bench_run *run, double *seconds)
{
    enum { ROUNDS = 7 };
    double each[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
        const double begin = ls_seconds_now();
        LS_TRY(ls_optimizer_update(&run->optimizer, 1e-4, 0.0));
        LS_TRY(ls_exec_status(run->model.exec));
        if (round >= 0) each[round] = ls_seconds_now() - begin;
    }
    *seconds = ls_median(each, ROUNDS);
    return LS_OK;
}

/* GB/s are those of one direction of the link, on which all moments come while as many go. */
static ls_status offload_case(ls_bench *bench, bench_run *run)
{
    double near, far;
    if (!ls_exec_has_queues(bench->exec)) return LS_OK;
    LS_TRY(timed_update(run, &near));
    ls_optimizer_destroy(&run->optimizer);
    LS_TRY(create_optimizer(run, LS_OFFLOAD_MOMENTS));
    LS_TRY(timed_update(run, &far));
    const double bytes = (double)(LS_MOMENTS * sizeof(float)) * (double)run->model.table.elements;
    ls_bench_report(bench, &(ls_bench_row){.name = "update, moments in the host's memory / on the GPU, 135M",
                                           .share_of_ceiling = -1,
                                           .target = -1,
                                           .ratio = far / near,
                                           .tokens_per_second = -1,
                                           .gflops = -1,
                                           .gbps = bytes / far * 1e-9,
                                           .milliseconds = far * 1e3});
    return LS_OK;
}

static ls_status large(ls_bench *bench, bench_run *run)
{
    const ls_model_config config = ls_bench_shape_135m();
    LS_TRY(create(run, bench, &config, 8, 512));
    LS_TRY(step_case(bench, run, "training step, 135M, T=512, B=8", 0.70, 5));
    LS_TRY(memory_case(bench, run));
    return offload_case(bench, run);
}

static ls_status small(ls_bench *bench, bench_run *run)
{
    const ls_model_config config = ls_bench_shape_small();
    LS_TRY(create(run, bench, &config, 16, 256));
    LS_TRY(step_case(bench, run, "training step, 8 layers, hidden 256, T=256, B=16", 0.52, 15));
    return dropout_case(bench, run);
}

ls_status ls_bench_train(ls_bench *bench)
{
    bench_run run = {0};
    ls_status status = large(bench, &run);
    destroy(&run);
    if (status != LS_OK) return status;
    status = small(bench, &run);
    destroy(&run);
    return status;
}
